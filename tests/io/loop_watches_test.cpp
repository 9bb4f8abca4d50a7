// Readiness, timers and waking.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <thread>

#include "io_fixture.h"

namespace farswap::io {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Counting : Watch {
    int calls = 0;
    std::uint32_t last = 0;
    Loop* loop = nullptr;
    Watch* victim = nullptr;

    explicit Counting(int descriptor = -1, std::uint32_t wanted = EPOLLIN) {
        fd = descriptor;
        events = wanted;
        ready = [](Watch& watch, std::uint32_t got) {
            auto& self = static_cast<Counting&>(watch);
            ++self.calls;
            self.last = got;
            if (self.victim != nullptr) self.loop->remove(*self.victim);
        };
    }
};

struct Pair {
    Fd near, far;
    Pair() {
        int ends[2];
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0) {
            near = Fd(ends[0]);
            far = Fd(ends[1]);
        }
    }
    void send() const { ASSERT_EQ(::write(far.get(), "x", 1), 1); }
    void drain() const {
        char byte;
        ASSERT_EQ(::read(near.get(), &byte, 1), 1);
    }
};

class LoopWatches : public LoopTest {};

TEST_P(LoopWatches, WhoPollsHearsOfItToo) {
    Pair pair;
    Counting watch(pair.near.get());
    loop_->add(watch);
    loop_->run_once(std::chrono::nanoseconds::zero());
    std::jthread sender([&] { pair.send(); });
    while (watch.calls == 0) EXPECT_EQ(loop_->run_once(seconds(10), seconds(10)), 1);
    EXPECT_LT(loop_->last_wait().taken, seconds(10));
}

TEST_P(LoopWatches, WhoPollsIsFiredATimer) {
    int fired = 0;
    Timer timer{.fire = [](Timer& due) { ++*static_cast<int*>(due.owner); }, .owner = &fired};
    loop_->arm(timer, Clock::now() + milliseconds(2));
    EXPECT_EQ(loop_->run_once(seconds(10), seconds(10)), 1);
    EXPECT_EQ(fired, 1);
}

TEST_P(LoopWatches, PollingEndsInSleepAndTheSleepInTime) {
    EXPECT_EQ(loop_->run_once(milliseconds(5), milliseconds(1)), 0);
    EXPECT_GE(loop_->last_wait().taken, milliseconds(5));
    EXPECT_LE(loop_->last_wait().longest_yield, loop_->last_wait().taken);
    EXPECT_EQ(loop_->run_once(milliseconds(5)), 0);
    EXPECT_EQ(loop_->last_wait().longest_yield.count(), 0) << "nothing was offered";
}

TEST_P(LoopWatches, ReportsAgainWhileTheDescriptorStaysReady) {
    Pair pair;
    Counting watch(pair.near.get());
    loop_->add(watch);
    pair.send();
    run_until([&] { return watch.calls >= 3; });
    EXPECT_EQ(watch.last, std::uint32_t{EPOLLIN});
    pair.drain();
    loop_->run_once(milliseconds(0));  // a poll that was answered before the read
    const int calls = watch.calls;
    loop_->run_once(milliseconds(20));
    loop_->run_once(milliseconds(20));
    EXPECT_EQ(watch.calls, calls);
    loop_->remove(watch);
}

TEST_P(LoopWatches, RemovedWatchIsSilentThoughItsReadinessWasReaped) {
    Pair first, second;
    Counting a(first.near.get()), b(second.near.get());
    a.loop = b.loop = loop_.get();
    a.victim = &b;
    b.victim = &a;
    loop_->add(a);
    loop_->add(b);
    loop_->run_once(milliseconds(0));
    first.send();
    second.send();
    run_until([&] { return a.calls + b.calls > 0; });
    // Both were ready; whichever came first removed the other.
    EXPECT_EQ(a.calls + b.calls, 1);
    for (int i = 0; i < 3; ++i) loop_->run_once(milliseconds(1));
    EXPECT_TRUE(a.calls == 0 || b.calls == 0);
    loop_->remove(a);
    loop_->remove(b);
}

TEST_P(LoopWatches, DescriptorNumberIsReusedAtOnce) {
    Counting watch;
    auto old = std::make_unique<Pair>();
    watch.fd = old->near.get();
    loop_->add(watch);
    loop_->run_once(milliseconds(0));
    loop_->remove(watch);
    old.reset();
    Pair next;
    EXPECT_EQ(next.near.get(), watch.fd);
    loop_->add(watch);
    next.send();
    run_until([&] { return watch.calls > 0; });
    loop_->remove(watch);
}

TEST_P(LoopWatches, ModifyChangesWhatIsReported) {
    Pair pair;
    Counting watch(pair.near.get(), EPOLLIN);
    loop_->add(watch);
    loop_->run_once(milliseconds(5));
    EXPECT_EQ(watch.calls, 0);
    loop_->modify(watch, EPOLLIN | EPOLLOUT);
    run_until([&] { return watch.calls > 0; });
    EXPECT_EQ(watch.last, std::uint32_t{EPOLLOUT});
    loop_->modify(watch, EPOLLIN);
    loop_->run_once(milliseconds(1));
    const int calls = watch.calls;
    for (int i = 0; i < 3; ++i) loop_->run_once(milliseconds(1));
    EXPECT_EQ(watch.calls, calls);
    pair.send();
    run_until([&] { return watch.calls > calls; });
    EXPECT_EQ(watch.last, std::uint32_t{EPOLLIN});
    loop_->remove(watch);
}

