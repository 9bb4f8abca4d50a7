// Records of pages: tags, numbers, and pages that are one word.
#include "swap/page_records.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <tuple>
#include <vector>

#include "allocation_counter.h"
#include "swap/fill_pages.h"

namespace farswap {
namespace {

using Page = std::array<std::byte, kPageSize>;

Page page_of(unsigned value) {
    Page page;
    for (std::size_t i = 0; i < page.size(); ++i) page[i] = static_cast<std::byte>(i * 31 + value + i / 256);
    return page;
}

/// Half of it is random.
Page half_random(unsigned value) {
    Page page{};
    std::mt19937 random(value);
    for (std::size_t i = 0; i < page.size() / 2; ++i) page[i] = static_cast<std::byte>(random());
    return page;
}
Page random_page(unsigned value) {
    Page page;
    std::mt19937 random(value);
    for (std::byte& byte : page) byte = static_cast<std::byte>(random());
    return page;
}

class PageRecordsTest : public ::testing::TestWithParam<std::tuple<bool, Compression>> {
  protected:
    SlotMap map_ = SlotMap::create(8).value();
    PageRecords records_ =
        PageRecords::create({.outside = std::get<0>(GetParam())}, std::get<1>(GetParam())).value();

    /// What goes to the store, in the last bytes of a block.
    Page record_of(SlotId slot, const Page& page) {
        Page record{};
        if (records_.differ()) {
            records_.make(map_, slot, 0, page.data(), record.data());
        } else {
            record = page;
            map_.set_units(slot, kUnitsPerBlock);
        }
        const std::size_t length = map_.units(slot) * kUnitBytes;
        std::memmove(record.data() + kPageSize - length, record.data(), length);
        return record;
    }
    std::byte* begin(SlotId slot, Page& block) {
        return block.data() + kPageSize - map_.units(slot) * kUnitBytes;
    }
};

TEST_P(PageRecordsTest, APageComesBackFromItsRecordInThePlaceOfItsBlock) {
    for (const Page& page : {page_of(1), half_random(1), random_page(1)}) {
        records_.note(map_, 3, page.data());
        Page block = record_of(3, page);
        EXPECT_TRUE(records_.is_of(map_, 3, 0, page.data()));
        EXPECT_FALSE(records_.is_of(map_, 3, 0, page_of(2).data()));
        ASSERT_TRUE(records_.open(map_, 3, 0, begin(3, block), block.data()));
        EXPECT_EQ(block, page);
    }
}

TEST_P(PageRecordsTest, AnotherRecordIsNotIts) {
    std::mt19937 random(7);
    for (const Page& page : {page_of(1), half_random(1), random_page(1)}) {
        records_.note(map_, 3, page.data());
        const Page right = record_of(3, page);
        const std::size_t length = map_.units(3) * kUnitBytes;
        for (int i = 0; i < 200; ++i) {
            Page block = right;
            block[kPageSize - 1 - random() % length] ^= static_cast<std::byte>(1 + random() % 255);
            const bool opened = records_.open(map_, 3, 0, begin(3, block), block.data());
            // In the clear a bit of the filling behind a packed page may change; the page may not.
            EXPECT_TRUE(!opened || (!records_.sealed() && block == page));
        }
    }
}

TEST_P(PageRecordsTest, ThePageIsWatchedUntilItsRecordIsMade) {
    Page page = page_of(1);
    records_.note(map_, 3, page.data());
    EXPECT_TRUE(records_.unchanged(map_, 3, page.data()));
    page[5] ^= std::byte{1};
    EXPECT_FALSE(records_.unchanged(map_, 3, page.data()));
}

TEST_P(PageRecordsTest, RecordsTakeAsManyUnitsAsTheyNeed) {
    const bool packs = std::get<1>(GetParam()) != Compression::kOff;
    const Page half = half_random(5), all = random_page(5);
    records_.note(map_, 1, half.data());
    record_of(1, half);
    EXPECT_EQ(map_.units(1), packs ? 5u : kUnitsPerBlock);
    records_.note(map_, 1, all.data());
    EXPECT_EQ(map_.units(1), 0u);
    record_of(1, all);
    EXPECT_EQ(map_.units(1), kUnitsPerBlock);
}

INSTANTIATE_TEST_SUITE_P(Kinds, PageRecordsTest,
                         ::testing::Combine(::testing::Bool(),
                                            ::testing::Values(Compression::kOff, Compression::kLz4,
                                                              Compression::kZstd)));

TEST(PageRecords, ARecordThatIsMadeAgainIsTheSame) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");  // what is secret is not given to children
    PageRecords records = PageRecords::create({.outside = true}, Compression::kLz4).value();
    SlotMap map = SlotMap::create(2).value();
    const Page page = half_random(1);
    Page first{}, again{};
    records.note(map, 1, page.data());
    records.make(map, 1, 0, page.data(), first.data());
    const SealNumber number = map.seal(1);
    records.make(map, 1, 0, page.data(), again.data());
    EXPECT_EQ(first, again);
    EXPECT_EQ(map.seal(1), number);
    EXPECT_DEATH(records.make(map, 1, 0, half_random(2).data(), again.data()), "tag == map.tag");

