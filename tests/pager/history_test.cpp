// The series of a job: what is kept when samples and regions are merged, that nothing grows, nor is lost.
#include "pager/history.h"

#include <gtest/gtest.h>

#include <numeric>
#include <utility>

#include "allocation_counter.h"
#include "farswap/request.h"
#include "pager/regions.h"

namespace farswap {
namespace {

HistorySample sample_at(std::uint64_t ms) {
    return {.at_ms = ms, .ram_bytes = ms % 1000, .far_pages = ms / 10, .faults = ms * 3};
}

TEST(History, HalvesItsResolutionWhenItIsFull) {
    History history;
    FaultLatencies latencies;
    constexpr std::size_t kAdded = History::kSamplesMax * 5 + 3;
    for (std::size_t i = 1; i <= kAdded; i++) {
        latencies[FaultKind::kStored].add(100'000);
        history.add(sample_at(i * 200), latencies);
        EXPECT_LE(history.size(), History::kSamplesMax);
    }
    history.finish();
    EXPECT_GE(history.size(), History::kSamplesMax / 2);
    std::uint64_t refaults = 0;
    for (std::size_t i = 0; i < history.size(); i++) {
        refaults += history.refaults(i);
        EXPECT_EQ(history[i].faults, history[i].at_ms * 3) << "a sample is of its end";
        if (i > 0 && i + 1 < history.size()) {
            EXPECT_EQ(history[i].at_ms - history[i - 1].at_ms, 8 * 200u) << i;
        }
    }
    EXPECT_EQ(history[history.size() - 1].at_ms, kAdded * 200);
    EXPECT_EQ(refaults, kAdded) << "none is lost";
}

TEST(History, KeepsTheMostRam) {
    History history;
    for (std::size_t i = 0; i < History::kSamplesMax + 1; i++)
        history.add({.at_ms = i, .ram_bytes = i == 20 ? 5000u : 7u}, {});
    EXPECT_EQ(history[10].ram_bytes, 5000u);
    EXPECT_EQ(history[11].ram_bytes, 7u);
}

TEST(History, HasQuantilesOfEachStretch) {
    History history;
    FaultLatencies latencies;
    for (int i = 0; i < 99; i++) latencies[FaultKind::kCached].add(10'000);
    latencies[FaultKind::kRoom].add(50'000'000);
    latencies[FaultKind::kFirstTouch].add(1'000'000'000);  // does not count
    history.add(sample_at(200), latencies);
    history.add(sample_at(400), latencies);
    EXPECT_NEAR(static_cast<double>(history.quantile(0, 0.5)), 10'000, 2'500);
    EXPECT_NEAR(static_cast<double>(history.quantile(0, 0.999)), 50'000'000, 12'500'000);
    EXPECT_EQ(history.refaults(1), 0u) << "there were none since";
    EXPECT_EQ(history.quantile(1, 0.5), 0u);
}

TEST(History, AllocatesNothingOnTheWay) {
    History history;
    Regions regions;
    const FaultLatencies latencies;
    const test::AllocationCounter counter;
    for (std::uint64_t i = 0; i < 3000; i++) {
        history.add(sample_at(i), latencies);
        regions.refault(i << 20);
        regions.make_room();
        regions.end_stretch(i);
    }
    EXPECT_EQ(counter.allocations(), 0u);
}

std::pair<std::uint64_t, std::uint64_t> totals(const Regions& regions) {
    std::uint64_t refaults = 0, far = 0;
    for (const auto row : regions.rows_by_address()) {
        for (std::size_t column = 0; column < regions.columns(); column++)
            refaults += regions.cell(row, column).refaults;
        if (regions.columns() > 0) far += regions.cell(row, regions.columns() - 1).far_pages;
    }
    return {refaults, far};
}

TEST(Regions, BecomeLargerWhenThereAreTooMany) {
    Regions regions;
    constexpr std::uint64_t kFirst = 0x7f00'0000'0000;
    std::uint64_t noted = 0;
    for (std::uint64_t i = 0; i < 10 * Regions::kRowsMax; i++) {
        // With no row free a refault may be left out until room is made.
        regions.refault(kFirst + i * (1u << 18));
        regions.make_room();
        noted++;
        if (i % 100 == 0) regions.end_stretch(i);
    }
    regions.end_stretch(noted);
    EXPECT_GT(regions.region_bytes(), 1u << Regions::kLeastShift);
    const auto rows = regions.rows_by_address();
    EXPECT_LE(rows.size(), Regions::kRowsMax);
    for (std::size_t i = 1; i < rows.size(); i++)
        EXPECT_LT(regions.row(rows[i - 1]).key, regions.row(rows[i]).key);
    EXPECT_GE(totals(regions).first + 10, noted);
    EXPECT_LE(totals(regions).first, noted);
}

TEST(Regions, StretchesBecomeLonger) {
    Regions regions;
    regions.note_mapped(0, 1 << 20, false);
    constexpr std::uint64_t kStretches = Regions::kColumnsMax * 3 + 1;
    for (std::uint64_t i = 1; i <= kStretches; i++) {
        regions.refault(4096);
        regions.begin_pass();
        for (std::uint64_t page = 0; page < i % 5; page++) regions.note_far(page * kPageSize);
        regions.end_pass();
        regions.end_stretch(i * 200);
    }
    regions.finish();
    EXPECT_LE(regions.columns(), Regions::kColumnsMax);
    EXPECT_EQ(regions.ended_ms(regions.columns() - 1), kStretches * 200);
    EXPECT_EQ(totals(regions), (std::pair<std::uint64_t, std::uint64_t>{kStretches, kStretches % 5}));
}

TEST(Regions, KnowWhatIsMappedUnderWhichName) {
    Regions regions;
    const std::uint64_t region = regions.region_bytes();
    regions.begin_mapped();
    regions.note_mapped(region, 3 * region, false);
    regions.note_mapped(0, region << 30, true);  // mostly empty: makes no rows
    regions.begin_names();
    regions.note_name(0, 2 * region, "[heap]");
    regions.note_name(2 * region, 2 * region + kPageSize, "small");
    regions.note_name(2 * region + kPageSize, 3 * region, "/lib/large.so");
    const auto rows = regions.rows_by_address();
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(regions.name_of(regions.row(rows[0])), "[heap]");
    EXPECT_EQ(regions.name_of(regions.row(rows[1])), "/lib/large.so");
    EXPECT_EQ(regions.row(rows[0]).mapped_pages, 2 * region / kPageSize) << "of two processes";
}

}  // namespace
}  // namespace farswap
