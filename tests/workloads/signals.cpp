// System calls that a careless attach interrupts: each waits again and again while pages are evicted, and
// must end by its time-out or its event, never by EINTR without a signal and never early. A timer signal must
// still arrive.
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <csignal>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <vector>

#include "support.h"

namespace {

using namespace workload;

constexpr int kWaitMs = 50;
constexpr double kLateMax = 5.0;  // seconds; the machine may be busy, a lost time-out is minutes late

// What a wait that is counted by the clock may miss of its time.
constexpr double kByClock = 0.98;
// SO_RCVTIMEO is counted in ticks (sock_set_timeout, schedule_timeout): the one that has begun counts as
// whole, and where a virtual machine's tick comes late, those that are made up for count, too. 47 ms of 50
// were seen without farswap.
constexpr double kByTicks = 0.5;

// One kind of wait: returns what the call returned, with errno set.
struct Wait {
    const char* name;
    long expected;       // return value at time-out
    int expected_errno;  // 0: none
    double shortest;     // part of kWaitMs
    std::function<long()> call;
};

timespec wait_time() {
    return {0, kWaitMs * 1'000'000L};
}

long futex_wait() {
    static std::atomic<std::uint32_t> word{1};
    const timespec time = wait_time();
    return ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, &time, nullptr, 0);
}

long semaphore_wait(int semaphores) {
    sembuf take{0, -1, 0};
    const timespec time = wait_time();
    return ::semtimedop(semaphores, &take, 1, &time);
}

long signal_wait() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGUSR2);
    const timespec time = wait_time();
    return ::sigtimedwait(&set, nullptr, &time);
}

long receive(int fd) {
    char byte = 0;
    return ::recv(fd, &byte, 1, 0);
}

std::vector<Wait> all_waits(int epoll, int socket, int semaphores) {
    return {
        {"nanosleep", 0, 0, kByClock,
         [] {
             const timespec t = wait_time();
             return long{::nanosleep(&t, nullptr)};
         }},
        {"clock_nanosleep", 0, 0, kByClock,
         [] {
             const timespec t = wait_time();
             return long{::clock_nanosleep(CLOCK_MONOTONIC, 0, &t, nullptr)};
         }},
        {"epoll_wait", 0, 0, kByClock,
         [epoll] {
             epoll_event e{};
             return long{::epoll_wait(epoll, &e, 1, kWaitMs)};
         }},
        {"poll", 0, 0, kByClock,
         [socket] {
             pollfd p{socket, POLLIN, 0};
             return long{::poll(&p, 1, kWaitMs)};
         }},
        {"recv", -1, EAGAIN, kByTicks, [socket] { return receive(socket); }},
        {"sigtimedwait", -1, EAGAIN, kByClock, signal_wait},
        {"semtimedop", -1, EAGAIN, kByClock, [semaphores] { return semaphore_wait(semaphores); }},
        {"futex", -1, ETIMEDOUT, kByClock, futex_wait},
    };
}

void repeat(const Wait& wait, const std::atomic<bool>& stop) {
    while (!stop) {
        const double start = now_s();
        errno = 0;
        const long result = wait.call();
        const int error = errno;
        const double took = now_s() - start;
        check(result == wait.expected && (result >= 0 || error == wait.expected_errno),
              "{} returned {} ({}) after {:.1f} ms instead of its time-out", wait.name, result,
              result < 0 ? std::strerror(error) : "no error", took * 1e3);
        check(took > kWaitMs * wait.shortest * 1e-3, "{} ended after {:.2f} ms of {}", wait.name, took * 1e3,
              kWaitMs);
        check(took < kLateMax, "{} ended after {:.1f} s instead of {} ms", wait.name, took, kWaitMs);
    }
}

std::atomic<int> timer_signals{0};

void on_timer(int) {
    timer_signals++;
}

// An interval timer of 100 ms, taken only by the main thread.
void start_timer() {
    struct sigaction action {};
    action.sa_handler = on_timer;
    action.sa_flags = SA_RESTART;
    sys(::sigaction(SIGALRM, &action, nullptr), "sigaction");
    const itimerval interval{{0, 100'000}, {0, 100'000}};
    sys(::setitimer(ITIMER_REAL, &interval, nullptr), "setitimer");
}

void block_signals() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGALRM);
    ::sigaddset(&set, SIGUSR2);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

void push_with_timer(Filler& filler, int seconds) {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGALRM);
    start_timer();
    ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    const double start = now_s();
    while (now_s() < start + seconds) filler.push();
    const double took = now_s() - start;
    const itimerval off{};
    ::setitimer(ITIMER_REAL, &off, nullptr);
    check(timer_signals >= static_cast<int>(took / 0.1 / 10), "{} timer signals in {:.1f} s",
          timer_signals.load(), took);
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    block_signals();  // threads inherit it
    const int epoll = static_cast<int>(sys(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
    const int event = static_cast<int>(sys(::eventfd(0, EFD_CLOEXEC), "eventfd"));
    epoll_event interest{};
    interest.events = EPOLLIN;
    sys(::epoll_ctl(epoll, EPOLL_CTL_ADD, event, &interest), "epoll_ctl");
    std::array<int, 2> ends{};
    sys(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), "socketpair");
    const timeval time_out{0, kWaitMs * 1000};
    sys(::setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time_out, sizeof time_out), "SO_RCVTIMEO");
    const int semaphores = static_cast<int>(sys(::semget(IPC_PRIVATE, 1, 0600), "semget"));

    std::atomic<bool> stop{false};
    {
        Filler filler(options.filler);
        const auto waits = all_waits(epoll, ends[0], semaphores);
        std::vector<std::jthread> threads;
        for (const auto& wait : waits) threads.emplace_back([&] { repeat(wait, stop); });
        push_with_timer(filler, options.seconds);
        stop = true;
    }
    ::semctl(semaphores, 0, IPC_RMID);
    return succeed();
}
