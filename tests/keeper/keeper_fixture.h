// A process with a keeper, which is killed again and again. Each test's process is a child of its own, which
// says at the end whether all was as it should have been.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <functional>
#include <new>
#include <random>
#include <string>

#include "base/fd.h"
#include "keeper/keeper.h"

namespace farswap {

inline constexpr int kWaitMax_ms = 60'000;

/// What the test and its process both see.
struct Board {
    std::atomic<pid_t> process{0};  ///< to be killed; 0: not now
    std::atomic<std::uint64_t> steps{0};
    std::atomic<bool> stop{false};
};

class KeeperTest : public testing::Test {
  protected:
    void SetUp() override {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        void* memory =
            mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ASSERT_NE(memory, MAP_FAILED);
        board_ = new (memory) Board;
        int ends[2];
        ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
        result_.reset(ends[0]);
        said_.reset(ends[1]);
    }
    void TearDown() override {
        board_->stop = true;  // where the test has failed before
        while (waitpid(-1, nullptr, __WALL) > 0) {
        }
        munmap(board_, sizeof(Board));
    }

    /// Runs `life` in a process with a keeper; what it returns is the result, "" if all is well.
    void start(const std::function<std::string(Board&)>& life, bool with_keeper = true) {
        first_ = fork();
        ASSERT_GE(first_, 0);
        if (first_ == 0) {
            result_.reset();
            std::string said;
            if (auto started = with_keeper ? keeper::start() : Status(); !started)
                said = started.error().message;
            else
                said = life(*board_);
            keeper::stop();
            if (said.empty()) said = "well";
            [[maybe_unused]] auto written = write(said_.get(), said.data(), said.size());
            _exit(0);
        }
        said_.reset();
    }

    /// "" if the process has vanished without a word.
    std::string result() {
        pollfd readable{result_.get(), POLLIN, 0};
        if (poll(&readable, 1, kWaitMax_ms) != 1) return "no result";
        char text[512];
        const auto got = read(result_.get(), text, sizeof text);
        return {text, static_cast<std::size_t>(std::max<ssize_t>(got, 0))};
    }

    void kill_again_and_again(int times) {
        std::mt19937 random(7);
        for (int i = 0; i < times; i++) {
            const pid_t process = await_process();
            usleep(std::uniform_int_distribution<useconds_t>(0, 2500)(random));
            board_->process.compare_exchange_strong(last_ = process, 0);
            ASSERT_EQ(kill(process, SIGKILL), 0);
        }
        await_process();
        board_->stop = true;
    }

    pid_t await_process() {
        for (int i = 0; i < kWaitMax_ms * 10; i++) {
            if (const pid_t process = board_->process) return process;
            usleep(100);
        }
        ADD_FAILURE() << "no process goes on";
        return 0;
    }

    /// 0: nobody goes on.
    pid_t await_heir_of(pid_t before) {
        for (int i = 0; i < kWaitMax_ms * 10; i++) {
            const pid_t process = board_->process;
            if (process != 0 && process != before) return process;
            usleep(100);
        }
        return 0;
    }

    Board* board_ = nullptr;
    Fd result_, said_;
    pid_t first_ = 0, last_ = 0;
};

/// Shows the process that has come to life.
inline void show(Board& board, pid_t& known) {
    if (getpid() == known) return;
    known = getpid();
    board.process = known;
}

}  // namespace farswap
