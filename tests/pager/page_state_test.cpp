// Every step of a page word from every state: what it makes, or that it is refused.
#include "pager/page_state.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace farswap {
namespace {

// The words that a page can have, made by the steps themselves.
const PageWord kInside{};
const PageWord kFar = kInside.evicted(9);
const PageWord kHot = kFar.brought_back({3, 2});
const PageWord kDoubtful = kInside.removal_announced(true, 77);
const PageWord kKept = kInside.kept();
const PageWord kFetching = kFar.fetch_started();

struct Named {
    const char* name;
    PageWord word;
};
const std::vector<Named> kAll = {{"inside", kInside}, {"hot", kHot}, {"doubtful", kDoubtful},
                                 {"kept", kKept},     {"far", kFar}, {"fetching", kFetching}};

/// What can be seen of a word, but for its generation.
std::string seen(PageWord word) {
    static const char* const names[] = {"inside", "doubtful", "kept", "far"};
    return std::string(names[static_cast<int>(word.state())]) + (word.hot() ? "+hot" : "") +
           (word.heat() > 0 ? "+warm" : "") + (word.fetching() ? "+fetching" : "") + " " +
           std::to_string(word.value());
}

/// One step and what it makes of each word of kAll, in that order; "-": it is an invariant that this never
/// happens.
/// "=": the word stays as it is, generation included.
struct Step {
    const char* name;
    std::function<PageWord(PageWord)> take;
    std::vector<std::string> makes;
};

const std::vector<Step> kSteps = {
    {"evicted", [](PageWord w) { return w.evicted(13); }, {"far 13", "-", "-", "-", "-", "-"}},
    {"fetch_started",
     [](PageWord w) { return w.fetch_started(); },
     {"-", "-", "-", "-", "far+fetching 9", "-"}},
    {"fetch_ended", [](PageWord w) { return w.fetch_ended(); }, {"-", "-", "-", "-", "-", "far 9"}},
    {"brought_back(hot)",
     [](PageWord w) {
         return w.brought_back({1, 1});
     },
     {"inside+hot+warm 0", "inside+hot+warm 0", "inside+hot+warm 0", "=", "inside+hot+warm 0",
      "inside+hot+warm 0"}},
    {"brought_back(cold)",
     [](PageWord w) { return w.brought_back({}); },
     {"inside 0", "inside 0", "inside 0", "=", "inside 0", "inside 0"}},
    {"passed_by",
     [](PageWord w) { return w.passed_by(1); },
     {"inside 0", "inside+hot+warm 0", "-", "-", "-", "-"}},
    {"passed_by(more often than it has turns)",
     [](PageWord w) { return w.passed_by(4); },
     {"inside 0", "inside+warm 0", "-", "-", "-", "-"}},
    // Kernel fact 2.2: a page that is present when its REMOVE is announced may be zapped at any moment.
    {"removal_announced(present)",
     [](PageWord w) { return w.removal_announced(true, 88); },
     {"doubtful 88", "doubtful 88", "doubtful 88", "=", "doubtful 88", "doubtful 88"}},
    {"removal_announced(absent)",
     [](PageWord w) { return w.removal_announced(false, 88); },
     {"inside 0", "inside 0", "inside 0", "=", "inside 0", "inside 0"}},
    {"pinned", [](PageWord w) { return w.pinned(88); }, {"doubtful 88", "doubtful 88", "-", "-", "-", "-"}},
    {"doubt_expired", [](PageWord w) { return w.doubt_expired(); }, {"-", "-", "inside 0", "-", "-", "-"}},
    {"kept", [](PageWord w) { return w.kept(); }, {"kept 0", "kept 0", "kept 0", "kept 0", "-", "-"}},
    {"unmapped",
     [](PageWord w) { return w.unmapped(); },
     {"inside 0", "inside 0", "inside 0", "inside 0", "inside 0", "inside 0"}},
    // A read that was under way for the old address is not one for the new.
    {"relocated",
     [](PageWord w) { return w.relocated(); },
     {"inside 0", "inside+hot+warm 0", "doubtful 77", "kept 0", "far 9", "far 9"}},
    {"inherited",
     [](PageWord w) { return w.inherited(); },
     {"inside 0", "inside 0", "doubtful 77", "kept 0", "far 9", "far 9"}},
};

TEST(PageState, EveryLegalStepMakesWhatItSays) {
    for (const Step& step : kSteps) {
        for (std::size_t i = 0; i < kAll.size(); i++) {
            if (step.makes[i] == "-") continue;
            SCOPED_TRACE(std::string(step.name) + " from " + kAll[i].name);
            const PageWord after = step.take(kAll[i].word);
            if (step.makes[i] == "=") {
                EXPECT_EQ(after, kAll[i].word);
                continue;
            }
            EXPECT_EQ(seen(after), step.makes[i]);
            EXPECT_NE(after.generation(), kAll[i].word.generation())
                << "a late answer would be taken for this page";
        }
    }
}

TEST(PageStateDeathTest, EveryIllegalStepAborts) {
    for (const Step& step : kSteps) {
        for (std::size_t i = 0; i < kAll.size(); i++) {
            if (step.makes[i] != "-") continue;
            SCOPED_TRACE(std::string(step.name) + " from " + kAll[i].name);
            EXPECT_DEATH(step.take(kAll[i].word), "page_state");
        }
    }
}

TEST(PageState, FaultActionFollowsWhereThePageIs) {
    for (PageWord inside : {kInside, kHot, kDoubtful, kKept}) {
        EXPECT_EQ(inside.fault_action(), FaultAction::kFillZeros) << seen(inside);
        EXPECT_FALSE(inside.has_slot());
    }
    for (PageWord far : {kFar, kFetching}) {
        EXPECT_EQ(far.fault_action(), FaultAction::kFromSlot);
        EXPECT_TRUE(far.has_slot());
    }
}

TEST(PageState, OnlyAColdPageThatIsInsideMayLeave) {
    for (const Named& named : kAll) {
        EXPECT_EQ(named.word.evictable(), std::string(named.name) == "inside") << named.name;
    }
    EXPECT_FALSE(kHot.passed_by(1).evictable()) << "it has another turn";
    EXPECT_TRUE(kHot.passed_by(1).passed_by(1).evictable()) << "the third sweep takes it";
}

TEST(PageState, DefaultWordsAreThoseThatNeedNoVisit) {
    for (const Named& named : kAll) {
        EXPECT_EQ(named.word.is_default(), std::string(named.name) == "inside") << named.name;
    }
    EXPECT_TRUE(kFar.unmapped().is_default()) << "whatever its generation";
}

TEST(PageState, AFarPageKeepsItsHeatAndWhenItLeft) {
    const PageWord warm = kHot.passed_by(2);
    for (PageWord far :
         {warm.evicted(9, 200), warm.evicted(9, 200).fetch_started(),
          warm.evicted(9, 200).fetch_started().fetch_ended(), warm.evicted(9, 200).relocated()}) {
        EXPECT_EQ(far.heat(), 3) << seen(far);
        EXPECT_EQ(far.left_at(), 200) << seen(far);
        EXPECT_FALSE(far.hot()) << "turns are of pages that are inside";
    }
    const PageWord of_child = warm.evicted(9, 200).inherited();
    EXPECT_EQ(of_child.heat(), 0);
    EXPECT_EQ(of_child.left_at(), 200);
    const PageWord back = kFar.brought_back_with_slot({5, 4});
    EXPECT_EQ(back.without_slot().heat(), 5);
    EXPECT_TRUE(back.without_slot().hot());
}

TEST(PageState, ValuesOfAllWidthsSurvive) {
    for (std::uint32_t value : {0u, 1u, 0x00ff'ffffu, 0x8000'0000u, 0xffff'ffffu}) {
        const PageWord far = kInside.evicted(value).fetch_started().relocated().inherited();
        EXPECT_EQ(far.value(), value);
        EXPECT_EQ(far.state(), PageState::kFar);
    }
}

TEST(PageState, GenerationWrapsWithoutTouchingTheRest) {
    PageWord word = kFar;
    constexpr std::uint32_t kGenerations = 1u << 16;
    for (std::uint32_t i = 0; i < kGenerations; i++) word = word.relocated();
    EXPECT_EQ(word, kFar);
}

}  // namespace
}  // namespace farswap
