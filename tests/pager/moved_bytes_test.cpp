// What a MOVE has taken, told by its answer and by the page tables.
#include "target/moved_bytes.h"

#include <gtest/gtest.h>

#include <set>

namespace farswap {
namespace {

constexpr std::uint64_t kSource = 0x10000000, kStaging = 0x20000000;
constexpr agent_range kRange{kSource, kStaging, 8 * kPageSize};

/// `in_place` and `in_staging`: page numbers of the range that are present there.
std::uint64_t pages_moved(std::uint64_t told, int error, const std::set<std::uint64_t>& in_place,
                          const std::set<std::uint64_t>& in_staging, unsigned probed = 0) {
    const agent_result result{told * kPageSize, error, probed};
    return moved_bytes(kRange, result,
                       [&](std::uint64_t page) {
                           return page < kStaging ? in_place.contains((page - kSource) / kPageSize)
                                                  : in_staging.contains((page - kStaging) / kPageSize);
                       }) /
           kPageSize;
}

TEST(MovedBytes, AreThoseOfAGoodAnswer) {
    EXPECT_EQ(pages_moved(8, 0, {}, {0, 1, 2, 3, 4, 5, 6, 7}), 8u);
    EXPECT_EQ(pages_moved(3, -16, {3, 4, 5, 6, 7}, {0, 1, 2}), 3u);
    EXPECT_EQ(pages_moved(0, -2, {}, {}, 1), 0u);
}

// Seen: 57 of 64 pages were said to be moved, EEXIST at the next, which was in staging and nowhere else. It
// was dropped there, and the program, and the child that it forked, read zeros.
TEST(MovedBytes, APageThatIsInStagingOnlyWasMovedWhateverTheAnswerSays) {
    EXPECT_EQ(pages_moved(3, -17, {4, 5, 6, 7}, {0, 1, 2, 3}), 4u);
    EXPECT_EQ(pages_moved(0, -11, {2, 3, 4, 5, 6, 7}, {0, 1}), 2u);
    EXPECT_EQ(pages_moved(7, -17, {}, {0, 1, 2, 3, 4, 5, 6, 7}), 8u) << "to the end of the range";
}

// mlockall(2) in the program fills staging.
TEST(MovedBytes, APageThatIsInBothPlacesWasNotMoved) {
    EXPECT_EQ(pages_moved(0, -17, {0, 1, 2, 3, 4, 5, 6, 7}, {0, 1, 2, 3, 4, 5, 6, 7}), 0u);
}

TEST(MovedBytes, APageThatIsNowhereWasNotMoved) {
    EXPECT_EQ(pages_moved(3, -2, {4, 5}, {0, 1, 2}), 3u);
}

}  // namespace
}  // namespace farswap
