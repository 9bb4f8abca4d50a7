// Processes with a keeper that are stopped and go on, as any process; see keeper_fixture.h.
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "keeper/keeper.h"
#include "keeper_fixture.h"

namespace farswap {
namespace {

TEST_F(KeeperTest, StopsAndGoesOnAsAnyProcess) {
    start([](Board& board) -> std::string {
        pid_t known = 0;
        while (!board.stop) {
            show(board, known);
            board.steps++;
        }
        return "";
    });
    const pid_t process = await_process();
    ASSERT_EQ(kill(process, SIGSTOP), 0);
    siginfo_t info{};
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(process), &info, WSTOPPED), 0);  // its parent hears of it
    const auto steps = board_->steps.load();
    usleep(10'000);
    EXPECT_EQ(board_->steps, steps);
    ASSERT_EQ(kill(process, SIGCONT), 0);
    while (board_->steps == steps) usleep(1000);
    // A stopped one is fenced by the kill, and its heir runs.
    ASSERT_EQ(kill(process, SIGSTOP), 0);
    ASSERT_EQ(kill(process, SIGKILL), 0);
    while (board_->process == process) usleep(1000);
    board_->stop = true;
    EXPECT_EQ(result(), "well");
}

/// Whether all of its threads stand in a stop, which the keeper is not to end.
bool has_stopped(pid_t process) {
    std::size_t threads = 0, stopped = 0;
    for (const auto& task :
         std::filesystem::directory_iterator("/proc/" + std::to_string(process) + "/task")) {
        std::ifstream stat(task.path() / "stat");
        const std::string text{std::istreambuf_iterator<char>(stat), {}};
        const auto name_end = text.rfind(')');
        threads++;
        stopped += name_end != text.npos && text[name_end + 2] == 't' ? 1 : 0;
    }
    return threads > 0 && stopped == threads;
}

/// Becomes an ordinary user's process that must not be dumped: nobody may trace it without a capability.
std::string be_closed() {
    if (getuid() == 0 && (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0))
        return "it stays root";
    prctl(PR_SET_DUMPABLE, 0);
    auto started = keeper::start();
    return started ? "" : started.error().message;
}

// Such an heir has asked to be traced, and the kernel says less of its stops than of one's that was seized.
TEST_F(KeeperTest, HeirsStopAndGoOnAsAnyProcess) {
    start(
        [](Board& board) -> std::string {
            if (auto failure = be_closed(); !failure.empty()) return failure;
            std::array<std::thread, 3> threads;
            for (auto& thread : threads)
                thread = std::thread([&] {
                    while (!board.stop) board.steps++;
                });
            pid_t known = 0;
            while (!board.stop) show(board, known);
            for (auto& thread : threads) thread.join();
            return "";
        },
        false);
    for (int death = 0; death < 8; death++) {
        const pid_t before = await_process();
        ASSERT_EQ(kill(before, SIGKILL), 0);
        while (board_->process == before) usleep(100);
        const pid_t heir = await_process();
        for (int i = 0; i < 20; i++) {
            ASSERT_EQ(kill(heir, SIGSTOP), 0);
            if (i % 2 == 0) {  // else both come at once
                for (int looks = 0; !has_stopped(heir); looks++) {
                    ASSERT_LT(looks, kWaitMax_ms)
                        << "it has not stopped, after " << death << " deaths, " << i;
                    usleep(1000);
                }
                const auto steps = board_->steps.load();
                usleep(3000);
                ASSERT_EQ(board_->steps, steps);
            }
            ASSERT_EQ(kill(heir, SIGCONT), 0);
            const auto steps = board_->steps.load();
            for (int looks = 0; board_->steps < steps + 1000; looks++) {
                ASSERT_LT(looks, kWaitMax_ms) << "it does not go on, after " << death << " deaths, " << i;
                usleep(1000);
            }
        }
        ASSERT_EQ(kill(heir, SIGSTOP), 0);
    }
    kill(await_process(), SIGKILL);
    usleep(10'000);
    board_->stop = true;
    EXPECT_EQ(result(), "well");
}

// Of a process that must not be dumped nobody may trace another one without a capability, the keeper neither.
TEST_F(KeeperTest, WhoMustNotBeDumpedGoesOnToo) {
    constexpr int kKills = 50;
    start(
        [](Board& board) -> std::string {
            if (auto failure = be_closed(); !failure.empty()) return failure;
            std::thread other([&] {
                while (!board.stop) board.steps++;
            });
            pid_t known = 0;
            while (!board.stop) show(board, known);
            other.join();
            return prctl(PR_GET_DUMPABLE) == 0 ? "" : "it may be dumped";
        },
        false);
    kill_again_and_again(kKills);
    EXPECT_EQ(result(), "well");
}

}  // namespace
}  // namespace farswap
