// Processes with a keeper that are stopped and go on, as any process; see keeper_fixture.h.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

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

char state_of(const std::filesystem::path& process) {
    std::ifstream stat(process / "stat");
    const std::string text{std::istreambuf_iterator<char>(stat), {}};
    const auto name_end = text.rfind(')');
    return name_end == text.npos ? '?' : text[name_end + 2];
}

pid_t tracer_of(pid_t process) {
    std::ifstream status("/proc/" + std::to_string(process) + "/status");
    pid_t tracer = 0;
    for (std::string word; status >> word;)
        if (word == "TracerPid:") status >> tracer;
    return tracer;
}

/// Whether all of its threads stand in a stop, and the keeper has dealt with that: it waits.
bool has_stopped(pid_t process) {
    const std::filesystem::path proc("/proc"), itself = proc / std::to_string(process);
    const pid_t keeper = tracer_of(process);
    for (const auto& task : std::filesystem::directory_iterator(itself / "task"))
        if (state_of(task.path()) != 't') return false;
    return state_of(proc / std::to_string(keeper)) == 'S';
}

/// Several times in a row: a stop is seen before the keeper is woken for it.
bool await_stop(pid_t process) {
    int seen = 0;
    for (int looks = 0; looks < kWaitMax_ms && seen < 3; looks++) {
        seen = has_stopped(process) ? seen + 1 : 0;
        usleep(1000);
    }
    return seen == 3;
}

/// Becomes an ordinary user's process that must not be dumped: nobody may trace it without a capability.
std::string be_closed() {
    if (getuid() == 0 && (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0))
        return "it stays root";
    prctl(PR_SET_DUMPABLE, 0);
    auto started = keeper::start();
    return started ? "" : started.error().message;
}

// Such an heir is traced because one that was traced has made it.
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
        const pid_t heir = await_heir_of(before);
        ASSERT_NE(heir, 0) << "after " << death << " deaths";
        for (int i = 0; i < 20; i++) {
            ASSERT_EQ(kill(heir, SIGSTOP), 0);
            if (i % 2 == 0) {  // else both come at once
                ASSERT_TRUE(await_stop(heir)) << "it has not stopped, after " << death << " deaths, " << i;
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
        ASSERT_TRUE(await_stop(heir));
    }
    kill(await_process(), SIGKILL);
    usleep(10'000);
    board_->stop = true;
    EXPECT_EQ(result(), "well");
}

/// Counts steps, in a register and on the board, while another thread makes each computation twice; "" if
/// they agree, and so many pagers were killed.
std::string count_steps(Board& board, int kills) {
    std::atomic<bool> differs{false};
    std::thread other([&] {
        while (!board.stop) {
            double one = 1, same = 1;
            for (int i = 0; i < 500; i++) one = one * 1.0000001 + 0.25;
            for (int i = 0; i < 500; i++) same = same * 1.0000001 + 0.25;
            if (one != same) differs = true;
        }
    });
    pid_t known = 0;
    std::uint64_t turns = 0;
    for (; !board.stop; board.steps = ++turns) show(board, known);
    other.join();
    if (differs || board.steps != turns) return "a computation differs";
    const auto births = static_cast<int>(keeper::births());
    return births == kills ? "" : "births " + std::to_string(births);
}

TEST_F(KeeperTest, KilledAsItStopsOrGoesOnItLivesOn) {
    constexpr int kKills = 200;
    start([](Board& board) { return count_steps(board, kKills); });
    std::mt19937 random(11);
    const auto pass_time = [&] {  // up to some hundred microseconds
        auto turns = std::uniform_int_distribution<unsigned>(0, 300'000)(random);
        while (turns-- > 0) asm volatile("");
    };
    pid_t process = await_process();
    for (int i = 0; i < kKills; i++) {
        ASSERT_EQ(kill(process, SIGSTOP), 0);
        pass_time();
        if (i % 2 != 0) {
            ASSERT_EQ(kill(process, SIGCONT), 0);
            pass_time();
        }
        ASSERT_EQ(kill(process, SIGKILL), 0);
        const pid_t heir = await_heir_of(process);
        ASSERT_NE(heir, 0) << "after " << i << " deaths";
        process = heir;
    }
    board_->stop = true;
    EXPECT_EQ(result(), "well");
}

/// A keeper whose own system calls are stopped at (ptrace(2), PTRACE_SYSCALL).
class HeldKeeper {
  public:
    explicit HeldKeeper(pid_t keeper) : keeper_(keeper) {
        ptrace(PTRACE_SEIZE, keeper_, 0, PTRACE_O_TRACESYSGOOD);
        ptrace(PTRACE_INTERRUPT, keeper_, 0, 0);
        await_stop();
    }
    ~HeldKeeper() { ptrace(PTRACE_DETACH, keeper_, 0, 0); }
    HeldKeeper(const HeldKeeper&) = delete;
    HeldKeeper& operator=(const HeldKeeper&) = delete;

    /// Until it is about to let a thread that it traces go on; false: it has ended.
    bool await_leave_to_go_on() {
        for (;;) {
            ptrace(PTRACE_SYSCALL, keeper_, 0, 0);
            if (!await_stop()) return false;
            __ptrace_syscall_info info{};
            ptrace(PTRACE_GET_SYSCALL_INFO, keeper_, sizeof info, &info);
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == SYS_ptrace &&
                info.entry.args[0] == PTRACE_CONT)
                return true;
        }
    }

  private:
    bool await_stop() const {
        int status = 0;
        return waitpid(keeper_, &status, __WALL) == keeper_ && WIFSTOPPED(status);
    }

    pid_t keeper_;
};

/// Whether a thread stands where it can be read for the last time. proc_pid_stat(5): flags, of which
/// PF_SIGNALED (include/linux/sched.h) tells that a signal kills it.
bool stands_at_its_end(const std::filesystem::path& task) {
    constexpr unsigned long kSignaled = 0x400;
    std::ifstream stat(task / "stat");
    std::string text{std::istreambuf_iterator<char>(stat), {}};
    std::istringstream rest(text.substr(std::min(text.rfind(')') + 2, text.size())));
    std::string state, parent, group, session, terminal, foreground;
    unsigned long flags = 0;
    rest >> state >> parent >> group >> session >> terminal >> foreground >> flags;
    return state == "t" && (flags & kSignaled) != 0;
}

// A tracer's leave to go on is for whatever stop a thread is in by then, its last one included, which is
// passed unread. What the thread was in the stop before holds.
TEST_F(KeeperTest, KilledRightBeforeItHasLeaveToGoOnItLivesOn) {
    constexpr int kKills = 12;
    start([](Board& board) { return count_steps(board, kKills); });
    for (int i = 0; i < kKills; i++) {
        const pid_t process = await_process();
        ASSERT_NE(process, 0) << "after " << i << " deaths";
        const auto steps = board_->steps.load();
        for (int looks = 0; board_->steps < steps + 100; looks++) {
            ASSERT_LT(looks, kWaitMax_ms);
            usleep(1000);
        }
        HeldKeeper keeper(tracer_of(process));
        ASSERT_EQ(kill(process, SIGSTOP), 0);
        ASSERT_TRUE(keeper.await_leave_to_go_on());
        if (i % 3 != 0) {
            ASSERT_EQ(kill(process, SIGCONT), 0);
        }
        if (i % 3 == 2) {
            ASSERT_TRUE(keeper.await_leave_to_go_on());
        }
        board_->process.compare_exchange_strong(last_ = process, 0);
        ASSERT_EQ(kill(process, SIGKILL), 0);
        for (const auto& task :
             std::filesystem::directory_iterator("/proc/" + std::to_string(process) + "/task"))
            for (int looks = 0; !stands_at_its_end(task); looks++) {
                ASSERT_LT(looks, kWaitMax_ms);
                usleep(1000);
            }
    }
    await_process();
    board_->stop = true;
    EXPECT_EQ(result(), "well");
}

/// /proc shows a process to nobody who may not trace it: the keeper, too, sees nothing of the pager there.
std::string hide_processes() {
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("proc", "/proc", "proc", 0, "hidepid=invisible") != 0)
        return "processes cannot be hidden";
    return "";
}

