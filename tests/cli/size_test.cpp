// What is concluded from a run about other caps, and how it is said; from given figures.
#include <gmock/gmock.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/control_socket.h"
#include "cli/size_estimate.h"
#include "cli/size_text.h"
#include "farswap/request.h"

namespace farswap::cli {
namespace {

using ::testing::HasSubstr;
using Verdict = SizeEstimate::Verdict;

/// A job of 100 MiB under 40 MiB: 20 s of work, and faults of 200 us each.
struct PagedRun {
    explicit PagedRun(std::uint64_t faults) {
        JobStats stats;
        stats.ram_cap = 40 * kMiB;
        stats.need_peak = 100 * kMiB;
        stats.pages_evicted = faults;
        for (std::uint64_t i = 0; i < faults; i++) stats.latencies[FaultKind::kStored].add(200'000);
        stats.elapsed_s = 20 + static_cast<double>(faults) * 200e-6;
        facts = size_facts_of(stats, 20);
        const std::uint64_t pages = 100 * kMiB / kPageSize, inside = 30 * kMiB / kPageSize;
        const MissCurve::Conditions conditions{40 * kMiB, 30 * kMiB, 100 * kMiB};
        // A walk round and round: each page comes back when all others have left.
        for (std::uint64_t i = 0; i < faults; i++) {
            misses.left(i * 7919 % pages);
            if (i % 1000 == 0) misses.note(conditions);
            if (i < pages - inside) continue;
            misses.came_back((i - (pages - inside)) * 7919 % pages, MissCurve::Back::kStored);
        }
        misses.note(conditions);
    }
    SizeEstimate estimate() const { return estimate_size(facts, misses); }

    SizeFacts facts{};
    MissCurve misses;
};

// Root asks the pagers of all users, and prints what they say.
TEST(ErrorInAnAnswer, IsTextWithoutControlCharactersWhateverTheAnswerIs) {
    EXPECT_FALSE(error_in({{"cap_bytes", 1}}));
    EXPECT_FALSE(error_in(nlohmann::json::array({"error"})));
    const auto plain = error_in({{"error", "too small"}, {"code", EINVAL}});
    ASSERT_TRUE(plain);
    EXPECT_EQ(plain->message, "too small");
    EXPECT_EQ(plain->code, EINVAL);
    const auto odd = error_in({{"error", "\x1b]0;title\a\n"}, {"code", "x"}});
    ASSERT_TRUE(odd);
    EXPECT_EQ(odd->message, "?]0;title??");
    EXPECT_EQ(odd->code, EIO);
    EXPECT_TRUE(error_in({{"error", 7}}));
}

TEST(SizeEstimate, SplitsARunIntoItsWorkAndItsWaits) {
    const auto estimate = PagedRun(200'000).estimate();
    ASSERT_EQ(estimate.verdict, Verdict::kKnown);
    EXPECT_NEAR(estimate.full_speed_s, 20, 0.5);
    EXPECT_NEAR(estimate.curve.front().seconds, 60, 0.5) << "under its own cap it takes what it took";
    EXPECT_EQ(estimate.curve.front().cap, 40 * kMiB);
    EXPECT_NEAR(estimate.curve.back().seconds, 20, 0.5) << "with all that it needs nothing is waited for";
    EXPECT_TRUE(std::ranges::is_sorted(estimate.curve, std::ranges::greater(), &SizePoint::seconds));
    ASSERT_TRUE(estimate.nearly_full);
    EXPECT_GE(*estimate.nearly_full, 100 * kMiB);
    EXPECT_LE(*estimate.nearly_full, 125 * kMiB);
}

TEST(SizeEstimate, WhatIsUnseenOfFaultsIsNotTakenForWork) {
    PagedRun run(200'000);
    run.facts.elapsed_s += 10;
    EXPECT_NEAR(run.estimate().full_speed_s, 20, 0.5);
    run.facts.elapsed_s += 1000;
    EXPECT_GT(run.estimate().full_speed_s, 900) << "but it may have waited for something else";
}

TEST(SizeEstimate, SaysWhenThereIsTooLittleToSay) {
    EXPECT_EQ(PagedRun(0).estimate().verdict, Verdict::kNoMisses);
    EXPECT_THAT(size_lines(PagedRun(0).estimate())[0], HasSubstr("too few misses to predict (0)"));
    PagedRun brief(50);
    brief.facts.elapsed_s = brief.facts.user_s = 0.01;
    EXPECT_EQ(brief.estimate().verdict, Verdict::kTooFew);
    EXPECT_THAT(size_lines(brief.estimate())[0], HasSubstr("ran too short"));
    EXPECT_TRUE(size_json(brief.estimate()).at("curve").empty());
}

TEST(SizeText, IsAPlotAndASentence) {
    const auto lines = size_lines(PagedRun(200'000).estimate());
    ASSERT_GT(lines.size(), 8u);
    for (std::size_t i = 0; i + 1 < lines.size(); i++) EXPECT_LE(lines[i].size(), 70u) << lines[i];
    EXPECT_THAT(lines[1], HasSubstr("40 MiB  ########################################  60."));
    EXPECT_THAT(lines.back(), HasSubstr("it runs within 5% of full speed; with "));
    EXPECT_THAT(
        lines.back(),
        HasSubstr("with less, more than twice as long; with 40 MiB, as in this run, 3.0 times as long"));
}

TEST(SizeText, ProgramsGetTheCurve) {
    const auto json = size_json(PagedRun(200'000).estimate());
    EXPECT_EQ(json.at("verdict"), "known");
    EXPECT_EQ(json.at("curve").size(), 25u);
    EXPECT_EQ(json.at("curve")[0].at("cap_bytes"), 40 * kMiB);
    EXPECT_GT(json.at("half_speed_bytes"), 40 * kMiB);
}

TEST(SizeText, OfAJobThatGoesOnItSaysSo) {
    const auto lines = size_lines(PagedRun(200'000).estimate(), SizeOf::kSoFar);
    EXPECT_THAT(lines.front(), HasSubstr("predicted time of its run so far"));
    EXPECT_THAT(lines.back(), HasSubstr("with 40 MiB, as it has now, 3.0 times as long"));
    EXPECT_THAT(size_lines(PagedRun(0).estimate(), SizeOf::kSoFar)[0],
                HasSubstr("(0): so far it needs no more"));
}

TEST(SizeText, AnotherProcessConcludesTheSame) {
    const PagedRun run(200'000);
    const auto facts = size_facts_from(nlohmann::json::parse(size_facts_json(run.facts).dump()));
    const auto misses = MissCurve::of_words(run.misses.words());
    ASSERT_TRUE(facts);
    ASSERT_TRUE(misses);
    EXPECT_EQ(size_json(estimate_size(*facts, *misses)).dump(), size_json(run.estimate()).dump());
}

TEST(SizeText, WhatIsNoneIsNotTaken) {
    EXPECT_FALSE(size_facts_from(nlohmann::json::object()));
    EXPECT_FALSE(size_facts_from(nlohmann::json::array()));
    auto json = size_facts_json(PagedRun(10).facts);
    json["waits"] = nlohmann::json::array({1, 2});
    EXPECT_FALSE(size_facts_from(json));
}

TEST(SizeText, FiguresThatNoRunHasAreNotTaken) {
    const auto good = nlohmann::json::parse(size_facts_json(PagedRun(10).facts).dump());
    ASSERT_TRUE(size_facts_from(good));
    for (const char* odd :
         {"-1", "1e300", "-1e300", "18446744073709551615", "1.5e13", "\"1\"", "true", "null", "[]"}) {
        const auto value = nlohmann::json::parse(odd);
        for (const char* place : {"/elapsed_s", "/user_s", "/cap_bytes", "/need_bytes", "/pages_evicted",
                                  "/waits/0/0", "/waits/0/1"}) {
            auto json = good;
            json[nlohmann::json::json_pointer(place)] = value;
            EXPECT_FALSE(size_facts_from(json)) << place << ' ' << odd;
        }
    }
    for (const char* place : {"/cap_bytes", "/waits/0/0"}) {
        auto json = good;
        json[nlohmann::json::json_pointer(place)] = 0.5;
        EXPECT_FALSE(size_facts_from(json)) << "no whole number: " << place;
    }
}

}  // namespace
}  // namespace farswap::cli
