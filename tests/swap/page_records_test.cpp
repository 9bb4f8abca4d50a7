// Records of pages: tags, numbers, and pages that are one word.
#include "swap/page_records.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "swap/fill_pages.h"

namespace farswap {
namespace {

using Page = std::array<std::byte, kPageSize>;

Page page_of(unsigned value) {
    Page page;
    for (std::size_t i = 0; i < page.size(); ++i) page[i] = static_cast<std::byte>(i * 31 + value + i / 256);
    return page;
}

class PageRecordsTest : public ::testing::TestWithParam<bool> {
  protected:
    SlotMap map_ = SlotMap::create(8).value();
    PageRecords records_ = PageRecords::create(GetParam()).value();

    /// What goes to the store.
    Page record_of(SlotId slot, const Page& page) {
        if (!records_.sealed()) return page;
        Page record;
        records_.make(map_, slot, 0, page.data(), record.data());
        return record;
    }
};

TEST_P(PageRecordsTest, APageComesBackFromItsRecord) {
    const Page page = page_of(1);
    records_.note(map_, 3, page.data());
    Page record = record_of(3, page);
    EXPECT_EQ(record == page, !GetParam());
    EXPECT_TRUE(records_.is_of(map_, 3, 0, page.data()));
    EXPECT_FALSE(records_.is_of(map_, 3, 0, page_of(2).data()));
    ASSERT_TRUE(records_.open(map_, 3, 0, record.data()));
    EXPECT_EQ(record, page);
}

TEST_P(PageRecordsTest, AnotherRecordIsNotIts) {
    const Page page = page_of(1);
    records_.note(map_, 3, page.data());
    Page record = record_of(3, page);
    record[77] ^= std::byte{1};
    EXPECT_FALSE(records_.open(map_, 3, 0, record.data()));
}

TEST_P(PageRecordsTest, ThePageIsWatchedUntilItsRecordIsMade) {
    Page page = page_of(1);
    records_.note(map_, 3, page.data());
    EXPECT_TRUE(records_.unchanged(map_, 3, page.data()));
    page[5] ^= std::byte{1};
    EXPECT_FALSE(records_.unchanged(map_, 3, page.data()));
}

INSTANTIATE_TEST_SUITE_P(Both, PageRecordsTest, ::testing::Bool());

TEST(PageRecords, ARecordThatIsMadeAgainIsTheSame) {
    PageRecords records = PageRecords::create(true).value();
    SlotMap map = SlotMap::create(2).value();
    const Page page = page_of(1);
    Page first, again;
    records.note(map, 1, page.data());
    records.make(map, 1, 0, page.data(), first.data());
    const SealNumber number = map.seal(1);
    records.make(map, 1, 0, page.data(), again.data());
    EXPECT_EQ(first, again);
    EXPECT_EQ(map.seal(1), number);
    EXPECT_DEATH(records.make(map, 1, 0, page_of(2).data(), again.data()), "tag == map.tag");

    records.note(map, 1, page.data());
    records.make(map, 1, 0, page.data(), again.data());
    EXPECT_NE(first, again) << "the slot's next page, although it is equal";
    EXPECT_GT(map.seal(1), number);
}

TEST(FillWord, IsFoundOnlyWhereThePageIsNothingElse) {
    Page page{};
    EXPECT_EQ(fill_word(page.data()), 0u);
    page.fill(std::byte{0xab});
    EXPECT_EQ(fill_word(page.data()), 0xababababababababu);
    for (const std::size_t at :
         {std::size_t{0}, std::size_t{8}, std::size_t{2048}, kPageSize - 9, kPageSize - 1}) {
        Page other = page;
        other[at] = std::byte{1};
        EXPECT_FALSE(fill_word(other.data())) << at;
    }
    std::array<std::uint64_t, kPageSize / 8> words;
    words.fill(0x0123456789abcdefu);
    EXPECT_EQ(fill_word(reinterpret_cast<const std::byte*>(words.data())), 0x0123456789abcdefu);
}

TEST(FillPages, NeighboursLieNextToEachOtherAndLastForAWindow) {
    FillPages fills = FillPages::create().value();
    std::vector<const std::byte*> pages;
    for (std::uint32_t i = 0; i < FillPages::kPages; ++i) pages.push_back(fills.page(128 + i, i * 3));
    for (std::uint32_t i = 0; i < FillPages::kPages; ++i) {
        EXPECT_EQ(pages[i], pages[0] + i * kPageSize);
        EXPECT_EQ(fill_word(pages[i]), i * 3);
    }
    EXPECT_EQ(fill_word(fills.page(128, 5)), 5u);
}

}  // namespace
}  // namespace farswap
