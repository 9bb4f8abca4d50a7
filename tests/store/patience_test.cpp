// How long a server may owe an answer, in ticks of which the test knows all.
#include "store/patience.h"

#include <gtest/gtest.h>

namespace farswap {
namespace {

using namespace std::chrono_literals;

/// A call that the server never answers: after how many ticks it is given up.
std::uint32_t lose_a_call(Patience& patience) {
    std::uint32_t age = 1;
    while (!patience.over(age)) ++age;
    return age;
}

TEST(Patience, GivesALostCallUpAfterTheLimit) {
    Patience patience(60s);
    const std::uint32_t ticks = lose_a_call(patience);
    EXPECT_GT(patience.tick() * ticks, 60s);
    EXPECT_LE(patience.tick() * ticks, 64s);
}

TEST(Patience, DoublesUpToTenTimesForAServerThatDoesNotAnswerAtAll) {
    Patience patience(60s);
    std::chrono::nanoseconds last{};
    for (const auto most : {60s, 120s, 240s, 480s, 600s, 600s}) {
        last = patience.tick() * lose_a_call(patience);
        EXPECT_GT(last, most);
        EXPECT_LE(last, most + 4s);
    }
}

/// COMMITs of 100 s, as fast as they come: one connection is lost on the first of them.
TEST(Patience, LeavesASlowServerInPeace) {
    Patience patience(60s);
    EXPECT_LT(lose_a_call(patience), 20u);
    const auto ticks = static_cast<std::uint32_t>(100s / patience.tick());
    for (int commit = 0; commit < 50; ++commit)
        for (std::uint32_t age = 0; age <= ticks; ++age) ASSERT_FALSE(patience.over(age));
}

/// One call in a while is lost, and what is sent again is answered at once.
TEST(Patience, ForgetsWhenAllIsWellForAMinute) {
    Patience patience(60s);
    for (int lost = 0; lost < 10; ++lost) {
        EXPECT_LE(patience.tick() * lose_a_call(patience), 64s);
        for (auto left = 61s; left > 0s;
             left -= std::chrono::duration_cast<std::chrono::seconds>(patience.tick()))
            ASSERT_FALSE(patience.over(1));
    }
}

}  // namespace
}  // namespace farswap
