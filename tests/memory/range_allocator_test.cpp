// Pieces of a range, against a plain array of who has which page.
#include "memory/range_allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace farswap {
namespace {

TEST(RangeAllocator, GivesTheFirstPieceThatFits) {
    RangeAllocator pages(10);
    EXPECT_EQ(pages.take(4), 0u);
    EXPECT_EQ(pages.take(4), 4u);
    EXPECT_EQ(pages.take(4), std::nullopt);
    EXPECT_EQ(pages.take(2), 8u);
    EXPECT_EQ(pages.pages_free(), 0u);
    pages.give_back(0, 4);
    pages.give_back(8, 2);
    EXPECT_EQ(pages.take(5), std::nullopt);
    pages.give_back(4, 4);  // joins both neighbours
    EXPECT_EQ(pages.take(10), 0u);
}

TEST(RangeAllocator, NoPageIsTakenTwiceAndNoneIsLost) {
    constexpr std::uint64_t kPages = 257;
    struct Piece {
        std::uint64_t first, count;
    };
    RangeAllocator pages(kPages);
    std::vector<bool> taken(kPages);
    std::vector<Piece> pieces;
    std::mt19937 random(1);
    for (int step = 0; step < 20000; step++) {
        if (random() % 2 == 0) {
            const std::uint64_t count = 1 + random() % 40;
            const auto first = pages.take(count);
            if (!first) continue;
            for (std::uint64_t page = *first; page < *first + count; page++) {
                ASSERT_LT(page, kPages);
                ASSERT_FALSE(taken[page]);
                taken[page] = true;
            }
            pieces.push_back({*first, count});
        } else if (!pieces.empty()) {
            std::swap(pieces[random() % pieces.size()], pieces.back());
            const Piece piece = pieces.back();
            pieces.pop_back();
            pages.give_back(piece.first, piece.count);
            std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(piece.first), piece.count, false);
        }
        ASSERT_EQ(pages.pages_free(), static_cast<std::uint64_t>(std::ranges::count(taken, false)));
    }
    for (const Piece& piece : pieces) pages.give_back(piece.first, piece.count);
    EXPECT_EQ(pages.take(kPages), 0u);
}

}  // namespace
}  // namespace farswap
