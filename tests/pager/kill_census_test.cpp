// What is counted of each kill, and that steps nest.
#include "pager/kill_census.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace farswap {
namespace {

using testing::HasSubstr;

TEST(KillCensusTest, EachKillIsInOnePlaceAndFindsAllThatIsUnderWay) {
    KillCensus census;
    census.count(true, Step::kSealing, {.moves = 2, .stores = {.writes = 3}});
    census.count(true, Step::kSealing, {.moves = 0, .stores = {.writes = 1, .pages_uncommitted = 64}});
    census.count(true, Step::kCopying, {.moves = 0, .stores = {.flushes = 1, .reads = 9}});
    census.count(true, Step::kElsewhere, {});
    EXPECT_EQ(census.kills(), 4u);
    EXPECT_EQ(
        census.text(),
        "kills=4 not_begun=0 in: elsewhere=1 staged=0 sealing=2 writing=0 committing=0 opening=0 copying=1 "
        "with: move=1 write=2 uncommitted=1 commit=1 read=1");
}

TEST(KillCensusTest, AnHeirThatWasNobodyYetHasInterruptedNothing) {
    KillCensus census;
    census.count(false, Step::kCopying, {.moves = 1, .stores = {.reads = 1}});
    EXPECT_EQ(census.kills(), 1u);
    EXPECT_THAT(census.text(), HasSubstr("not_begun=1 in: elsewhere=0"));
    EXPECT_THAT(census.text(), HasSubstr("copying=0 with: move=0"));
}

TEST(KillCensusTest, TheInnermostStepIsTheCurrentOne) {
    EXPECT_EQ(current_step, Step::kElsewhere);
    {
        const During staged(Step::kStaged);
        {
            const During sealing(Step::kSealing);
            EXPECT_EQ(current_step, Step::kSealing);
        }
        EXPECT_EQ(current_step, Step::kStaged);
    }
    EXPECT_EQ(current_step, Step::kElsewhere);
}

TEST(KillCensusTest, WithoutAnAreaTheStepIsCountedAllTheSame) {
    kills::watch(nullptr);
    const During opening(Step::kOpening);
    kills::note(true);
    EXPECT_THAT(kills::so_far(), HasSubstr("opening=1"));
}

}  // namespace
}  // namespace farswap
