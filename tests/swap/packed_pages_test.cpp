// Records kept in memory: their places, what they take, and that it is given back.
#include "swap/packed_pages.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <vector>

namespace farswap::test {
namespace {

std::vector<std::byte> record_of(std::uint32_t units, unsigned value) {
    return std::vector<std::byte>(units * kUnitBytes, static_cast<std::byte>(value));
}

std::uint32_t add(PackedPages& packed, const std::vector<std::byte>& record,
                  const PackedPages::Note& note = PackedPages::Note()) {
    const auto units = static_cast<std::uint32_t>(record.size() / kUnitBytes);
    const std::uint32_t number = packed.add(units, note);
    if (number != PackedPages::kNone) std::memcpy(packed.record(number, units), record.data(), record.size());
    return number;
}

TEST(PackedPages, KeepsRecordsOfAllLengthsApart) {
    auto packed = PackedPages::create(1u << 20);
    ASSERT_TRUE(packed) << packed.error().message;
    struct Kept {
        std::uint32_t number, units;
        unsigned value;
    };
    std::vector<Kept> kept;
    std::mt19937 random(1);
    std::uint64_t bytes = 0;
    for (unsigned step = 0; step < 20000; ++step) {
        const auto units = static_cast<std::uint32_t>(random() % kUnitsPerBlock + 1);
        const std::uint32_t number = add(*packed, record_of(units, step & 255));
        if (number != PackedPages::kNone) {
            kept.push_back({number, units, step & 255});
            bytes += units * kUnitBytes;
        } else {
            EXPECT_GT(bytes + units * kUnitBytes, packed->limit());
        }
        while (!kept.empty() && (number == PackedPages::kNone || random() % 3 == 0)) {
            std::swap(kept[random() % kept.size()], kept.back());
            const Kept one = kept.back();
            kept.pop_back();
            const auto wanted = record_of(one.units, one.value);
            ASSERT_EQ(std::memcmp(packed->record(one.number, one.units), wanted.data(), wanted.size()), 0);
            packed->remove(one.number, one.units);
            bytes -= one.units * kUnitBytes;
            if (random() % 2 == 0) break;
        }
        ASSERT_EQ(packed->bytes(), bytes);
        ASSERT_EQ(packed->records(), kept.size());
    }
}

// 2^29 records of 512 bytes are 256 GiB.
TEST(PackedPages, TakesNoMoreOfALengthThanThereAreNumbers) {
    constexpr std::uint32_t kMost = 64;
    auto packed = PackedPages::create(1u << 20, {.notes = true}, kMost);
    ASSERT_TRUE(packed);
    const auto record = record_of(2, 7);
    for (std::uint32_t i = 0; i < kMost; ++i)
        ASSERT_EQ(add(*packed, record, {.slot = i, .first_unit = 0, .check = 0}), i);
    EXPECT_EQ(add(*packed, record), PackedPages::kNone);
    EXPECT_EQ(packed->records(), kMost);
    EXPECT_NE(add(*packed, record_of(1, 7), {.slot = kMost, .first_unit = 0, .check = 0}), PackedPages::kNone)
        << "another length";
    packed->remove(5, 2);
    EXPECT_EQ(add(*packed, record, {.slot = 5, .first_unit = 0, .check = 0}), 5u);
}

TEST(PackedPages, TakesTheLowestPlaceAndGivesMemoryBack) {
    auto packed = PackedPages::create(64u << 20);
    ASSERT_TRUE(packed);
    const auto record = record_of(3, 7);
    std::vector<std::uint32_t> numbers;
    for (int i = 0; i < 64; ++i) numbers.push_back(add(*packed, record));
    packed->remove(numbers[5], 3);
    EXPECT_EQ(add(*packed, record), numbers[5]);
    const auto is_present = [&](std::uint32_t number) {
        const auto at = reinterpret_cast<std::uintptr_t>(packed->record(number, 3)) / kPageSize * kPageSize;
        unsigned char present = 0;
        EXPECT_EQ(::mincore(reinterpret_cast<void*>(at), kPageSize, &present), 0);
        return (present & 1) != 0;
    };
    ASSERT_TRUE(is_present(numbers[63]));
    for (int i = 56; i < 64; ++i) packed->remove(numbers[i], 3);
    // Asked of a neighbour's number, as the slab has none left.
    numbers[56] = add(*packed, record);
    EXPECT_TRUE(is_present(numbers[56]));
    const auto last = reinterpret_cast<std::uintptr_t>(packed->record(numbers[56], 3)) + 2 * kPageSize;
    unsigned char present = 0;
    ASSERT_EQ(::mincore(reinterpret_cast<void*>(last / kPageSize * kPageSize), kPageSize, &present), 0);
    EXPECT_EQ(present & 1, 0) << "the slab was not given back";
}

TEST(PackedPages, KnowsWhatOpensEachRecordThatIsSealed) {
    auto packed = PackedPages::create(1u << 20, {.seals = true});
    ASSERT_TRUE(packed);
    for (const std::uint32_t units : {1u, 5u, kUnitsPerBlock})
        for (std::uint64_t i = 0; i < 3; ++i)
            packed->seal(packed->add(units), units) = {.number = units, .tag = i};
    for (const std::uint32_t units : {1u, 5u, kUnitsPerBlock})
        for (std::uint32_t i = 0; i < 3; ++i) {
            EXPECT_EQ(packed->seal(i, units).number, units);
            EXPECT_EQ(packed->seal(i, units).tag, i);
        }
}

}  // namespace
}  // namespace farswap::test
