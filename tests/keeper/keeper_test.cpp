// A process with a keeper is killed again and again, wherever it may be just then, and must not notice. Each
// test's process is a child of its own, which says at the end whether all was as it should have been.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "io/loop.h"
#include "keeper/keeper.h"
#include "keeper_fixture.h"

namespace farswap {
namespace {

TEST_F(KeeperTest, RegistersLocksAndThreadsSurvive) {
    constexpr int kKills = 150;
    start([](Board& board) -> std::string {
        std::mutex mutex;
        std::uint64_t left = 0, right = 0;
        std::atomic<bool> differs{false};
        std::atomic<int> begun{0};
        std::thread computes([&] {
            begun++;
            for (double x = 1; !board.stop;) {
                double one = x, other = x;
                for (int i = 0; i < 500; i++) one = one * 1.0000001 + 0.25;
                for (int i = 0; i < 500; i++) other = other * 1.0000001 + 0.25;
                if (one != other) differs = true;
                x = one > 1e100 ? 1 : one;
                const std::lock_guard lock(mutex);
                left++;
                right++;
            }
        });
        std::thread sleeps([&] {
            begun++;
            while (!board.stop) {
                std::this_thread::sleep_for(std::chrono::microseconds(100));
                const std::lock_guard lock(mutex);
                if (left != right) differs = true;
            }
        });
        while (begun < 2) usleep(100);
        pid_t known = 0;
        while (!board.stop) {
            show(board, known);
            board.steps++;
        }
        computes.join();
        sleeps.join();
        if (differs) return "a computation differs, or a lock was held by two";
        return keeper::births() == kKills ? "" : "births " + std::to_string(keeper::births());
    });
    kill_again_and_again(kKills);
    EXPECT_EQ(result(), "well");
}

/// Requests that the kernel was working on come back, and what was written is there.
void read_and_write(io::EngineKind engine, Board& board, std::string& failure) {
    auto made = io::Loop::create({.engine = engine, .outlives_its_thread = true});
    if (!made) return void(failure = made.error().message);
    if (auto started = keeper::start(); !started) return void(failure = started.error().message);
    io::Loop& loop = **made;
    const Fd file_fd(open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    io::File file{.fd = file_fd.get()};
    static std::array<std::byte, 1 << 16> out, in;
    struct Outcome {
        int result = 0;
        bool is_there = false;
    } outcome;
    Request request;
    request.owner = &outcome;
    request.complete = [](Request& one, int result) { *static_cast<Outcome*>(one.owner) = {result, true}; };
    const auto transfer = [&](std::uint32_t op, std::byte* data) {
        outcome = {};
        request.op = op;
        request.data = data;
        request.length = out.size();
        request.offset = 0;
        loop.submit(request, file);
        while (!outcome.is_there) loop.run_once(std::chrono::milliseconds(100));
        if (outcome.result != static_cast<int>(out.size()))
            failure = "a transfer ended with " + std::to_string(outcome.result);
    };
    pid_t known = 0;
    for (unsigned step = 0; !board.stop && failure.empty(); step++) {
        show(board, known);
        out.fill(static_cast<std::byte>(step));
        transfer(WRITE, out.data());
        transfer(READ, in.data());
        if (in != out) failure = "what was read is not what was written";
        board.steps++;
    }
}

// The C library takes a thread whose number is not there for one that has ended, and its stack for free.
TEST_F(KeeperTest, ThreadsAreThereBeforeTheMainThreadGoesOn) {
    start([](Board& board) -> std::string {
        std::array<std::atomic<bool>, 12> at_work{};
        std::vector<std::thread> threads;
        threads.reserve(at_work.size());
        for (auto& one : at_work)
            threads.emplace_back([&] {
                one = true;
                while (!board.stop) board.steps++;
                usleep(20'000);
                one = false;
            });
        while (!std::ranges::all_of(at_work, [](const auto& one) { return one.load(); })) usleep(1000);
        const pid_t before = getpid();
        board.process = before;
        while (getpid() == before) {
        }
        board.stop = true;
        for (std::size_t i = 0; i < threads.size(); i++) {
            threads[i].join();
            if (at_work[i]) return "a thread was joined before its end";
        }
        return "";
    });
    kill(await_process(), SIGKILL);
    EXPECT_EQ(result(), "well");
}

class KeeperLoopTest : public KeeperTest, public testing::WithParamInterface<io::EngineKind> {};

TEST_P(KeeperLoopTest, RequestsSurvive) {
    constexpr int kKills = 60;
    start(
        [](Board& board) {
            std::string failure;
            read_and_write(GetParam(), board, failure);
            return failure;
        },
        false);
    kill_again_and_again(kKills);
    EXPECT_EQ(result(), "well");
    EXPECT_GT(board_->steps, 0u);
}

INSTANTIATE_TEST_SUITE_P(Engines, KeeperLoopTest,
                         testing::Values(io::EngineKind::kIoUring, io::EngineKind::kEpoll),
                         [](const auto& tested) {
                             return tested.param == io::EngineKind::kIoUring ? "io_uring" : "epoll";
                         });

// Whoever kills may do so twice, and the second time while the first is being dealt with. What was not read
// by then is lost, and the process ends; it never goes on from anything older.
TEST_F(KeeperTest, KilledTwiceItGoesOnOrEnds) {
    for (int i = 0; i < 20; i++) {
        board_->process = 0;
        board_->stop = false;
        start([](Board& board) -> std::string {
            std::uint64_t left = 0, right = 0;
            std::atomic<bool> begun{false};
            std::thread other([&] {
                begun = true;
                while (!board.stop) board.steps++;
            });
            while (!begun) usleep(100);
            pid_t known = 0;
            while (!board.stop) {
                show(board, known);
                left++;
                right++;
            }
            other.join();
            return left == right ? "" : "it went back in time";
        });
        const pid_t process = await_process();
        kill(process, SIGKILL);
        for (int pause = 0; pause < i * 50; pause++) std::atomic_signal_fence(std::memory_order_seq_cst);
        kill(process, SIGKILL);
        for (;;) {
            pollfd over{result_.get(), POLLIN, 0};
            if (board_->process != process || poll(&over, 1, 1) == 1) break;
        }
        board_->stop = true;
        EXPECT_THAT(result(), testing::AnyOf("well", ""));
        TearDown();
        SetUp();
    }
}

// A loop that sleeps hears of what happens after the kill: a signal, the most roundabout of watches.
TEST_F(KeeperTest, WatchesSurvive) {
    start([](Board& board) -> std::string {
        auto loop = io::Loop::create({.outlives_its_thread = true});
        if (!loop) return loop.error().message;
        sigset_t wanted;
        sigemptyset(&wanted);
        sigaddset(&wanted, SIGUSR1);
        sigprocmask(SIG_BLOCK, &wanted, nullptr);
        const Fd signals(signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
        io::Watch watch{.fd = signals.get(),
                        .ready =
                            [](io::Watch& ready, std::uint32_t) {
                                signalfd_siginfo info;
                                if (read(ready.fd, &info, sizeof info) == sizeof info)
                                    static_cast<Board*>(ready.owner)->stop = true;
                            },
                        .owner = &board};
        (*loop)->add(watch);
        pid_t known = 0;
        while (!board.stop) {
            show(board, known);
            // The wait itself goes on as if nothing had happened.
            (*loop)->run_once(std::chrono::milliseconds(100));
        }
        (*loop)->remove(watch);
        return "";
    });
    const pid_t before = await_process();
    kill(before, SIGKILL);
    while (board_->process == before) usleep(1000);
    kill(board_->process, SIGUSR1);
    EXPECT_EQ(result(), "well");
}

/// What no memory has by chance. The next one of a row of them.
constexpr std::uint64_t next_rare(std::uint64_t last) {
    return (last ^ last >> 29) * 0x9e3779b97f4a7c15;
}
constexpr std::uint64_t kRare = 11;

/// In vector registers until another process is there. -> whether it is in those of the other process.
[[gnu::noinline]] bool is_kept_in_registers(Board& board, const pid_t before) {
    std::array<std::uint64_t, 4> pattern{}, after{};
    std::uint64_t rare = kRare;
    for (auto& word : pattern) word = rare = next_rare(rare);
    asm volatile(
        "movdqu (%0), %%xmm6\n\t"
        "movdqu 16(%0), %%xmm7\n\t"
        "pxor %%xmm0, %%xmm0\n\t"
        "movdqu %%xmm0, (%0)\n\t"
        "movdqu %%xmm0, 16(%0)\n"
        "1:\n\t"
        "movl %4, (%2)\n\t"    // may be killed from here on
        "movl $39, %%eax\n\t"  // getpid(2)
        "syscall\n\t"
        "cmpl %4, %%eax\n\t"
        "je 1b\n\t"
        "movdqu %%xmm6, (%1)\n\t"
        "movdqu %%xmm7, 16(%1)\n\t"
        "pxor %%xmm6, %%xmm6\n\t"
        "pxor %%xmm7, %%xmm7\n\t"
        :
        : "r"(&pattern), "r"(&after), "r"(&board.process), "i"(0), "r"(before)
        : "rax", "rcx", "r11", "xmm0", "xmm6", "xmm7", "memory");
    bool is_kept = true;
    rare = kRare;
    for (const auto word : after) is_kept &= word == (rare = next_rare(rare));
    explicit_bzero(&after, sizeof after);
    return is_kept;
}

/// How many of these words are in memory that this process may write. What is looked for is nowhere but in a
/// register meanwhile.
std::size_t count_in_memory() {
    static const volatile std::uint64_t first = ~next_rare(kRare),
                                        third = ~next_rare(next_rare(next_rare(kRare)));
    std::size_t found = 0;
    std::ifstream maps("/proc/self/maps");
    const Fd memory(open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
    std::array<std::uint64_t, 512> words{};
    for (std::string line; std::getline(maps, line);) {
        unsigned long start = 0, end = 0;
        if (sscanf(line.c_str(), "%lx-%lx rw", &start, &end) != 2 || line[line.find(' ') + 2] != 'w')
            continue;
        for (; start < end; start += sizeof words) {
            if (pread(memory.get(), words.data(), sizeof words, static_cast<off_t>(start)) != sizeof words)
                continue;
            for (const std::uint64_t word : words) found += word == ~first || word == ~third;
        }
    }
    return found;
}

// Round keys and what is being sealed are in vector registers when a pager is killed: what was kept of them
// is gone when its heir has them.
TEST_F(KeeperTest, VectorRegistersAreLeftNowhere) {
    start([](Board& board) -> std::string {
        if (!is_kept_in_registers(board, getpid())) return "other registers";
        const auto found = count_in_memory();
        return found == 0 ? "" : std::to_string(found) + " pieces of registers are in memory";
    });
    kill(await_process(), SIGKILL);
    EXPECT_EQ(result(), "well");
}

/// Bytes of mappings that are locked and in no core file: proc_pid_smaps(5), VmFlags.
std::uint64_t secret_bytes() {
    std::ifstream smaps("/proc/self/smaps");
    std::uint64_t bytes = 0;
    unsigned long start = 0, end = 0;
    for (std::string line; std::getline(smaps, line);) {
        if (line.starts_with("VmFlags:")) {
            if (line.contains(" lo") && line.contains(" dd") && line.contains(" dc")) bytes += end - start;
        } else {
            unsigned long from = 0, to = 0;
            if (sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) start = from, end = to;
        }
    }
    return bytes;
}

TEST_F(KeeperTest, RegistersAreKeptInSecretMemory) {
    start([](Board&) -> std::string {
        constexpr std::uint64_t kLeast = 32 * (512 + 64);  // threads, of what all machines have (XSAVE)
        const auto bytes = secret_bytes();
        return bytes >= kLeast ? "" : "secret memory of " + std::to_string(bytes) + " bytes";
    });
    EXPECT_EQ(result(), "well");
}

TEST_F(KeeperTest, LimitsAndPrioritySurvive) {
    start([](Board& board) -> std::string {
        rlimit files{};
        getrlimit(RLIMIT_NOFILE, &files);
        const rlimit fewer{files.rlim_cur - 1, files.rlim_max};
        setrlimit(RLIMIT_NOFILE, &fewer);
        setpriority(PRIO_PROCESS, 0, 3);
        const pid_t before = getpid();
        board.process = before;
        while (getpid() == before) usleep(1000);
        board.process = 0;
        getrlimit(RLIMIT_NOFILE, &files);
        if (files.rlim_cur != fewer.rlim_cur) return "another limit of descriptors";
        return getpriority(PRIO_PROCESS, 0) == 3 ? "" : "another priority";
    });
    kill(await_process(), SIGKILL);
    EXPECT_EQ(result(), "well");
}

// By the keeper, while nobody else runs.
std::atomic<std::uint32_t> looked{0}, looked_at_begun{0};

// Who wants to know what a kill has interrupted sees it before anything of it goes on.
TEST_F(KeeperTest, EachKillIsLookedAtBeforeAnotherProcessGoesOn) {
    constexpr std::uint32_t kKills = 40;
    start(
        [](Board& board) -> std::string {
            const auto started = keeper::start([](bool has_begun) noexcept {
                looked++;
                looked_at_begun += has_begun ? 1 : 0;
            });
            if (!started) return started.error().message;
            pid_t known = 0;
            while (!board.stop) {
                const auto births = keeper::births();
                const std::uint32_t seen = looked;
                if (keeper::births() == births && seen != births)
                    return std::to_string(births) + " births, and " + std::to_string(seen) + " looks";
                show(board, known);
            }
            return looked == kKills && looked_at_begun > 0 && looked_at_begun <= looked
                       ? ""
                       : std::to_string(looked) + ", of which begun " + std::to_string(looked_at_begun);
        },
        false);
    kill_again_and_again(kKills);
    EXPECT_EQ(result(), "well");
}

TEST_F(KeeperTest, CannotGoOnInTheMiddleOfSomethingIndivisible) {
    start([](Board& board) -> std::string {
        const pid_t traced = fork();
        if (traced == 0) {
            for (;;) pause();
        }
        const keeper::Indivisible indivisible(traced);
        board.process = getpid();
        for (;;) pause();
    });
    kill(await_process(), SIGKILL);
    EXPECT_EQ(result(), "");  // and TearDown() finds that none of the three is left
}

TEST_F(KeeperTest, ACrashIsTheEnd) {
    start([](Board&) -> std::string {
        std::signal(SIGABRT, SIG_DFL);
        abort();
    });
    EXPECT_EQ(result(), "");
}

TEST_F(KeeperTest, AKeeperThatIsKilledIsMissed) {
    start([](Board&) -> std::string {
        if (!keeper::is_well()) return "not well from the start";
        kill(keeper::witness(), SIGKILL);
        for (int i = 0; keeper::is_well(); i++) {
            if (i == 10'000) return "not missed";
            usleep(1000);
        }
        return keeper::witness() == getpid() ? "" : "a dead keeper is named as the witness";
    });
    EXPECT_EQ(result(), "well");
}

TEST_F(KeeperTest, WhoIsTracedAlreadyHasNone) {
    const pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
        const auto started = keeper::start();
        _exit(!started && started.error().code == EPERM && keeper::witness() == getpid() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace farswap