TEST_F(KeeperTest, GoesOnWhereProcHidesProcesses) {
    if (getuid() != 0) GTEST_SKIP() << "mounts /proc";
    start(
        [](Board& board) -> std::string {
            if (auto failure = hide_processes(); !failure.empty()) return failure;
            if (auto failure = be_closed(); !failure.empty()) return failure;
            if (access(("/proc/" + std::to_string(keeper::witness())).c_str(), F_OK) == 0)
                return "the keeper is to be seen";
            std::thread other([&] {
                while (!board.stop) board.steps++;
            });
            pid_t known = 0;
            while (!board.stop) show(board, known);
            other.join();
            return "";
        },
        false);
    kill_again_and_again(30);
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

/// Those who wait to be heirs, one after the other.
std::vector<pid_t> spares() {
    std::vector<pid_t> found;
    const std::string keeper = std::to_string(keeper::witness());
    std::ifstream children("/proc/" + keeper + "/task/" + keeper + "/children");
    for (pid_t child = 0; children >> child;)
        if (child != getpid()) found.push_back(child);
    return found;
}

void end(pid_t spare) {
    kill(spare, SIGSTOP);  // which does not keep it
    kill(spare, SIGKILL);
    while (kill(spare, 0) == 0) usleep(100);
}

// Where the keeper may trace nobody it has no other heirs than those that it has.
TEST_F(KeeperTest, OneSpareIsEnough) {
    start(
        [](Board& board) -> std::string {
            if (auto failure = be_closed(); !failure.empty()) return failure;
            pid_t known = 0;
            while (!board.stop) {
                if (getpid() != known) {
                    const auto found = spares();
                    if (found.size() != 2) return std::to_string(found.size()) + " spares";
                    end(found[board.steps++ % 2]);
                }
                show(board, known);
            }
            return "";
        },
        false);
    kill_again_and_again(20);
    EXPECT_EQ(result(), "well");
}

TEST_F(KeeperTest, WithoutASpareAKillIsTheEnd) {
    start(
        [](Board& board) -> std::string {
            if (auto failure = be_closed(); !failure.empty()) return failure;
            for (const pid_t spare : spares()) end(spare);
            pid_t known = 0;
            while (!board.stop) show(board, known);
            return "";
        },
        false);
    kill(await_process(), SIGKILL);
    EXPECT_EQ(result(), "");  // and TearDown() finds that nobody is left
}

}  // namespace
}  // namespace farswap
