// IntervalSet against a set of single pages.
#include "target/intervals.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace farswap::target {

static bool operator==(const AddressRange& a, const AddressRange& b) {
    return a.start == b.start && a.end == b.end;
}

namespace {

using Ranges = std::vector<AddressRange>;

TEST(IntervalSet, MergesNeighboursAndOverlaps) {
    IntervalSet set;
    set.add(10, 20);
    set.add(30, 40);
    set.add(20, 30);
    EXPECT_EQ(set.ranges(), (Ranges{{10, 40}}));
    set.add(5, 50);
    EXPECT_EQ(set.ranges(), (Ranges{{5, 50}}));
    set.add(60, 60);
    set.add(70, 65);
    EXPECT_EQ(set.ranges(), (Ranges{{5, 50}})) << "empty ranges add nothing";
    EXPECT_EQ(set.bytes(), 45u);
}

TEST(IntervalSet, RangesAddedApartStayApart) {
    IntervalSet set;
    set.add_apart(20, 30);
    set.add_apart(10, 20);
    set.add_apart(30, 40);
    EXPECT_EQ(set.ranges(), (Ranges{{10, 20}, {20, 30}, {30, 40}}));
    EXPECT_EQ(*set.find(20), (AddressRange{20, 30}));
    set.add_apart(15, 35);
    EXPECT_EQ(set.ranges(), (Ranges{{10, 15}, {15, 35}, {35, 40}}));
}

TEST(IntervalSet, RemovingCutsAndSplits) {
    IntervalSet set;
    set.add(10, 40);
    set.remove(20, 30);
    EXPECT_EQ(set.ranges(), (Ranges{{10, 20}, {30, 40}}));
    set.remove(0, 15);
    set.remove(35, 100);
    EXPECT_EQ(set.ranges(), (Ranges{{15, 20}, {30, 35}}));
    set.remove(16, 16);
    EXPECT_EQ(set.bytes(), 10u);
    set.clear();
    EXPECT_TRUE(set.empty());
}

TEST(IntervalSet, EndsAreExclusive) {
    IntervalSet set;
    set.add(10, 20);
    EXPECT_EQ(set.find(9), nullptr);
    ASSERT_NE(set.find(10), nullptr);
    EXPECT_EQ(*set.find(19), (AddressRange{10, 20}));
    EXPECT_EQ(set.find(20), nullptr);
    EXPECT_EQ(set.missing(20, 30), (Ranges{{20, 30}}));
    EXPECT_TRUE(set.overlap(20, 30).empty());
    EXPECT_TRUE(set.missing(12, 18).empty());
}

class Oracle {
  public:
    void add(std::uint64_t start, std::uint64_t end) {
        for (; start < end; start++) members_.insert(start);
    }
    void remove(std::uint64_t start, std::uint64_t end) {
        for (; start < end; start++) members_.erase(start);
    }
    bool has(std::uint64_t at) const { return members_.contains(at); }
    /// The maximal ranges of [start, end) whose members are in the set, or are not.
    Ranges parts(std::uint64_t start, std::uint64_t end, bool in) const {
        Ranges ranges;
        for (; start < end; start++) {
            if (has(start) != in) continue;
            if (!ranges.empty() && ranges.back().end == start) {
                ranges.back().end++;
            } else {
                ranges.push_back({start, start + 1});
            }
        }
        return ranges;
    }

  private:
    std::set<std::uint64_t> members_;
};

TEST(IntervalSet, AgreesWithASetOfPages) {
    constexpr std::uint64_t kEnd = 64;
    std::mt19937_64 random(7);
    IntervalSet set;
    Oracle oracle;
    for (int step = 0; step < 5'000; step++) {
        std::uint64_t start = random() % kEnd, end = random() % (kEnd + 1);
        if (random() % 2 == 0) {
            set.add(start, end);
            oracle.add(start, end);
        } else {
            set.remove(start, end);
            oracle.remove(start, end);
        }
        ASSERT_EQ(set.ranges(), oracle.parts(0, kEnd, true));
        start = random() % kEnd,
        end = start + 1 + random() % (kEnd - start);  // a question about nothing is not asked
        ASSERT_EQ(set.missing(start, end), oracle.parts(start, end, false));
        ASSERT_EQ(set.overlap(start, end), oracle.parts(start, end, true));
        const AddressRange* found = set.find(start);
        ASSERT_EQ(found != nullptr, oracle.has(start));
        ASSERT_TRUE(found == nullptr || (found->start <= start && start < found->end));
    }
}

}  // namespace
}  // namespace farswap::target
