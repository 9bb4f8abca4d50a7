// When the loop goes to another core, by what faults take here and there; and that it then is on another one.
#include "pager/core_policy.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <array>
#include <thread>

#include "base/core.h"

namespace farswap {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

/// A policy, its clock, and two cores on which a fault takes so long.
struct Cores {
    CorePolicy policy;
    CorePolicy::Time now{seconds(100)};
    std::array<nanoseconds, 2> fault{microseconds(100), microseconds(100)};
    std::size_t here = 0;
    std::uint64_t served = 0;
    int moves = 0;

    void faults(int count, bool counts = true) {
        for (int i = 0; i < count; i++) {
            // A wait for the disk and one for the next fault.
            round(fault[here] / 4 * 3, counts);
            ++served;
            round(fault[here] / 4, counts);
        }
    }
    void round(nanoseconds took, bool counts) {
        now += took;
        if (policy.round(served, counts, now) == CorePolicy::Advice::kStay) return;
        here ^= 1u;
        ++moves;
    }
    void seconds_of_faults(int count) {
        const auto end = now + seconds(count);
        while (now < end) faults(1);
    }
};

TEST(CorePolicy, ItFindsTheBetterCore) {
    for (const std::size_t better : {0u, 1u}) {
        Cores cores;
        cores.fault[better ^ 1u] = microseconds(150);
        cores.seconds_of_faults(1);
        EXPECT_EQ(cores.here, better);
        int there = 0;
        for (int i = 0; i < 600; i++) {
            cores.faults(100);
            there += cores.here == better;
        }
        EXPECT_GE(there, 590);
    }
}

TEST(CorePolicy, ItStaysWhereItIsAsGoodAndTriesSeldom) {
    Cores cores;
    cores.fault[1] = microseconds(95);
    cores.seconds_of_faults(60);
    EXPECT_EQ(cores.here, 0u);
    EXPECT_LE(cores.moves, 2 * 7);
    const int before = cores.moves;
    cores.seconds_of_faults(120);
    EXPECT_LE(cores.moves - before, 2 * 3);
}

TEST(CorePolicy, ItNoticesThatItHasBecomeWorse) {
    Cores cores;
    cores.fault[1] = microseconds(130);
    cores.seconds_of_faults(120);
    ASSERT_EQ(cores.here, 0u);
    cores.fault[0] = microseconds(200);
    cores.seconds_of_faults(2);
    EXPECT_EQ(cores.here, 1u);
}

TEST(CorePolicy, WhatWasNotPolledTellsNothing) {
    Cores cores;
    cores.fault[1] = microseconds(10);
    cores.faults(10'000, false);
    EXPECT_EQ(cores.moves, 0);
}

TEST(CorePolicy, AProgramThatComputesBetweenFaultsIsNotACore) {
    // Once in a while it takes a second for itself.
    Cores cores;
    cores.fault[1] = microseconds(140);
    for (int i = 0; i < 2000; i++) {
        cores.faults(100);
        cores.round(seconds(1), true);
    }
    EXPECT_EQ(cores.here, 0u);
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

TEST(Core, TheOneThatWasLeftIsGoneBackTo) {
    on_a_thread([] {
        const cpu_set_t before = allowed();
        const int here = sched_getcpu();
        Core core;
        EXPECT_FALSE(core.go_back()) << "none was left";
        if (!core.leave()) return;  // one core
        EXPECT_TRUE(core.go_back());
        EXPECT_EQ(sched_getcpu(), here);
        EXPECT_FALSE(core.go_back()) << "it is there";
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
