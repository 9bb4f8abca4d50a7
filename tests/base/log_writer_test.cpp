// Lines that are written aside: in order, by nobody who has to wait, and never lost without a word.
#include "base/log_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include "base/fd.h"
#include "base/log.h"

namespace farswap {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using namespace std::chrono_literals;

constexpr auto kLong = 60s;
std::atomic<int> prepared{0};

/// A pipe that takes `filling` bytes before anything else, up to all that it can hold.
struct Pipe {
    Fd out, in;

    explicit Pipe(bool full) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) std::abort();
        out.reset(ends[0]);
        in.reset(ends[1]);
        const std::string filling(4096, '#');
        while (full && ::write(in.get(), filling.data(), filling.size()) > 0) {
        }
        for (const int end : ends) ::fcntl(end, F_SETFL, 0);
    }
    /// What comes, without the filling, until `last` has come.
    std::string read_until(const std::string& last) const {
        std::string text;
        while (!text.ends_with(last)) {
            char bytes[4096];
            const auto count = ::read(out.get(), bytes, sizeof bytes);
            if (count <= 0) break;
            for (const char byte : std::string_view(bytes, static_cast<std::size_t>(count)))
                if (byte != '#') text.push_back(byte);
        }
        return text;
    }
};

LogWriter* writer_to(const Pipe& pipe) {
    prepared = 0;
    return new LogWriter(pipe.in.get(), [] { ++prepared; });
}

TEST(LogWriter, LinesComeInTheirOrder) {
    const Pipe pipe(false);
    auto* writer = writer_to(pipe);
    writer->put("one\n");
    writer->put("two\n");
    writer->put("three\n");
    EXPECT_TRUE(writer->drain(kLong));
    EXPECT_EQ(prepared, 3);
    EXPECT_EQ(pipe.read_until("three\n"), "one\ntwo\nthree\n");
    LogWriter::end(writer, kLong);
}

TEST(LogWriter, NobodyWaitsForWhatTakesNothing) {
    const Pipe pipe(true);
    auto* writer = writer_to(pipe);
    writer->put("one\n");
    EXPECT_FALSE(writer->drain(0ms));
    writer->put("two\n");
    EXPECT_EQ(pipe.read_until("two\n"), "one\ntwo\n");
    EXPECT_TRUE(writer->drain(kLong));
    LogWriter::end(writer, kLong);
}

TEST(LogWriter, WhatFindsNoRoomIsCountedWhereItIsMissing) {
    const Pipe pipe(true);
    auto* writer = writer_to(pipe);
    const std::string line = std::string(1023, '.') + "\n";
    for (int i = 0; i < 100; ++i) writer->put(line);
    const auto before = pipe.read_until("nobody took\n");
    EXPECT_THAT(before, StartsWith(line));
    EXPECT_THAT(before, HasSubstr(" lines are missing here, which nobody took\n"));
    writer->put("last\n");
    EXPECT_EQ(pipe.read_until("last\n"), "last\n");
    LogWriter::end(writer, kLong);
}

TEST(LogWriter, EndWaitsForWhatIsWritten) {
    const Pipe pipe(false);
    auto* writer = writer_to(pipe);
    for (int i = 0; i < 10; ++i) writer->put("line\n");
    LogWriter::end(writer, kLong);
    std::string expected;
    for (int i = 0; i < 10; ++i) expected += "line\n";
    EXPECT_EQ(pipe.read_until(expected), expected);
}

// Whoever exits for good does so also where nobody reads.
TEST(LogWriter, EndDoesNotWaitForEver) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);
        const Pipe pipe(true);
        auto* writer = writer_to(pipe);
        writer->put("one\n");
        LogWriter::end(writer, 10ms);
        ::_exit(0);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

/// What `body` and a child of its fork(2) write to standard error.
template <typename Body>
std::string said_by(Body body) {
    const Pipe pipe(false);
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);
        ::dup2(pipe.in.get(), STDERR_FILENO);
        body();
        ::_exit(0);
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    return pipe.read_until("end\n");
}

TEST(LogAside, AChildWritesItsLinesItself) {
    const auto text = said_by([] {
        const log::Aside aside;
        log::write_last_line("mine");
        const pid_t child = ::fork();
        if (child == 0) {
            log::write_line("a child's");
            ::_exit(0);
        }
        int status = -1;
        ::waitpid(child, &status, 0);
        log::write_last_line("end");
    });
    EXPECT_EQ(text, "farswap: mine\nfarswap: a child's\nfarswap: end\n");
}

TEST(LogAside, LinesAreWrittenAtOnceAgainAfterTheLast) {
    const auto text = said_by([] {
        {
            const log::Aside one;
            const log::Aside two;
            log::write_line("aside");
        }
        log::write_line("end");
    });
    EXPECT_EQ(text, "farswap: aside\nfarswap: end\n");
}

}  // namespace
}  // namespace farswap
