// The curve of misses on synthetic traces: what one memory shows is compared with what a simulated pager does
// with others, and where its order of eviction makes no difference with exact LRU stack distances.
#include "pager/miss_curve.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <random>
#include <unordered_map>

#include "allocation_counter.h"
#include "farswap/request.h"

namespace farswap {
namespace {

using Trace = std::vector<std::uint32_t>;
using Back = MissCurve::Back;

std::uint64_t cap_of(std::size_t pages) {
    return MissCurve::cap_for(pages * kPageSize);
}

/// Pages leave as farswap's do: by a hand that goes round through the addresses. Misses of pages that had
/// been there before; `curve` is told what a pager would tell.
std::size_t refaults(const Trace& trace, std::size_t memory, MissCurve* curve = nullptr) {
    enum : std::uint8_t { kNew, kInside, kFar };
    const std::size_t pages = *std::ranges::max_element(trace) + 1;
    std::vector<std::uint8_t> state(pages, kNew);
    std::size_t inside = 0, far = 0, hand = 0, misses = 0, calls = 0;
    for (const std::uint32_t page : trace) {
        if (curve != nullptr && calls++ % 4096 == 0)
            curve->note({cap_of(memory), inside * kPageSize, (inside + far) * kPageSize});
        if (state[page] == kInside) continue;
        if (inside == memory) {
            while (state[hand] != kInside) hand = (hand + 1) % pages;
            state[hand] = kFar;
            inside--;
            far++;
            if (curve != nullptr) curve->left(hand);
        }
        if (state[page] == kFar) {
            misses++;
            far--;
            if (curve != nullptr) curve->came_back(page, Back::kStored);
        }
        state[page] = kInside;
        inside++;
    }
    if (curve != nullptr) curve->note({cap_of(memory), inside * kPageSize, (inside + far) * kPageSize});
    return misses;
}

/// Misses under LRU of pages that had been there before, by Mattson's stack (Gecsei, Slutz and Traiger,
/// 1970).
std::size_t lru_refaults(const Trace& trace, std::size_t memory) {
    std::list<std::uint32_t> stack;
    std::unordered_map<std::uint32_t, std::list<std::uint32_t>::iterator> places;
    std::vector<bool> seen(*std::ranges::max_element(trace) + 1);
    std::size_t misses = 0;
    for (const std::uint32_t page : trace) {
        if (const auto at = places.find(page); at != places.end()) {
            stack.erase(at->second);
        } else {
            if (seen[page]) misses++;
            if (stack.size() == memory) {
                places.erase(stack.back());
                stack.pop_back();
            }
        }
        seen[page] = true;
        places[page] = stack.insert(stack.begin(), page);
    }
    return misses;
}

double predicted(const MissCurve& curve, std::size_t seen, std::size_t memory) {
    return static_cast<double>(seen) *
           curve.predict(cap_of(memory)).backs[static_cast<std::size_t>(Back::kStored)];
}

void append_uniform(Trace& trace, std::uint32_t first, std::uint32_t pages, std::size_t accesses) {
    std::mt19937_64 random(trace.size() + 1);
    for (std::size_t i = 0; i < accesses; i++)
        trace.push_back(first + static_cast<std::uint32_t>(random() % pages));
}

Trace uniform(std::uint32_t pages, std::size_t accesses) {
    Trace trace;
    append_uniform(trace, 0, pages, accesses);
    return trace;
}

void append_loop(Trace& trace, std::uint32_t first, std::uint32_t pages, std::size_t rounds) {
    for (std::size_t round = 0; round < rounds; round++)
        for (std::uint32_t page = 0; page < pages; page++) trace.push_back(first + page);
}

/// The n-th most popular page is wanted in proportion to 1/n; they lie about in no order.
Trace zipf(std::uint32_t pages, std::size_t accesses) {
    std::vector<double> weights(pages);
    for (std::uint32_t i = 0; i < pages; i++) weights[i] = 1.0 / (1 + (i * 7919ull) % pages);
    std::discrete_distribution<std::uint32_t> popular(weights.begin(), weights.end());
    std::mt19937_64 random(3);
    Trace trace;
    for (std::size_t i = 0; i < accesses; i++) trace.push_back(popular(random));
    return trace;
}

TEST(MissCurve, PagesAtRandomAreMissedAsOftenAsTheyAreOutside) {
    const Trace trace = uniform(10'000, 400'000);
    MissCurve curve;
    const std::size_t seen = refaults(trace, 2'000, &curve);
    for (const std::size_t memory : {2'000u, 4'000u, 7'000u, 9'000u}) {
        const auto expected = static_cast<double>(refaults(trace, memory));
        EXPECT_NEAR(predicted(curve, seen, memory), expected, 0.08 * expected) << memory;
        EXPECT_NEAR(predicted(curve, seen, memory), static_cast<double>(lru_refaults(trace, memory)),
                    0.08 * expected)
            << memory;
    }
    EXPECT_EQ(predicted(curve, seen, 10'001), 0);
}

TEST(MissCurve, PopularPagesAreMissedLessOften) {
    const Trace trace = zipf(10'000, 600'000);
    MissCurve curve;
    const std::size_t seen = refaults(trace, 2'000, &curve);
    for (const std::size_t memory : {3'000u, 4'000u, 7'000u}) {
        const auto expected = static_cast<double>(refaults(trace, memory));
        EXPECT_NEAR(predicted(curve, seen, memory), expected, 0.15 * expected) << memory;
    }
}

TEST(MissCurve, AWalkThroughMoreThanFitsMissesAllAndThroughLessNothing) {
    Trace trace;
    append_loop(trace, 0, 10'000, 30);
    MissCurve curve;
    const std::size_t seen = refaults(trace, 2'000, &curve);
    for (const std::size_t memory : {4'000u, 7'000u, 9'500u}) {
        const auto expected = static_cast<double>(lru_refaults(trace, memory));
        EXPECT_EQ(expected, static_cast<double>(refaults(trace, memory)));
        EXPECT_NEAR(predicted(curve, seen, memory), expected, 0.05 * expected) << memory;
    }
    EXPECT_EQ(predicted(curve, seen, 10'000), 0);
}

TEST(MissCurve, EachPhaseHasItsOwnNeed) {
    Trace trace;
    append_uniform(trace, 0, 3'000, 100'000);
    append_loop(trace, 0, 10'000, 10);
    append_uniform(trace, 5'000, 5'000, 100'000);
    MissCurve curve;
    const std::size_t seen = refaults(trace, 2'000, &curve);
    for (const std::size_t memory : {4'000u, 7'000u}) {
        const auto expected = static_cast<double>(refaults(trace, memory));
        EXPECT_NEAR(predicted(curve, seen, memory), expected, 0.15 * expected) << memory;
    }
}

TEST(MissCurve, FewerPagesAreFollowedWhereThereAreMore) {
    const Trace trace = uniform(100'000, 1'500'000);
    MissCurve curve;
    const std::size_t seen = refaults(trace, 20'000, &curve);
    EXPECT_GT(curve.departures(), 50 * MissCurve::kDeparturesMax);
    EXPECT_GT(curve.misses_followed(), MissCurve::kDeparturesMax / 4);
    EXPECT_EQ(curve.came_back(Back::kStored), seen);
    const auto expected = static_cast<double>(refaults(trace, 50'000));
    EXPECT_NEAR(predicted(curve, seen, 50'000), expected, 0.10 * expected);
}

TEST(MissCurve, AsNumbersItIsTheSame) {
    MissCurve curve;
    refaults(uniform(3000, 60'000), 600, &curve);
    const auto words = curve.words();
    EXPECT_LE(words.size(), MissCurve::kWordsMax);
    const auto other = MissCurve::of_words(words);
    ASSERT_TRUE(other);
    EXPECT_EQ(other->misses_followed(), curve.misses_followed());
    EXPECT_EQ(other->departures(), curve.departures());
    for (const std::size_t memory : {600, 1200, 2400}) {
        EXPECT_EQ(other->predict(cap_of(memory)).departures, curve.predict(cap_of(memory)).departures);
        EXPECT_EQ(other->predict(cap_of(memory)).backs, curve.predict(cap_of(memory)).backs);
    }
    EXPECT_TRUE(MissCurve::of_words(MissCurve().words()));
}

TEST(MissCurve, WhatAreNoSuchNumbersIsRefused) {
    MissCurve curve;
    refaults(uniform(300, 3000), 60, &curve);
    const auto good = curve.words();
    for (std::size_t length = 0; length < good.size(); length++)
        EXPECT_FALSE(MissCurve::of_words(std::span(good).first(length)));
    std::mt19937_64 random(1);
    for (int i = 0; i < 3000; i++) {
        auto words = good;
        words[random() % words.size()] = i % 2 == 0 ? random() : words[random() % words.size()];
        if (const auto odd = MissCurve::of_words(words)) (void)odd->predict(cap_of(120));
    }
}

TEST(MissCurve, WithoutDeparturesThereIsNothingToSay) {
    MissCurve curve;
    curve.note({cap_of(1'000), 500 * kPageSize, 500 * kPageSize});
    EXPECT_EQ(curve.misses_followed(), 0u);
    EXPECT_EQ(curve.predict(cap_of(2'000)).departures, 1);
}

TEST(MissCurve, WhatHasAnotherNameNowIsLeftOut) {
    MissCurve curve;
    curve.came_back(5, Back::kStored);
    curve.left(5);
    curve.came_back(6, Back::kStored);
    curve.came_back(5, Back::kAlong);
    curve.came_back(5, Back::kStored);  // it did not leave again
    EXPECT_EQ(curve.misses_followed(), 0u);
}

TEST(MissCurve, ALessCapThanThereWasIsTakenForThat) {
    const Trace trace = uniform(5'000, 50'000);
    MissCurve curve;
    refaults(trace, 2'000, &curve);
    EXPECT_EQ(curve.predict(cap_of(100)).departures, 1);
}

TEST(MissCurve, NothingIsAllocatedWhilePagesComeAndGo) {
    const Trace trace = uniform(30'000, 100'000);
    MissCurve curve;
    const test::AllocationCounter counter;
    for (const std::uint32_t page : trace) {
        curve.left(page);
        curve.came_back(page, Back::kCached);
        curve.note({1, 1, 1});
    }
    EXPECT_EQ(counter.allocations(), 0u);
}

}  // namespace
}  // namespace farswap