TEST_P(LoopWatches, ReportsHangUpAndBadDescriptors) {
    Pair pair;
    Counting watch(pair.near.get(), EPOLLIN);
    loop_->add(watch);
    loop_->run_once(milliseconds(0));
    pair.far.reset();
    run_until([&] { return watch.calls > 0; });
    EXPECT_TRUE(watch.last & EPOLLHUP);
    loop_->remove(watch);

    Counting bad(99'999);
    loop_->add(bad);
    run_until([&] { return bad.calls > 0; });
    EXPECT_EQ(bad.last, std::uint32_t{EPOLLERR});
    loop_->remove(bad);
}

// Nobody calls it for what was found of the one that had its place before.
TEST_P(LoopWatches, WatchAddedInTheRoundOfAnothersEndIsNotCalledForIt) {
    struct Swapping : Counting {
        using Counting::Counting;
        Swapping* other = nullptr;
        Counting* added = nullptr;
    };
    Pair first, second, third;
    Swapping a(first.near.get()), b(second.near.get());
    Counting silent(third.near.get());
    a.other = &b;
    b.other = &a;
    for (Swapping* watch : {&a, &b}) {
        watch->loop = loop_.get();
        watch->added = &silent;
        watch->ready = [](Watch& at, std::uint32_t) {
            auto& self = static_cast<Swapping&>(at);
            ++self.calls;
            self.loop->remove(*self.other);
            if (!self.added->Watch::added) self.loop->add(*self.added);
        };
        loop_->add(*watch);
    }
    loop_->run_once(milliseconds(0));
    first.send();
    second.send();
    run_until([&] { return a.calls + b.calls > 0; });
    for (int i = 0; i < 3; ++i) loop_->run_once(milliseconds(1));
    EXPECT_EQ(silent.calls, 0);
    third.send();
    run_until([&] { return silent.calls > 0; });
    for (Watch* watch : {static_cast<Watch*>(&a), static_cast<Watch*>(&b), static_cast<Watch*>(&silent)})
        loop_->remove(*watch);
}

TEST_P(LoopWatches, RegularFileIsReadyAtAllTimes) {
    const Fd file = scratch_file();
    Counting watch(file.get());
    loop_->add(watch);
    run_until([&] { return watch.calls >= 3; });
    EXPECT_EQ(watch.last, std::uint32_t{EPOLLIN});
    loop_->modify(watch, EPOLLIN | EPOLLOUT);
    const int calls = watch.calls;
    run_until([&] { return watch.calls >= calls + 3; });
    EXPECT_EQ(watch.last, std::uint32_t{EPOLLIN | EPOLLOUT});
    loop_->remove(watch);
    const int last = watch.calls;
    for (int i = 0; i < 3; ++i) loop_->run_once(milliseconds(1));
    EXPECT_EQ(watch.calls, last);
}

TEST_P(LoopWatches, ThousandsOfWatchesAndChurn) {
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    const std::size_t count = std::min<std::size_t>(4000, limit.rlim_cur - 100);
    std::vector<Fd> events;
    std::vector<Counting> watches;
    watches.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        events.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        ASSERT_TRUE(events.back());
        watches.emplace_back(events.back().get());
    }
    for (int round = 0; round < 3; ++round) {
        for (Counting& watch : watches) loop_->add(watch);
        EXPECT_EQ(loop_->run_once(milliseconds(0)), 0);
        const std::size_t chosen = count - 1 - static_cast<std::size_t>(round);
        const std::uint64_t one = 1;
        ASSERT_EQ(::write(events[chosen].get(), &one, sizeof one), 8);
        run_until([&] { return watches[chosen].calls > 0; });
        std::uint64_t count_read = 0;
        ASSERT_EQ(::read(events[chosen].get(), &count_read, sizeof count_read), 8);
        for (Counting& watch : watches) loop_->remove(watch);
    }
    int calls = 0;
    for (const Counting& watch : watches) calls += watch.calls > 0;
    EXPECT_EQ(calls, 3);
}

TEST_P(LoopWatches, TimerEndsTheWaitAndCanBeCancelled) {
    struct Counter : Timer {
        int calls = 0;
    } soon, never;
    soon.fire = never.fire = [](Timer& timer) { ++static_cast<Counter&>(timer).calls; };
    const auto start = Clock::now();
    loop_->arm(soon, start + milliseconds(20));
    loop_->arm(never, start + milliseconds(10));
    loop_->cancel(never);
    run_until([&] { return soon.calls > 0; });
    EXPECT_GE(Clock::now() - start, milliseconds(20));
    EXPECT_EQ(never.calls, 0);
    EXPECT_FALSE(soon.armed());
}

TEST_P(LoopWatches, TimeoutOfRunOnceEndsTheWait) {
    const auto start = Clock::now();
    while (Clock::now() - start < milliseconds(20))
        EXPECT_EQ(loop_->run_once(start + milliseconds(20) - Clock::now()), 0);
}

TEST_P(LoopWatches, WakeFromAnotherThread) {
    std::atomic<bool> woken{false};
    std::thread other([&] {
        woken = true;
        loop_->wake();
    });
    while (!woken) loop_->run_once(std::chrono::nanoseconds::max());
    other.join();
    // A wake before the wait is not lost.
    loop_->wake();
    EXPECT_EQ(loop_->run_once(seconds(10)), 1);
}

FARSWAP_LOOP_TEST(LoopWatches);

}  // namespace
}  // namespace farswap::io
