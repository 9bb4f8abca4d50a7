// When polling is worth its time, by waits of given lengths.
#include "pager/spin_policy.h"

#include <gtest/gtest.h>

namespace farswap {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

/// A policy and its clock.
struct Waits {
    SpinPolicy policy;
    SpinPolicy::Time now{};

    void take(Awaited what, nanoseconds how_long, int times = 1, nanoseconds yield = {}) {
        for (int i = 0; i < times; i++) {
            now += how_long;
            policy.waited(what, how_long, yield, now);
        }
    }
    nanoseconds window(Awaited what) const { return policy.window(what, now); }
};

TEST(SpinPolicy, ADiskThatAnswersSoonIsPolledFor) {
    Waits waits;
    EXPECT_EQ(waits.window(Awaited::kAnswer), nanoseconds::zero()) << "nothing is known yet";
    waits.take(Awaited::kAnswer, microseconds(80), 20);
    EXPECT_EQ(waits.window(Awaited::kAnswer), microseconds(128));
    EXPECT_EQ(waits.window(Awaited::kFault), nanoseconds::zero()) << "that is another wait";
}

TEST(SpinPolicy, NobodyWaitsNobodyPolls) {
    Waits waits;
    waits.take(Awaited::kNothing, microseconds(10), 100);
    waits.take(Awaited::kAnswer, microseconds(10), 100);
    waits.take(Awaited::kFault, microseconds(10), 100);
    EXPECT_EQ(waits.window(Awaited::kNothing), nanoseconds::zero());
}

TEST(SpinPolicy, AServerThatIsSlowIsNotPolledFor) {
    Waits waits;
    waits.take(Awaited::kAnswer, milliseconds(2), 100);
    EXPECT_EQ(waits.window(Awaited::kAnswer), nanoseconds::zero());
}

TEST(SpinPolicy, WhatHasChangedIsLearned) {
    Waits waits;
    waits.take(Awaited::kFault, microseconds(5), 1000);
    EXPECT_EQ(waits.window(Awaited::kFault), microseconds(8));
    waits.take(Awaited::kFault, milliseconds(1), 1000);
    EXPECT_EQ(waits.window(Awaited::kFault), nanoseconds::zero()) << "the program computes now";
    waits.take(Awaited::kFault, microseconds(50), 300);
    EXPECT_EQ(waits.window(Awaited::kFault), microseconds(64));
}

TEST(SpinPolicy, TheWindowIsTheOneThatPays) {
    Waits waits;
    // Half come at once, and half after so long that what is saved is not worth the polling.
    for (int i = 0; i < 64; i++) {
        waits.take(Awaited::kFault, microseconds(2));
        waits.take(Awaited::kFault, milliseconds(1));
    }
    EXPECT_EQ(waits.window(Awaited::kFault), microseconds(4));
    // One in fifty comes: 50 windows are paid for one wake-up.
    Waits seldom;
    for (int i = 0; i < 20; i++) {
        seldom.take(Awaited::kFault, microseconds(100));
        seldom.take(Awaited::kFault, milliseconds(1), 49);
    }
    EXPECT_EQ(seldom.window(Awaited::kFault), nanoseconds::zero());
}

TEST(SpinPolicy, NeverForLongerThanTheMost) {
    Waits waits;
    for (const auto each : {1, 3, 30, 130, 200, 255, 257, 400}) {
        waits.take(Awaited::kAnswer, microseconds(each), 300);
        EXPECT_LE(waits.window(Awaited::kAnswer), SpinPolicy::kWindowMax) << each;
    }
    EXPECT_EQ(waits.window(Awaited::kAnswer), nanoseconds::zero());
}

TEST(SpinPolicy, WhoeverWantsTheCoreGetsIt) {
    Waits waits;
    waits.take(Awaited::kAnswer, microseconds(80), 100);
    waits.take(Awaited::kAnswer, microseconds(80), 1, milliseconds(3));
    EXPECT_EQ(waits.window(Awaited::kAnswer), nanoseconds::zero());
    waits.now += milliseconds(10);
    EXPECT_NE(waits.window(Awaited::kAnswer), nanoseconds::zero()) << "tried again";
    waits.take(Awaited::kAnswer, microseconds(80), 1, milliseconds(3));
    waits.now += milliseconds(10);
    EXPECT_EQ(waits.window(Awaited::kAnswer), nanoseconds::zero()) << "twice as long now";
    waits.now += milliseconds(10);
    EXPECT_NE(waits.window(Awaited::kAnswer), nanoseconds::zero());
    EXPECT_FALSE(waits.policy.is_crowded_out(waits.now));
    for (int i = 0; i < 20; i++) waits.take(Awaited::kAnswer, microseconds(80), 1, milliseconds(3));
    EXPECT_TRUE(waits.policy.is_crowded_out(waits.now));
    waits.now += milliseconds(640);
    EXPECT_NE(waits.window(Awaited::kAnswer), nanoseconds::zero()) << "there is an end to it";
    EXPECT_FALSE(waits.policy.is_crowded_out(waits.now));
}

TEST(SpinPolicy, WhoTakesTheCoreForAMomentIsNoHog) {
    Waits waits;
    waits.take(Awaited::kAnswer, microseconds(80), 100, microseconds(60));
    EXPECT_EQ(waits.window(Awaited::kAnswer), microseconds(128)) << "a thread that goes on to its next fault";
}

TEST(SpinPolicy, ACalmTimeMakesUpForIt) {
    Waits waits;
    for (int i = 0; i < 10; i++) waits.take(Awaited::kAnswer, microseconds(80), 1, milliseconds(3));
    waits.take(Awaited::kAnswer, microseconds(80), 2000);
    waits.take(Awaited::kAnswer, microseconds(80), 1, milliseconds(3));
    waits.now += milliseconds(10);
    EXPECT_NE(waits.window(Awaited::kAnswer), nanoseconds::zero()) << "it begins with the shortest again";
}

}  // namespace
}  // namespace farswap
