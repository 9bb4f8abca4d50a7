// The set of pages, against a plain vector of flags.
#include "store/page_marks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace farswap {
namespace {

TEST(PageMarks, BehavesAsAVectorOfFlags) {
    for (const std::uint64_t pages : {1u, 63u, 64u, 65u, 5000u}) {
        PageMarks marks = PageMarks::create(pages).value();
        std::vector<bool> model(pages);
        std::mt19937 random(static_cast<unsigned>(pages));
        for (int step = 0; step < 3000; ++step) {
            const std::uint64_t first = random() % pages;
            const std::uint64_t count = 1 + random() % std::min<std::uint64_t>(pages - first, 200);
            const bool set = random() % 2 == 0;
            set ? marks.set({first, count}) : marks.clear({first, count});
            std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(first), count, set);

            const auto expected = static_cast<std::uint64_t>(std::ranges::count(model, true));
            ASSERT_EQ(marks.marked(), expected);
            ASSERT_EQ(marks.empty(), expected == 0);
            const std::uint64_t from = random() % pages;
            const auto begin = model.begin() + static_cast<std::ptrdiff_t>(from);
            const auto found = std::find(begin, model.end(), true);
            const PageMarks::Run run = marks.next(from, 100);
            ASSERT_EQ(run.count == 0, found == model.end());
            if (run.count == 0) continue;
            ASSERT_EQ(run.first, static_cast<std::uint64_t>(found - model.begin()));
            const auto end = std::find(found, model.end(), false);
            ASSERT_EQ(run.count, std::min<std::uint64_t>(100, static_cast<std::uint64_t>(end - found)));
            ASSERT_EQ(marks.any({from, 1}), *begin);
            ASSERT_TRUE(marks.all(run));
            ASSERT_EQ(marks.all({from, run.count}), run.first == from);
            if (run.first + run.count < pages) {
                const bool more = model[static_cast<std::size_t>(run.first + run.count)];
                ASSERT_EQ(marks.all({run.first, run.count + 1}), more);
            }
            ASSERT_TRUE(marks.any({from, run.first - from + 1}));
            ASSERT_FALSE(run.first > from && marks.any({from, run.first - from}));
        }
    }
}

TEST(PageMarks, ALargeStoreCostsNothingUntilItIsMarked) {
    PageMarks marks = PageMarks::create(std::uint64_t{1} << 32).value();  // 16 TiB
    EXPECT_EQ(marks.next(0, 1).count, 0u);
    marks.set({(std::uint64_t{1} << 32) - 1, 1});
    EXPECT_EQ(marks.next(5, 64).first, (std::uint64_t{1} << 32) - 1);
}

}  // namespace
}  // namespace farswap
