// The slot map: size, packing, counts, and that it costs only what is used.
#include "swap/slot_map.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <fstream>

namespace farswap {
namespace {

TEST(SlotMap, AFreshEntryIsAFreeSlot) {
    SlotMap map = SlotMap::create(10).value();
    EXPECT_EQ(map.state(9), SlotState::kFree);
    EXPECT_EQ(map.count(9), 0u);
    EXPECT_EQ(map.frame(9), kNoFrame);
}

TEST(SlotMap, FieldsDoNotDisturbEachOther) {
    SlotMap map = SlotMap::create(3).value();
    map.set_state(1, SlotState::kOrphanReading);
    map.set_frame(1, 77);
    map.set_tag(1, ~std::uint64_t{0}, 12);
    map.increment(1);
    map.increment(1);
    EXPECT_EQ(map.state(1), SlotState::kOrphanReading);
    EXPECT_EQ(map.frame(1), 77u);
    EXPECT_EQ(map.count(1), 2u);
    map.set_state(1, SlotState::kStored);
    EXPECT_EQ(map.frame(1), kNoFrame);
    EXPECT_EQ(map.decrement(1), 1u);
    EXPECT_EQ(map.decrement(1), 0u);
    EXPECT_EQ(map.tag(1), ~std::uint64_t{0});
    EXPECT_EQ(map.seal(1), 12u);
    EXPECT_EQ(map.state(0), SlotState::kFree);
    EXPECT_EQ(map.state(2), SlotState::kFree);
}

TEST(SlotMap, CountsNeitherSaturateNorWrap) {
    SlotMap map = SlotMap::create(1).value();
    for (std::uint32_t i = 0; i < SlotMap::kCountMax; ++i) map.increment(0);
    EXPECT_EQ(map.count(0), SlotMap::kCountMax);
    EXPECT_EQ(map.state(0), SlotState::kFree);
    EXPECT_DEATH(map.increment(0), "kCountMax");
    SlotMap other = SlotMap::create(1).value();
    EXPECT_DEATH(other.decrement(0), "count");
    EXPECT_DEATH(static_cast<void>(other.count(1)), "slot");
}

struct Memory {
    std::uint64_t pages = 0, resident_pages = 0;
};
Memory memory_of_this_process() {
    Memory memory;
    std::ifstream("/proc/self/statm") >> memory.pages >> memory.resident_pages;
    return memory;
}
std::uint64_t resident_pages() {
    return memory_of_this_process().resident_pages;
}

TEST(SlotMap, TellsWhatToDoWhenAddressSpaceIsShort) {
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_AS, &before), 0);
    rlimit little = before;
    little.rlim_cur = memory_of_this_process().pages * 4096 + (std::uint64_t{256} << 20);
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &little), 0);
    const auto map = SlotMap::create(kNoSlot - 64);
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &before), 0);
    ASSERT_FALSE(map);
    EXPECT_EQ(map.error().code, ENOMEM);
    EXPECT_THAT(map.error().message, testing::HasSubstr("?size="));
}

TEST(SlotMap, ATerabyteCostsOnlyWhatIsUsed) {
    const std::uint64_t before = resident_pages();
    constexpr std::uint64_t kSlots = (std::uint64_t{1} << 40) / 4096;
    SlotMap map = SlotMap::create(kSlots).value();
    for (SlotId slot = 0; slot < kSlots; slot += kSlots / 16) map.increment(slot);
    EXPECT_LT(resident_pages(),
              before + 1024);  // it may shrink, too: the kernel drops pages of the program file
}

}  // namespace
}  // namespace farswap
