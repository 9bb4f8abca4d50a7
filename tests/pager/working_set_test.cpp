// Pages that come back soon stay longer; what a walk comes by does not; and the fewer pages are missed for
// it.
#include "pager/working_set.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace farswap {
namespace {

constexpr std::uint64_t kHolds = 800;  // pages: a tick is 100

PageWord far_since(std::uint8_t left_at, std::uint8_t heat = 0) {
    return PageWord{}.evicted(1).brought_back({heat, 0}).evicted(1, left_at);
}

TEST(WorkingSet, WhoComesBackSoonerStaysLonger) {
    WorkingSet set;
    const PageWord far = far_since(set.now());
    EXPECT_EQ(set.refaulted(far).turns, 3);
    set.left(199, kHolds);
    EXPECT_EQ(set.refaulted(far).turns, 3) << "less than a quarter of what is inside has left since";
    set.left(1, kHolds);
    EXPECT_EQ(set.refaulted(far).turns, 1);
    set.left(599, kHolds);
    EXPECT_EQ(set.refaulted(far).turns, 1) << "somewhat less than all of it";
    set.left(1, kHolds);
    EXPECT_EQ(set.refaulted(far).turns, 0);
}

TEST(WorkingSet, HeatGrowsToItsMostAndIsHalvedByALongAbsence) {
    WorkingSet set;
    PageWord far = far_since(0);
    for (int times = 1; times <= 10; times++) {
        const Warmth warmth = set.refaulted(far);
        EXPECT_EQ(warmth.heat, std::min(3 * times, 15));
        EXPECT_EQ(warmth.turns, warmth.heat);
        far = far_since(0, warmth.heat);
    }
    set.left(kHolds, kHolds);
    EXPECT_EQ(set.refaulted(far), (Warmth{7, 7}));
}

TEST(WorkingSet, WhatAWalkComesByKeepsItsHeatAndGetsNoTurn) {
    EXPECT_EQ(WorkingSet::passed_through(far_since(0, 9)), (Warmth{9, 0}));
}

TEST(WorkingSet, TheClockGoesOnInSmallStepsAndWithHardlyAnythingInside) {
    WorkingSet set;
    for (int i = 0; i < 250; i++) set.left(1, kHolds);
    EXPECT_EQ(set.now(), 2);
    set.left(5, 0);
    EXPECT_EQ(set.now(), 57) << "a tick for each page";
}

TEST(WorkingSet, TurnsGoFasterWhenASweepPassesMostPagesBy) {
    WorkingSet set;
    EXPECT_EQ(set.turns_at_once(), 1u);
    for (int i = 0; i < 100; i++) set.swept(10, 100);
    EXPECT_EQ(set.turns_at_once(), 2u);
    for (int i = 0; i < 100; i++) set.swept(0, 1000);
    EXPECT_EQ(set.turns_at_once(), 4u);
    for (int i = 0; i < 200; i++) set.swept(100, 100);
    EXPECT_EQ(set.turns_at_once(), 1u);
}

/// A sweep through memory, as Pager::choose_victims() does it, over words alone.
class Memory {
  public:
    Memory(std::size_t pages, std::size_t inside, bool aware)
        : words_(pages), inside_(inside), aware_(aware) {
        for (std::size_t page = inside; page < pages; page++) words_[page] = PageWord{}.evicted(1);
    }
    /// Whether it had to come back.
    bool touch(std::size_t page, bool in_walk) {
        PageWord& word = words_[page];
        if (word.is_inside()) return false;
        Warmth warmth;
        if (aware_) warmth = in_walk ? WorkingSet::passed_through(word) : set_.refaulted(word);
        word = word.brought_back(warmth);
        sweep();
        return true;
    }

  private:
    void sweep() {
        std::uint32_t passed = 0;
        for (;; hand_ = (hand_ + 1) % words_.size()) {
            PageWord& word = words_[hand_];
            if (word.evictable()) break;
            if (!word.is_inside()) continue;
            word = word.passed_by(set_.turns_at_once());
            passed++;
        }
        words_[hand_] = words_[hand_].evicted(1, set_.now());
        hand_ = (hand_ + 1) % words_.size();
        set_.left(1, inside_);
        set_.swept(1, passed);
    }

    std::vector<PageWord> words_;
    std::size_t inside_;
    std::size_t hand_ = 0;
    bool aware_;
    WorkingSet set_;
};

/// Of accesses by a Zipf distribution of 0.99 over pages in no order, every fourth one a step of a walk if
/// `walks`, how many were missed after a while.
std::size_t misses(bool aware, double inside, bool walks) {
    constexpr std::size_t kPages = 4096, kAccesses = 400'000;
    std::mt19937 random(1);
    std::vector<double> share(kPages);
    for (std::size_t rank = 0; rank < kPages; rank++)
        share[rank] = std::pow(static_cast<double>(rank + 1), -0.99);
    std::discrete_distribution<std::size_t> rank(share.begin(), share.end());
    std::vector<std::size_t> page_of(kPages);
    std::iota(page_of.begin(), page_of.end(), 0);
    std::shuffle(page_of.begin(), page_of.end(), random);
    Memory memory(kPages, static_cast<std::size_t>(kPages * inside), aware);
    std::size_t count = 0, walk = 0;
    for (std::size_t i = 0; i < kAccesses; i++) {
        const bool in_walk = walks && i % 4 == 0;
        const bool missed = memory.touch(in_walk ? walk++ % kPages : page_of[rank(random)], in_walk);
        count += missed && i > kAccesses / 3;
    }
    return count;
}

TEST(WorkingSet, FewerPagesAreMissedThanWithASweepAlone) {
    for (const double inside : {0.25, 0.5}) {
        const auto with = static_cast<double>(misses(true, inside, false));
        const auto without = static_cast<double>(misses(false, inside, false));
        EXPECT_LT(with, 0.92 * without) << inside;
    }
}

TEST(WorkingSet, AWalkDoesNotPushOutWhatIsInUse) {
    const auto with = static_cast<double>(misses(true, 0.75, true));
    const auto without = static_cast<double>(misses(false, 0.75, true));
    EXPECT_LT(with, 0.9 * without);
}

}  // namespace
}  // namespace farswap
