// When the loop goes to another core, by what it found while it polled; and that it then is on another one.
#include "pager/core_policy.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

#include "base/core.h"

namespace farswap {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

/// A policy and its clock.
struct Waits {
    CorePolicy policy;
    CorePolicy::Time now{seconds(100)};

    /// How often it was to leave. A fault is a wait for the disk and one for the next fault.
    int faults(int count, nanoseconds yield) {
        int left = 0;
        for (int i = 0; i < count; i++) {
            now += microseconds(150);
            left += policy.polled(microseconds(1), now);
            left += policy.polled(yield, now);
        }
        return left;
    }
};

TEST(CorePolicy, ItStaysWhereNobodyElseIs) {
    Waits waits;
    EXPECT_EQ(waits.faults(100'000, microseconds(2)), 0);
}

TEST(CorePolicy, ItLeavesTheCoreOfTheThreadThatItServes) {
    Waits waits;
    EXPECT_EQ(waits.faults(32, microseconds(60)), 1);
}

TEST(CorePolicy, ItDoesNotLeaveForWhatHappensNowAndThen) {
    Waits waits;
    for (int i = 0; i < 1000; i++) {
        EXPECT_EQ(waits.faults(3, microseconds(2)), 0);
        EXPECT_EQ(waits.faults(1, microseconds(900)), 0);
    }
}

TEST(CorePolicy, WhereAllCoresAreSharedItComesToRest) {
    Waits waits;
    const int in_the_first_minute = waits.faults(400'000, microseconds(60));
    EXPECT_GE(in_the_first_minute, 2);
    EXPECT_LE(in_the_first_minute, 8);
    EXPECT_LE(waits.faults(400'000, microseconds(60)), 4);
}

cpu_set_t allowed() {
    cpu_set_t cores;
    EXPECT_EQ(sched_getaffinity(0, sizeof cores, &cores), 0);
    return cores;
}

/// In a thread of its own, whose affinity nobody else needs.
template <typename Body>
void on_a_thread(Body body) {
    std::thread(body).join();
}

TEST(Core, ItIsLeftAndMayBeComeBackTo) {
    on_a_thread([] {
        const cpu_set_t before = allowed();
        const int here = sched_getcpu();
        Core core;
        const bool left = core.leave();
        EXPECT_EQ(left, CPU_COUNT(&before) > 1);
        if (left) {
            const cpu_set_t now = allowed();
            EXPECT_EQ(CPU_COUNT(&now), CPU_COUNT(&before) - 1);
            EXPECT_FALSE(CPU_ISSET(static_cast<unsigned>(here), &now));
            EXPECT_NE(sched_getcpu(), here);
        }
        EXPECT_TRUE(!left || core.leave()) << "from the next one";
        core.be_anywhere();
        const cpu_set_t after = allowed();
        EXPECT_TRUE(CPU_EQUAL(&after, &before));
    });
}

TEST(Core, TheOnlyOneIsNotLeft) {
    on_a_thread([] {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(static_cast<unsigned>(sched_getcpu()), &one);
        ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
        Core core;
        EXPECT_FALSE(core.leave());
        const cpu_set_t now = allowed();
        EXPECT_TRUE(CPU_EQUAL(&now, &one));
    });
}

TEST(Core, WhatSomebodyElseHasSetIsKept) {
    on_a_thread([] {
        Core core;
        if (!core.leave()) return;  // one core: nothing to be set otherwise
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(static_cast<unsigned>(sched_getcpu()), &one);
        const cpu_set_t ours = allowed();
        if (CPU_EQUAL(&one, &ours)) {  // of two
            CPU_ZERO(&one);
            CPU_SET(static_cast<unsigned>(sched_getcpu()) ^ 1u, &one);
        }
        ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
        core.be_anywhere();
        const cpu_set_t now = allowed();
        EXPECT_TRUE(CPU_EQUAL(&now, &one));
    });
}

}  // namespace
}  // namespace farswap
