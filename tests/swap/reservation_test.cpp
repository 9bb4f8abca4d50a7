// Space is reserved ahead of need; a full store, a slow one and one that refuses.
#include "area_fixture.h"
#include "base/units.h"

namespace farswap::test {
namespace {

class ReservationTest : public AreaTest {
  protected:
    void open_growing(std::uint64_t full_at = ~std::uint64_t{0}) {
        SwapAreaOptions options = quick();
        options.reserve_chunk = 4 * kMiB;
        open({.frames = 4096,
              .stores = {{.capacity = 64 * kMiB, .reserved = 4 * kMiB, .full_at = full_at}},
              .area = options});
    }
};

TEST_F(ReservationTest, TheNextChunkIsAskedForAheadOfNeed) {
    open_growing();
    add_pages(256, 0);
    EXPECT_EQ(store_->pending(Kind::kReserve), 0u) << "three quarters are free";
    add_pages(300, 0);
    EXPECT_EQ(store_->pending(Kind::kReserve), 1u) << "less than half a chunk is free";
    ASSERT_TRUE(store_->complete_one(Kind::kReserve));
    EXPECT_EQ(store_->reserved(), 8 * kMiB);
    EXPECT_EQ(store_->pending(Kind::kReserve), 0u);
}

TEST_F(ReservationTest, NeverMoreThanTheCapacity) {
    open_growing();
    std::size_t pages = 0;
    for (std::size_t more = 1; more > 0; pages += more) {
        more = add_pages(64, 0).size();
        settle();
    }
    EXPECT_EQ(pages, 64 * kMiB / kPageSize);
    EXPECT_EQ(store_->reserved(), 64 * kMiB);
    EXPECT_TRUE(area_->slots_exhausted());
    EXPECT_TRUE(failures_.empty());
}

TEST_F(ReservationTest, AFullStoreGivesItsRestAndIsExhausted) {
    open_growing(7 * kMiB);
    std::size_t pages = 0;
    for (std::size_t more = 1; more > 0; pages += more) {
        more = add_pages(64, 0).size();
        settle();
    }
    EXPECT_EQ(pages, 7 * kMiB / kPageSize);
    EXPECT_TRUE(area_->slots_exhausted());
    EXPECT_TRUE(failures_.empty()) << "a full store has not failed";
}

TEST_F(ReservationTest, TheUserIsWokenWhenSlotsAreGoneForGood) {
    open_growing(4 * kMiB);
    EXPECT_EQ(add_pages(1100, 0).size(), 1024u);
    EXPECT_FALSE(area_->slots_exhausted());
    settle();
    EXPECT_TRUE(area_->slots_exhausted());
    EXPECT_EQ(wakes_, 1);
}

TEST_F(ReservationTest, AFullStoreThatHasRoomAgainGrows) {
    open_growing(4 * kMiB);
    EXPECT_EQ(add_pages(1100, 0).size(), 1024u);
    settle();
    ASSERT_TRUE(area_->slots_exhausted());
    area_->try_to_grow();
    EXPECT_FALSE(area_->slots_exhausted()) << "it is being asked";
    area_->try_to_grow();
    EXPECT_EQ(store_->pending(Kind::kReserve), 1u) << "once is enough";
    settle();
    EXPECT_TRUE(area_->slots_exhausted());
    EXPECT_TRUE(failures_.empty());
    store_->set_full_at(64 * kMiB);
    area_->try_to_grow();
    settle();
    EXPECT_GE(store_->reserved(), 8 * kMiB) << "from then on in chunks";
    EXPECT_EQ(add_pages(64, 0).size(), 64u);
}

TEST_F(ReservationTest, AStoreThatHasFailedIsNotAskedAgain) {
    open_growing();
    store_->fail_next(Kind::kReserve, EACCES, 1);
    add_pages(1024, 0);
    settle();
    ASSERT_EQ(failures_.size(), 1u);
    area_->try_to_grow();
    EXPECT_EQ(store_->pending(Kind::kReserve), 0u);
}

TEST_F(ReservationTest, ATransientErrorIsTriedAgain) {
    open_growing();
    store_->fail_next(Kind::kReserve, ETIMEDOUT, 2);
    add_pages(600, 0);
    settle();
    EXPECT_EQ(store_->reserved(), 8 * kMiB);
    EXPECT_TRUE(failures_.empty());
}

TEST_F(ReservationTest, APermanentErrorIsReportedOnce) {
    open_growing();
    store_->fail_next(Kind::kReserve, EROFS, 100);
    add_pages(1100, 0);
    settle();
    ASSERT_EQ(failures_.size(), 1u);
    EXPECT_EQ(failures_[0].code, EROFS);
    EXPECT_THAT(failures_[0].message, ::testing::HasSubstr("memory:"));
    EXPECT_TRUE(area_->slots_exhausted());
}

}  // namespace
}  // namespace farswap::test
