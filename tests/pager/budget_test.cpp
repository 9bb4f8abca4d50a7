// The budget's thresholds, that they are in order for every cap, and how long memory may be left unwatched.
#include "pager/budget.h"

#include <gtest/gtest.h>

#include "base/units.h"

namespace farswap {
namespace {

using std::chrono::milliseconds;

TEST(Budget, ReclaimStartsBelowTheCapAndFaultsWaitAtIt) {
    Budget budget(1000 * kMiB);
    EXPECT_EQ(budget.target(), 980 * kMiB);
    budget.measured(budget.target());
    EXPECT_FALSE(budget.wants_reclaim());
    budget.filled(4096);
    EXPECT_TRUE(budget.wants_reclaim());
    EXPECT_TRUE(budget.has_room(4096)) << "between the target and the cap nobody waits";

    budget.measured(budget.cap() - 4096);
    EXPECT_TRUE(budget.has_room(4096)) << "the last page";
    EXPECT_FALSE(budget.has_room(8192));
    EXPECT_EQ(budget.room(), 4096u);
    budget.filled(8192);
    EXPECT_FALSE(budget.has_room(0)) << "above the cap";
    EXPECT_EQ(budget.room(), 0u);
}

TEST(Budget, AnotherCapCountsAtOnce) {
    Budget budget(1000 * kMiB, 2000 * kMiB);
    budget.measured(900 * kMiB);
    budget.lend();
    EXPECT_FALSE(budget.wants_reclaim());
    budget.set_cap(500 * kMiB);
    EXPECT_TRUE(budget.wants_reclaim());
    EXPECT_FALSE(budget.has_room(4096));
    EXPECT_LT(budget.target(), budget.soft_limit()) << "nor is more lent than a job of that cap may have";
    EXPECT_EQ(budget.hard_limit(), Budget(500 * kMiB, 2000 * kMiB).hard_limit());
    budget.set_cap(1900 * kMiB);
    EXPECT_FALSE(budget.wants_reclaim());
    EXPECT_TRUE(budget.has_room(900 * kMiB));
    EXPECT_EQ(budget.soft_limit(), Budget(1900 * kMiB, 2000 * kMiB).soft_limit());
}

TEST(Budget, ThresholdsAreInOrderForEveryCap) {
    for (std::uint64_t cap : {16 * kMiB, 64 * kMiB, 256 * kMiB, kGiB, 64 * kGiB, 1024 * kGiB}) {
        const Budget budget(cap);
        EXPECT_LT(budget.engage_at(), budget.target()) << cap;
        EXPECT_LT(budget.target(), cap) << cap;
        EXPECT_GE(cap - budget.target(), 2 * kMiB) << cap;
        EXPECT_LE(cap - budget.target(), 64 * kMiB) << cap;
    }
}

TEST(Budget, AMeasurementReplacesWhatWasCountedSince) {
    Budget budget(100 * kMiB);
    budget.filled(10);
    budget.zapped(4);
    EXPECT_EQ(budget.used(), 6u);
    budget.zapped(7);
    EXPECT_EQ(budget.used(), 0u) << "a zap of what was never measured";
    budget.filled(50);
    budget.measured(20);
    EXPECT_EQ(budget.used(), 20u);
}

TEST(Budget, KeepsRoomForWhatCameUnannouncedOfLate) {
    Budget budget(1000 * kMiB);
    const std::uint64_t usual = budget.target();
    budget.measured(800 * kMiB);
    EXPECT_EQ(budget.target(), usual) << "grown far from the cap: nothing was registered yet";
    budget.measured(900 * kMiB);
    budget.filled(20 * kMiB);
    budget.measured(920 * kMiB);
    EXPECT_EQ(budget.target(), usual) << "announced";
    budget.measured(960 * kMiB);
    EXPECT_EQ(budget.target(), 920 * kMiB) << "room for two of 40 MiB";
    budget.measured(2000 * kMiB);
    EXPECT_EQ(budget.target(), 750 * kMiB) << "a quarter of the cap at the most";
    for (int looks = 0; looks < 3000; looks++) budget.measured(900 * kMiB);
    EXPECT_EQ(budget.target(), usual) << "forgotten";
}

TEST(Budget, AnOverdraftIsRoomForWhoeverAsks) {
    Budget budget(100 * kMiB);
    budget.measured(120 * kMiB);
    EXPECT_FALSE(budget.has_room(4096));
    budget.allow_overdraft(true);
    EXPECT_TRUE(budget.has_room(4096));
    budget.allow_overdraft(false);
    EXPECT_FALSE(budget.has_room(4096));
}

TEST(Budget, ALoanRaisesTheCapToTheSoftLimitAndIsTakenBack) {
    Budget budget(100 * kMiB);
    EXPECT_EQ(budget.soft_limit(), 112 * kMiB);
    budget.measured(105 * kMiB);
    const std::uint64_t usual = budget.target();
    budget.lend();
    EXPECT_TRUE(budget.has_room(7 * kMiB));
    EXPECT_FALSE(budget.has_room(8 * kMiB));
    EXPECT_FALSE(budget.wants_reclaim()) << "what was lent is to work with";
    EXPECT_EQ(budget.cap(), 100 * kMiB);
    for (int looks = 0; looks < 10'000; looks++) budget.measured(105 * kMiB);
    EXPECT_EQ(budget.target(), usual);
    EXPECT_FALSE(budget.has_room(0));
}

TEST(Budget, NothingIsLentThatTheMachineHasNot) {
    EXPECT_EQ(Budget(400 * kMiB, 440 * kMiB).soft_limit(), 410 * kMiB) << "a quarter of what is left";
    EXPECT_EQ(Budget(400 * kMiB, 440 * kMiB).hard_limit(), 410 * kMiB);
    EXPECT_EQ(Budget(400 * kMiB, 8 * kGiB).hard_limit(), 448 * kMiB);
    EXPECT_EQ(Budget(400 * kMiB, 300 * kMiB).hard_limit(), 401 * kMiB) << "a cap above the machine";
}

TEST(Budget, LooksTheMoreOftenTheLessIsLeft) {
    Budget budget(64 * kGiB);
    EXPECT_EQ(budget.poll_period(), milliseconds(250));
    budget.measured(budget.target() - 100 * kMiB);
    EXPECT_NEAR(static_cast<double>(budget.poll_period().count()), 1.05e7, 1e5) << "100 MiB at 10 bytes/ns";
    for (std::uint64_t used : {budget.target() - kMiB, budget.target(), budget.cap(), budget.cap() + kGiB}) {
        budget.measured(used);
        EXPECT_EQ(budget.poll_period(), milliseconds(1)) << used;
    }
}

}  // namespace
}  // namespace farswap
