// Runs the command with the pretended pager and collects what its caller sees. For the tests of the command
// line.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "cli/memory_limit.h"

namespace farswap::cli {

struct Outcome {
    int wait_status = -1;
    std::string out;  ///< standard output
    std::string err;  ///< standard error; on a terminal both are here

    int status() const { return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1; }
};

/// Each test has a folder of its own; `store` in it is the store's directory.
class CommandTest : public ::testing::Test {
  protected:
    void SetUp() override {
        // /var/tmp: a store on tmpfs is refused, and /tmp may be one.
        char name[] = "/var/tmp/farswap-command-XXXXXX";
        ASSERT_NE(::mkdtemp(name), nullptr);
        folder_ = name;
        std::filesystem::create_directory(store());
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    std::string path(const std::string& name) const { return folder_ + "/" + name; }
    std::string store() const { return path("store"); }
    std::string url() const { return "file:" + store() + "?size=64M"; }
    bool store_is_empty() const { return std::filesystem::is_empty(store()); }
    std::string text_of(const std::string& name) const {
        return read_text_file(path(name)).value_or("absent");
    }

    /// farswap run with a small cap, the test's store and `words`.
    Outcome run(std::vector<std::string> words, const std::function<void()>& in_child = {}) {
        words.insert(words.begin(), {"run", "--ram", "64M", "--swap", url()});
        return farswap(words, in_child);
    }

    /// farswap with these words; `in_child` runs before exec.
    Outcome farswap(const std::vector<std::string>& words, const std::function<void()>& in_child = {}) {
        const std::string out = path("stdout"), err = path("stderr");
        const pid_t child = ::fork();
        if (child == 0) {
            redirect(out, STDOUT_FILENO);
            redirect(err, STDERR_FILENO);
            if (in_child) in_child();
            execute(words);
        }
        Outcome outcome;
        EXPECT_EQ(::waitpid(child, &outcome.wait_status, 0), child);
        outcome.out = read_text_file(out).value_or("");
        outcome.err = read_text_file(err).value_or("");
        return outcome;
    }

    /// The same on a terminal of its own with 200 columns.
    Outcome farswap_on_terminal(const std::vector<std::string>& words,
                                const std::function<void()>& in_child = {}) {
        winsize size{.ws_row = 24, .ws_col = 200, .ws_xpixel = 0, .ws_ypixel = 0};
        int terminal = -1;
        const pid_t child = ::forkpty(&terminal, nullptr, nullptr, &size);
        if (child == 0) {
            if (in_child) in_child();
            execute(words);
        }
        const Fd reader(terminal);
        Outcome outcome;
        char buffer[4096];
        ssize_t count;
        while ((count = ::read(terminal, buffer, sizeof buffer)) > 0)  // EIO when the last writer has gone
            outcome.err.append(buffer, static_cast<std::size_t>(count));
        EXPECT_EQ(::waitpid(child, &outcome.wait_status, 0), child);
        return outcome;
    }

  private:
    static void redirect(const std::string& file, int fd) {
        const int opened = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        ::dup2(opened, fd);
    }

    [[noreturn]] static void execute(const std::vector<std::string>& words) {
        std::vector<char*> argv{const_cast<char*>("farswap")};
        for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
        argv.push_back(nullptr);
        ::execv(FARSWAP_FAKE, argv.data());
        ::_exit(99);
    }

    std::string folder_;
};

}  // namespace farswap::cli
