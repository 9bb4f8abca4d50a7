// When the tree of processes is walked, and when a process's memory is read in full.
#include "pager/watch_policy.h"

#include <gtest/gtest.h>

namespace farswap {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

/// A job that is looked at each millisecond.
class WatchPolicyTest : public ::testing::Test {
  protected:
    static constexpr microseconds kCost{100};

    WatchPolicy::Look look(bool is_unsettled = false) {
        now_ += milliseconds(1);
        const auto look = policy_.look(now_, newest_, is_unsettled);
        if (look.at_tree) policy_.walked(now_, kCost, is_close_);
        return look;
    }
    /// How many of the next looks walk the tree.
    int walks(int looks, bool is_unsettled = false) {
        int walks = 0;
        for (int i = 0; i < looks; i++) walks += look(is_unsettled).at_tree;
        return walks;
    }
    void settle() { walks(100); }

    WatchPolicy policy_;
    WatchPolicy::Time now_ = WatchPolicy::Time{} + std::chrono::hours(1);
    std::uint64_t newest_ = 1000;
    bool is_close_ = false;
};

TEST_F(WatchPolicyTest, TheFirstLookSeesAll) {
    const auto first = look();
    EXPECT_TRUE(first.at_tree);
    EXPECT_TRUE(first.at_everything);
}

TEST_F(WatchPolicyTest, WhereNobodyIsBornTheTreeIsLeftAlone) {
    settle();
    EXPECT_LE(walks(1000), 10);
    EXPECT_GE(walks(1000), 9) << "but looked at ten times a second";
}

TEST_F(WatchPolicyTest, ANewTaskHasTheTreeWalkedUntilItMustBeInIt) {
    is_close_ = true;  // so that 1/20 is 2 ms
    settle();
    walks(3);
    newest_++;
    EXPECT_GE(walks(20), 8);
    EXPECT_LE(walks(70), 1);
}

TEST_F(WatchPolicyTest, TheTreeTakesNoMoreThanItsShare) {
    settle();
    int walked = 0;
    for (int i = 0; i < 1000; i++) {
        newest_++;
        walked += walks(1);
    }
    EXPECT_LE(walked * kCost, milliseconds(1000) / 50 + kCost);
    is_close_ = true;
    walked = 0;
    for (int i = 0; i < 1000; i++) {
        newest_++;
        walked += walks(1);
    }
    EXPECT_LE(walked * kCost, milliseconds(1000) / 20 + kCost);
    EXPECT_GE(walked * kCost, milliseconds(1000) / 25) << "nor much less";
}

TEST_F(WatchPolicyTest, WhereTheNewestTaskCannotBeToldTheTreeIsWalked) {
    newest_ = 0;
    is_close_ = true;
    settle();
    EXPECT_GE(walks(100), 40);
}

TEST_F(WatchPolicyTest, AnEndIsLookedInto) {
    settle();
    walks(10);
    policy_.someone_ended();
    EXPECT_EQ(walks(10), 1);
}

// Its caller waits for us to end, too.
TEST_F(WatchPolicyTest, TheEndOfTheProgramIsLookedIntoAtOnce) {
    settle();
    while (!look().at_tree) {
    }
    EXPECT_FALSE(look().at_tree) << "the next walk is not due yet";
    policy_.program_ended();
    EXPECT_TRUE(look().at_tree);
    EXPECT_FALSE(look().at_tree) << "again without a reason";
}

TEST_F(WatchPolicyTest, AForkIsLookedForSooner) {
    newest_++;
    settle();
    newest_++;
    while (!look().at_tree) {
    }
    policy_.fork_announced();
    EXPECT_TRUE(look().at_tree) << "though a 1/50 of the time would be over in 5 ms only";
}

TEST_F(WatchPolicyTest, WhoIsAwaitedIsLookedFor) {
    settle();
    EXPECT_GE(walks(100, true), 19);
}

TEST_F(WatchPolicyTest, AProgramAtRestIsLookedAtLessOften) {
    for (int i = 0; i < 64; i++) {
        policy_.found(5 << 20, 17);
        EXPECT_EQ(policy_.rest().count(), 0) << i;
    }
    policy_.found(5 << 20, 17);
    EXPECT_EQ(policy_.rest(), milliseconds(4));
    policy_.found((5 << 20) + 4096, 17);
    EXPECT_EQ(policy_.rest().count(), 0) << "it grows";
    for (int i = 0; i < 100; i++) policy_.found((5 << 20) + 4096, 17);
    policy_.found((5 << 20) + 4096, 18);
    EXPECT_EQ(policy_.rest().count(), 0) << "it faults";
}

TEST_F(WatchPolicyTest, EverythingIsReadNowAndThen) {
    settle();
    int read = 0;
    for (int i = 0; i < 1000; i++) read += look().at_everything;
    EXPECT_GE(read, 45);
    EXPECT_LE(read, 60);
}

}  // namespace
}  // namespace farswap