    records.note(map, 1, page.data());
    records.make(map, 1, 0, page.data(), again.data());
    EXPECT_NE(first, again) << "the slot's next page, although it is equal";
    EXPECT_GT(map.seal(1), number);
}

TEST(PageRecords, WhatStaysInMemoryIsSealedIfItMayNotBeReadThere) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    PageRecords records = PageRecords::create({.outside = false, .inside = true}, Compression::kLz4).value();
    EXPECT_FALSE(records.sealed());
    for (const Page& page : {page_of(1), half_random(1), random_page(1)}) {
        const auto record = records.pack_to_keep(page.data());
        const std::vector<std::byte> plain(record.begin(), record.end());
        const auto units = static_cast<std::uint32_t>(plain.size() / kUnitBytes);
        std::vector<std::byte> first(plain.size()), second(plain.size());
        MemorySeal seal{}, other{};
        records.keep(record, first.data(), &seal);
        records.keep(records.pack_to_keep(page.data()), second.data(), &other);
        EXPECT_NE(first, second) << "one page, twice under one number";
        for (std::size_t i = 0; i + 16 <= plain.size(); ++i)
            ASSERT_NE(std::memcmp(plain.data() + i, first.data() + i, 16), 0) << "in the clear at " << i;
        Page opened;
        records.unpack(first.data(), units, &seal, opened.data());
        EXPECT_EQ(opened, page);
        records.unpack(second.data(), units, &other, opened.data());
        EXPECT_EQ(opened, page);
        EXPECT_DEATH(records.unpack(first.data(), units, &other, opened.data()), "ours");
    }
}

TEST(PageRecords, TakesNothingFromTheHeap) {
    for (const Compression compression : {Compression::kLz4, Compression::kZstd}) {
        PageRecords records = PageRecords::create({.outside = true}, compression).value();
        SlotMap map = SlotMap::create(2).value();
        const Page page = half_random(1);
        Page block{};
        const test::AllocationCounter counter;
        for (int i = 0; i < 100; ++i) {
            records.note(map, 1, page.data());
            records.make(map, 1, 0, page.data(), block.data());
            ASSERT_TRUE(records.is_of(map, 1, 0, page.data()));
            ASSERT_TRUE(records.open(map, 1, 0, block.data(), block.data()));
        }
        EXPECT_EQ(counter.allocations(), 0u) << name_of(compression);
    }
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
    for (std::uint32_t i = 0; i < PageWindow::kPages; ++i) pages.push_back(fills.page(128 + i, i * 3));
    for (std::uint32_t i = 0; i < PageWindow::kPages; ++i) {
        EXPECT_EQ(pages[i], pages[0] + i * kPageSize);
        EXPECT_EQ(fill_word(pages[i]), i * 3);
    }
    EXPECT_EQ(fill_word(fills.page(128, 5)), 5u);
}

}  // namespace
}  // namespace farswap
