// Seals: what opens, what does not, and that no two are alike.
#include "swap/seal.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "allocation_counter.h"

namespace farswap::test {
namespace {

using Bytes = std::vector<std::byte>;

Bytes page_of(unsigned value) {
    Bytes page(kPageSize);
    std::mt19937 random(value);
    for (std::byte& byte : page) byte = static_cast<std::byte>(random());
    return page;
}

class SealTest : public ::testing::Test {
  protected:
    struct Sealed {
        SealNumber number;
        SealPlace place;
        std::uint64_t tag;
        Bytes bytes;
    };

    Sealed seal(const Bytes& page, SealPlace place) {
        Sealed sealed{sealer_->next_number(), place, 0, Bytes(page.size())};
        sealed.tag = sealer_->seal(sealed.number, place, page.data(), static_cast<std::uint32_t>(page.size()),
                                   sealed.bytes.data());
        return sealed;
    }
    bool opens(const Sealed& sealed, Bytes* page = nullptr) {
        Bytes plain(sealed.bytes.size());
        const bool opened = sealer_->open(sealed.number, sealed.place, sealed.tag, sealed.bytes.data(),
                                          static_cast<std::uint32_t>(sealed.bytes.size()), plain.data());
        if (page) *page = plain;
        return opened;
    }

    std::unique_ptr<Sealer> sealer_ = Sealer::create().value();
};

TEST_F(SealTest, WhatWasSealedOpens) {
    for (const std::size_t length :
         {std::size_t{1}, std::size_t{17}, std::size_t{2048}, std::size_t{kPageSize}}) {
        Bytes page = page_of(1);
        page.resize(length);
        const Sealed sealed = seal(page, {1, 2});
        EXPECT_NE(sealed.bytes, page);
        Bytes opened;
        EXPECT_TRUE(opens(sealed, &opened));
        EXPECT_EQ(opened, page);
    }
}

TEST_F(SealTest, OpensInPlace) {
    const Bytes page = page_of(2);
    Sealed sealed = seal(page, {0, 7});
    ASSERT_TRUE(sealer_->open(sealed.number, sealed.place, sealed.tag, sealed.bytes.data(), kPageSize,
                              sealed.bytes.data()));
    EXPECT_EQ(sealed.bytes, page);
}

TEST_F(SealTest, NoBitMayChange) {
    const Sealed sealed = seal(page_of(3), {0, 1});
    std::mt19937 random(3);
    for (int i = 0; i < 2000; ++i) {
        Sealed changed = sealed;
        const std::size_t bit = random() % (kPageSize * 8);
        changed.bytes[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        EXPECT_FALSE(opens(changed)) << bit;
    }
    for (unsigned bit = 0; bit < 64; ++bit) {
        Sealed changed = sealed;
        changed.tag ^= std::uint64_t{1} << bit;
        EXPECT_FALSE(opens(changed)) << "tag, bit " << bit;
    }
    EXPECT_TRUE(opens(sealed));
}

TEST_F(SealTest, PlaceNumberAndLengthAreBoundToIt) {
    const Sealed sealed = seal(page_of(4), {1, 5});
    Sealed other = sealed;
    other.place.slot = 6;
    EXPECT_FALSE(opens(other)) << "another slot";
    other = sealed;
    other.place.store = 0;
    EXPECT_FALSE(opens(other)) << "another store";
    other = sealed;
    other.number += 1;
    EXPECT_FALSE(opens(other)) << "another time";
    other = sealed;
    other.bytes.resize(kPageSize / 2);
    EXPECT_FALSE(opens(other)) << "cut off";
}

TEST_F(SealTest, AnOlderRecordOfTheSameSlotIsRefused) {
    const Sealed old = seal(page_of(5), {0, 9});
    const Sealed now = seal(page_of(5), {0, 9});
    Sealed replayed = now;
    replayed.bytes = old.bytes;
    EXPECT_FALSE(opens(replayed));
}

TEST_F(SealTest, AnotherJobsRecordIsRefused) {
    const auto other = Sealer::create().value();
    const SealNumber number = other->next_number();
    Bytes sealed(kPageSize);
    const std::uint64_t tag = other->seal(number, {0, 1}, page_of(6).data(), kPageSize, sealed.data());
    EXPECT_FALSE(opens({number, {0, 1}, tag, sealed}));
}

TEST_F(SealTest, EqualPagesLookDifferent) {
    std::set<std::string> seen;
    const Bytes page(kPageSize);
    for (int i = 0; i < 1000; ++i) {
        const Bytes sealed = seal(page, {0, 3}).bytes;
        seen.insert(std::string(reinterpret_cast<const char*>(sealed.data()), 16));
    }
    EXPECT_EQ(seen.size(), 1000u);
}

TEST_F(SealTest, ARetryIsTheSameToTheByte) {
    const Bytes page = page_of(7);
    const Sealed first = seal(page, {0, 4});
    Bytes again(kPageSize);
    EXPECT_EQ(sealer_->seal(first.number, {0, 4}, page.data(), kPageSize, again.data()), first.tag);
    EXPECT_EQ(again, first.bytes);
}

TEST_F(SealTest, TheTagAloneTellsEqualContent) {
    const Bytes page = page_of(8);
    const Sealed sealed = seal(page, {0, 4});
    EXPECT_EQ(sealer_->tag_of(sealed.number, {0, 4}, page.data(), kPageSize), sealed.tag);
    Bytes other = page;
    other[4000] ^= std::byte{1};
    EXPECT_NE(sealer_->tag_of(sealed.number, {0, 4}, other.data(), kPageSize), sealed.tag);
}

TEST_F(SealTest, KeysChangeWithTheNumberAndOldOnesStayKnown) {
    const Bytes page = page_of(9);
    std::map<SealNumber, std::pair<std::uint64_t, Bytes>> sealed;
    for (const std::uint64_t key : {0u, 1u, 2u, 4095u}) {
        const SealNumber number = key << Sealer::kKeyBits | 77;
        auto& [tag, bytes] = sealed[number];
        bytes.resize(kPageSize);
        tag = sealer_->seal(number, {0, 1}, page.data(), kPageSize, bytes.data());
    }
    for (auto i = sealed.rbegin(); i != sealed.rend(); ++i)
        EXPECT_TRUE(opens({i->first, {0, 1}, i->second.first, i->second.second})) << i->first;
}

TEST_F(SealTest, NumbersAreNeverZeroAndNeverTheSame) {
    SealNumber last = 0;
    for (int i = 0; i < 1000; ++i) {
        const SealNumber number = sealer_->next_number();
        EXPECT_GT(number, last);
        last = number;
    }
}

std::uint32_t births = 5;

// Whoever goes on in a killed pager's place has its memory, and so its count; the epoch says so all the same.
TEST_F(SealTest, WhoeverGoesOnSealsInAnotherEpoch) {
    sealer_ = Sealer::create(+[]() noexcept { return births; }).value();
    const Bytes page = page_of(11);
    const Sealed before = seal(page, {0, 1});
    EXPECT_EQ(sealer_->epoch(), 1u);
    births++;
    const Sealed after = seal(page, {0, 1});
    EXPECT_EQ(after.number, before.number + 1 + (SealNumber{1} << SealNumbers::kCounterBits));
    EXPECT_EQ(sealer_->epoch(), 2u);
    EXPECT_EQ(sealer_->next_number(), after.number + 1) << "one birth is one epoch";
    births += 2;
    EXPECT_EQ(sealer_->epoch(), 3u) << "nobody sealed in between";
    EXPECT_TRUE(opens(before));
    EXPECT_TRUE(opens(after));
    EXPECT_NE(before.bytes, after.bytes);
}

TEST(SealNumbers, ACountThatIsThroughGoesOnInTheNextEpoch) {
    constexpr SealNumber kLastOfFirst = (SealNumber{2} << SealNumbers::kCounterBits) - 1;
    SealNumbers numbers(kLastOfFirst);
    EXPECT_EQ(numbers.epoch(), 1u);
    EXPECT_EQ(numbers.take(), kLastOfFirst);
    EXPECT_EQ(numbers.epoch(), 2u);
    EXPECT_EQ(numbers.take(), kLastOfFirst + 1);
    numbers.begin_epoch();
    EXPECT_EQ(numbers.epoch(), 3u);
    EXPECT_EQ(numbers.take(), (SealNumber{3} << SealNumbers::kCounterBits) + 1) << "the count goes on";
}

TEST(SealNumbers, NoneIsGivenTwiceAtTheEnd) {
    SealNumbers numbers(~SealNumber{0} - 2);
    const SealNumber last = numbers.take();
    numbers.begin_epoch();
    EXPECT_EQ(numbers.take(), last + 1) << "there is no other epoch";
    EXPECT_DEATH(numbers.take(), "invariant broken");
}

TEST_F(SealTest, TakesNothingFromTheHeap) {
    const Bytes page = page_of(10);
    Bytes sealed(kPageSize), plain(kPageSize);
    const AllocationCounter counter;
    for (int i = 0; i < 100; ++i) {
        const SealNumber number = sealer_->next_number();
        const std::uint64_t tag = sealer_->seal(number, {0, 1}, page.data(), kPageSize, sealed.data());
        ASSERT_TRUE(sealer_->open(number, {0, 1}, tag, sealed.data(), kPageSize, plain.data()));
        ASSERT_EQ(sealer_->tag_of(number, {0, 1}, page.data(), kPageSize), tag);
    }
    EXPECT_EQ(counter.allocations(), 0u);
}

}  // namespace
}  // namespace farswap::test
