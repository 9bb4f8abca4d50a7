// The heap of timers against a sorted model.
#include "io/timer_heap.h"

#include <gtest/gtest.h>

#include <random>

namespace farswap::io {
namespace {

using std::chrono::milliseconds;

struct Recording : Timer {
    std::vector<Recording*>* fired = nullptr;
    int id = 0;
};

Recording make(std::vector<Recording*>& fired, int id) {
    Recording timer;
    timer.fired = &fired;
    timer.id = id;
    timer.fire = [](Timer& at) {
        auto& self = static_cast<Recording&>(at);
        self.fired->push_back(&self);
    };
    return timer;
}

TEST(TimerHeap, FiresInOrderAndOnlyWhatIsDue) {
    TimerHeap heap(4);
    std::vector<Recording*> fired;
    const Clock::time_point start{};
    std::vector<Recording> timers;
    for (int id = 0; id < 4; ++id) timers.push_back(make(fired, id));
    heap.arm(timers[0], start + milliseconds(30));
    heap.arm(timers[1], start + milliseconds(10));
    heap.arm(timers[2], start + milliseconds(20));
    heap.arm(timers[3], start + milliseconds(40));
    EXPECT_EQ(heap.fire_due(start + milliseconds(30)), 3);
    EXPECT_EQ(fired, (std::vector{&timers[1], &timers[2], &timers[0]}));
    EXPECT_TRUE(timers[3].armed());
    EXPECT_EQ(heap.earliest(), start + milliseconds(40));
}

TEST(TimerHeap, TimerThatArmsItselfInThePastFiresOnceARound) {
    struct Eager : Timer {
        TimerHeap* heap = nullptr;
        int count = 0;
    } eager;
    TimerHeap heap(2);
    eager.heap = &heap;
    eager.fire = [](Timer& timer) {
        auto& self = static_cast<Eager&>(timer);
        ++self.count;
        self.heap->arm(self, Clock::time_point{});
    };
    heap.arm(eager, Clock::time_point{});
    heap.fire_due(Clock::now());
    EXPECT_EQ(eager.count, 1);
    EXPECT_TRUE(eager.armed());
}

TEST(TimerHeap, RandomArmsAndCancelsMatchTheModel) {
    constexpr int kTimers = 200;
    std::mt19937 random(7);
    TimerHeap heap(kTimers);
    std::vector<Recording*> fired;
    std::vector<Recording> timers;
    std::vector<int> due(kTimers, -1);  // -1: not armed
    for (int id = 0; id < kTimers; ++id) timers.push_back(make(fired, id));
    int now = 0;
    for (int step = 0; step < 50'000; ++step) {
        const auto id = static_cast<std::size_t>(random() % kTimers);
        switch (random() % 4) {
            case 0:
            case 1:
                due[id] = now + static_cast<int>(random() % 500);
                heap.arm(timers[id], Clock::time_point(milliseconds(due[id])));
                break;
            case 2:
                due[id] = -1;
                heap.cancel(timers[id]);
                break;
            default:
                now += static_cast<int>(random() % 8);
                fired.clear();
                heap.fire_due(Clock::time_point(milliseconds(now)));
                int last = 0;
                for (const Recording* timer : fired) {
                    int& when = due[static_cast<std::size_t>(timer->id)];
                    ASSERT_GE(when, last);
                    ASSERT_LE(when, now);
                    last = std::exchange(when, -1);
                }
                for (int left : due) ASSERT_TRUE(left == -1 || left > now);
        }
    }
}

}  // namespace
}  // namespace farswap::io
