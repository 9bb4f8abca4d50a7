// A program that is stopped, made to execute a system call and let go must not see any of it (kernel fact 3:
// interrupted system calls are restarted by hand, among them those that end with EINTR at any stop).
#include "target/remote.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <ostream>
#include <thread>

#include "base/fd.h"
#include "child.h"
#include "target/proc.h"

namespace farswap::target {
namespace {

constexpr int kSeizeLimitMs = 30'000;

/// What a blocked child and the test share.
struct Scene {
    int pipe[2] = {-1, -1};
    int sockets[2] = {-1, -1};
    int semaphore = -1;
    std::atomic<std::uint32_t> futex = 0;
    std::atomic<int> signals = 0;
    std::atomic<bool> returned = false;
    long result = 0;
    int error = 0;
};
Scene* scene;  // for signal handlers

void count_signal(int) {
    scene->signals++;
}
/// The waiter may be in the system call and not yet in the futex's queue.
void wake_waiter(pid_t) {
    EXPECT_TRUE(wait_until(
        [] { return syscall(SYS_futex, &scene->futex, FUTEX_WAKE, 1, nullptr, nullptr, 0) == 1; }));
}
sigset_t only(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    return set;
}

/// A system call that blocks, what ends the wait, and what it then returns.
struct Blocking {
    const char* name;
    long number;
    long (*wait)();
    void (*end)(pid_t child);
    long result;
    int error = 0;
};

void send_byte(pid_t) {
    EXPECT_EQ(write(scene->pipe[1], "x", 1), 1);
}
void send_message(pid_t) {
    EXPECT_EQ(write(scene->sockets[1], "x", 1), 1);
}
void send_signal(pid_t child) {
    kill(child, SIGUSR1);
}
void time_passes(pid_t) {}

const Blocking kBlocking[] = {
    {"nanosleep", SYS_clock_nanosleep,
     [] {
         timespec start, end;
         const timespec wanted{0, 400'000'000};
         clock_gettime(CLOCK_MONOTONIC, &start);
         const long failed = nanosleep(&wanted, nullptr);
         clock_gettime(CLOCK_MONOTONIC, &end);
         const long slept = (end.tv_sec - start.tv_sec) * 1'000'000'000 + end.tv_nsec - start.tv_nsec;
         return failed != 0 ? failed : slept >= wanted.tv_nsec ? 0L : slept;
     },
     time_passes, 0},
    {"epoll_wait", SYS_epoll_wait,
     [] {
         const Fd epoll(epoll_create1(EPOLL_CLOEXEC));
         epoll_event event{EPOLLIN, {}};
         epoll_ctl(epoll.get(), EPOLL_CTL_ADD, scene->pipe[0], &event);
         return long{epoll_wait(epoll.get(), &event, 1, -1)};
     },
     send_byte, 1},
    {"poll", SYS_poll,
     [] {
         pollfd waiting{scene->pipe[0], POLLIN, 0};
         return long{poll(&waiting, 1, 60'000)};
     },
     send_byte, 1},
    {"futex", SYS_futex, [] { return syscall(SYS_futex, &scene->futex, FUTEX_WAIT, 0, nullptr, nullptr, 0); },
     wake_waiter, 0},
    {"futex_with_timeout", SYS_futex,
     [] {
         const timespec limit{60, 0};
         return syscall(SYS_futex, &scene->futex, FUTEX_WAIT, 0, &limit, nullptr, 0);
     },
     wake_waiter, 0},
    {"read_of_a_pipe", SYS_read,
     [] {
         char byte;
         return read(scene->pipe[0], &byte, 1);
     },
     send_byte, 1},
    {"recv_with_timeout", SYS_recvfrom,
     [] {
         const timeval limit{60, 0};
         setsockopt(scene->sockets[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
         char byte;
         return recv(scene->sockets[0], &byte, 1, 0);
     },
     send_message, 1},
    {"sigtimedwait", SYS_rt_sigtimedwait,
     [] {
         const sigset_t wanted = only(SIGUSR1);
         const timespec limit{60, 0};
         sigprocmask(SIG_BLOCK, &wanted, nullptr);
         return long{sigtimedwait(&wanted, nullptr, &limit)};
     },
     send_signal, SIGUSR1},
    {"semtimedop", SYS_semtimedop,
     [] {
         sembuf down{0, -1, 0};
         const timespec limit{60, 0};
         return long{semtimedop(scene->semaphore, &down, 1, &limit)};
     },
     [](pid_t) {
         sembuf up{0, 1, 0};
         EXPECT_EQ(semop(scene->semaphore, &up, 1), 0);
     },
     0},
    // These two end by a signal only: EINTR is right then, and not before.
    {"pause", SYS_pause, [] { return long{pause()}; }, send_signal, -1, EINTR},
    {"sigsuspend", SYS_rt_sigsuspend,
     [] {
         sigset_t none;
         sigemptyset(&none);
         return long{sigsuspend(&none)};
     },
     send_signal, -1, EINTR},
};
void PrintTo(const Blocking& blocking, std::ostream* out) {
    *out << blocking.name;
}

class RemoteTaskIn : public ::testing::TestWithParam<Blocking> {
  protected:
    void SetUp() override {
        scene = scene_.get();
        ASSERT_EQ(pipe2(scene->pipe, O_CLOEXEC), 0);
        ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, scene->sockets), 0);
        scene->semaphore = semget(IPC_PRIVATE, 1, 0600);
        ASSERT_GE(scene->semaphore, 0);
    }
    void TearDown() override {
        for (int fd : {scene->pipe[0], scene->pipe[1], scene->sockets[0], scene->sockets[1]}) close(fd);
        semctl(scene->semaphore, 0, IPC_RMID);
    }
    Shared<Scene> scene_;
};

TEST_P(RemoteTaskIn, LeavesNoTrace) {
    const Blocking& blocking = GetParam();
    Child child([&] {
        signal(SIGUSR1, count_signal);
        errno = 0;
        scene->result = blocking.wait();
        scene->error = scene->result < 0 ? errno : 0;
        scene->returned = true;
        return 0;
    });
    const pid_t process = child.process();
    for (int round = 0; round < 3; round++) {
        ASSERT_TRUE(
            wait_until([&] { return is_in_system_call(process, blocking.number) || scene->returned; }));
        auto task = RemoteTask::seize(process, kSeizeLimitMs);
        ASSERT_TRUE(task) << task.error().message;
        auto answer = task->call(SYS_getpid);
        ASSERT_TRUE(answer) << answer.error().message;
        EXPECT_EQ(*answer, process);
        auto wrong = task->call(SYS_close, -1);
        ASSERT_TRUE(wrong);
        EXPECT_EQ(*wrong, -EBADF);
    }
    if (blocking.end != time_passes) {
        ASSERT_TRUE(
            wait_until([&] { return is_in_system_call(process, blocking.number) || scene->returned; }));
        ASSERT_FALSE(scene->returned)
            << "it ended by itself with " << scene->result << ", errno " << scene->error;
    }
    blocking.end(process);
    EXPECT_EQ(child.join(), 0);
    EXPECT_EQ(scene->result, blocking.result);
    EXPECT_EQ(scene->error, blocking.error);
    EXPECT_EQ(scene->signals, blocking.error == EINTR ? 1 : 0);
}

INSTANTIATE_TEST_SUITE_P(SystemCall, RemoteTaskIn, ::testing::ValuesIn(kBlocking),
                         [](const auto& test) { return std::string(test.param.name); });

struct Counter {
    std::atomic<bool> stop = false;
    std::uint64_t steps = 0, value = 1;
};
constexpr std::uint64_t next_value(std::uint64_t value) {
    return value * 6364136223846793005u + 1442695040888963407u;
}

TEST(RemoteTask, ABusyLoopKeepsItsRegisters) {
    const Shared<Counter> counter;
    Child child([&] {
        std::uint64_t steps = 0, value = 1;
        while (!counter->stop.load(std::memory_order_relaxed)) value = next_value(value), steps++;
        counter->steps = steps;
        counter->value = value;
        return 0;
    });
    for (int round = 0; round < 20; round++) {
        auto task = RemoteTask::seize(child.process(), kSeizeLimitMs);
        ASSERT_TRUE(task) << task.error().message;
        EXPECT_EQ(task->call(SYS_getpid).value_or(0), child.process());
    }
    counter->stop = true;
    ASSERT_EQ(child.join(), 0);
    std::uint64_t value = 1;
    for (std::uint64_t i = 0; i < counter->steps; i++) value = next_value(value);
    EXPECT_EQ(value, counter->value);
}

TEST(RemoteTask, SignalsThatComeMeanwhileAreDeliveredOnce) {
    const Shared<Scene> shared;
    scene = shared.get();
    const Child child([] {
        signal(SIGUSR1, count_signal);
        for (;;) pause();
        return 0;
    });
    ASSERT_TRUE(wait_until([&] { return is_in_system_call(child.process(), SYS_pause); }));
    {
        auto task = RemoteTask::seize(child.process(), kSeizeLimitMs);
        ASSERT_TRUE(task) << task.error().message;
        kill(child.process(), SIGUSR1);
        EXPECT_EQ(task->call(SYS_getpid).value_or(0), child.process());
        EXPECT_EQ(scene->signals, 0) << "all signals are blocked meanwhile";
    }
    EXPECT_TRUE(wait_until([] { return scene->signals > 0; }));
    EXPECT_TRUE(wait_until([&] { return is_in_system_call(child.process(), SYS_pause); }));
    EXPECT_EQ(scene->signals, 1);
}

TEST(RemoteTask, SaysWhyItCannotSeize) {
    Child child([] { return pause(); });
    {
        auto task = RemoteTask::seize(child.process(), kSeizeLimitMs);
        ASSERT_TRUE(task) << task.error().message;
        const pid_t process = child.process();
        Child other([process] {
            auto second = RemoteTask::seize(process, 1000);
            return second ? 0 : second.error().code;
        });
        EXPECT_EQ(other.join(), EPERM) << "somebody traces it already";
    }
    const pid_t ended = child.process();
    kill(ended, SIGKILL);
    child.join();
    EXPECT_EQ(RemoteTask::seize(ended, kSeizeLimitMs).error().code, ESRCH);
}

// As one is for a moment whose other thread executes a program. Seen on a busy machine: what was executed was
// taken for one that may not be traced, and ran without being managed.
TEST(RemoteTask, AMainThreadThatHasEndedIsNotOneThatMayNotBeTraced) {
    Child child([] {
        std::thread([] {
            for (;;) pause();
        }).detach();
        pthread_exit(nullptr);
        return 0;
    });
    EXPECT_TRUE(wait_until([&] { return read_state(child.process()) == 'Z'; }));
    EXPECT_EQ(RemoteTask::seize(child.process(), kSeizeLimitMs).error().code, ESTALE);
    kill(child.process(), SIGKILL);
}

// Seen: a program ended while it was stopped for its agent, and its exit status was gone.
TEST(RemoteTask, LeavesTheExitStatusOfAChildThatEndsToItsParent) {
    Child child([] { return pause(); });
    auto task = RemoteTask::seize(child.process(), kSeizeLimitMs);
    ASSERT_TRUE(task) << task.error().message;
    EXPECT_FALSE(task->call(SYS_exit_group, 42)) << "it is gone";
    EXPECT_EQ(child.join(), 42);
}

TEST(RemoteTask, TakesTheEndOfAnybodyElsesChildSoThatItsParentIsTold) {
    Shared<std::atomic<pid_t>> grandchild;
    Child parent([&] {
        const pid_t born = fork();
        if (born == 0) {
            for (;;) pause();
        }
        *grandchild.get() = born;
        int status = 0;
        return waitpid(born, &status, 0) == born && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    });
    ASSERT_TRUE(wait_until([&] { return grandchild.get()->load() > 0; }));
    auto task = RemoteTask::seize(*grandchild.get(), kSeizeLimitMs);
    ASSERT_TRUE(task) << task.error().message;
    EXPECT_FALSE(task->call(SYS_exit_group, 42));
    EXPECT_EQ(parent.join(), 42);
}

constexpr unsigned long kThreadFlags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

// Seen: `farswap attach` stood still for ever when its program was killed in the middle of the clone. The new
// thread, traced from its birth, had ended, and nobody took note; so its process had not ended for the one
// who waited.
TEST(RemoteTask, TakesTheEndOfAThreadThatNobodyHasStartedYet) {
    Child child([] { return pause(); });
    {
        auto task = RemoteTask::seize(child.process(), kSeizeLimitMs);
        ASSERT_TRUE(task) << task.error().message;
        ASSERT_TRUE(task->clone_stopped(kThreadFlags, 0));
        kill(child.process(), SIGKILL);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child.process(), &status, WNOHANG), child.process());
    EXPECT_TRUE(WIFSIGNALED(status));
}

TEST(RemoteTask, EndsWithAProcessThatIsKilledAtAnyMomentOfAClone) {
    for (int i = 0; i < 300; i++) {
        const pid_t born = fork();
        if (born == 0) {
            for (;;) pause();
        }
        {
            auto task = RemoteTask::seize(born, kSeizeLimitMs);
            ASSERT_TRUE(task) << task.error().message;
            std::thread killer([born, i] {
                const auto moment = std::chrono::steady_clock::now() + std::chrono::microseconds(i);
                while (std::chrono::steady_clock::now() < moment) {
                }
                kill(born, SIGKILL);
            });
            while (task->clone_stopped(kThreadFlags, 0)) {
            }
            killer.join();
        }
        EXPECT_EQ(waitpid(born, nullptr, 0), born);
    }
}

TEST(RemoteTask, LeavesAThreadAloneThatItsTaskStartsWhileItIsBeingStopped) {
    Shared<std::atomic<std::uint64_t>> ended;
    Child child([&] {
        for (;;) std::thread([&] { ++*ended.get(); }).join();
        return 0;
    });
    for (int i = 0; i < 5000; i++) {
        auto task = RemoteTask::seize(child.process(), kSeizeLimitMs);
        ASSERT_TRUE(task) << task.error().message;
    }
    const std::uint64_t before = *ended.get();
    EXPECT_TRUE(wait_until([&] { return *ended.get() > before + 1; })) << "one of its threads stands still";
    kill(child.process(), SIGKILL);
    child.join();
}

}  // namespace
}  // namespace farswap::target
