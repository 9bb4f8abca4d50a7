// What a fault is said to cost, by what has happened.
#include "pager/fault_cost.h"

#include <gtest/gtest.h>

namespace farswap {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;

TEST(FaultCost, FollowsWhatFaultsAndEvictionsTake) {
    FaultCost cost;
    const auto at_first = cost.without_read();
    for (int i = 0; i < 2000; i++) {
        cost.served(microseconds(40));
        cost.moved_out(microseconds(200 * 30), 200);
    }
    EXPECT_GT(cost.without_read(), at_first);
    EXPECT_GT(cost.without_read(), microseconds(70));
    EXPECT_LT(cost.without_read(), microseconds(100));
}

TEST(FaultCost, IsNotUpsetByOneThatWasStopped) {
    FaultCost cost;
    const auto before = cost.without_read();
    cost.served(seconds(10));
    cost.moved_out(seconds(10), 1);
    cost.moved_out(seconds(10), 0);
    EXPECT_LT(cost.without_read(), before + microseconds(100));
}

}  // namespace
}  // namespace farswap
