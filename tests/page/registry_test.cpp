// The registry: look-ups while other entries change under them.
#include "page/registry.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>

#include "page/frame_table.h"

namespace farswap {
namespace {

/// A table of frames whose memory is only an address: tables never touch it.
class Table {
  public:
    explicit Table(std::uintptr_t memory)
        : table_({storage_, sizeof storage_}, reinterpret_cast<std::byte*>(memory), kFrames) {
        table_.add(kFrames);
    }
    FrameTable& operator*() { return table_; }
    const std::byte* memory() const { return table_.memory().data(); }

  private:
    static constexpr std::uint32_t kFrames = 4;
    alignas(Frame) std::byte storage_[kFrames * (sizeof(Frame) + sizeof(FreeBitmap::Word))];
    FrameTable table_;
};

constexpr std::uintptr_t kLow = 1ul << 30, kMiddle = 2ul << 30, kHigh = 3ul << 30;

TEST(Registry, FindsByMemoryAndByHandleUntilRetiredAndRemoved) {
    Table table(kMiddle);
    (*table).allocate_run(1);
    const page* const handle = (*table).pin(table.memory(), true);
    EXPECT_EQ(registry::find_memory(table.memory()), nullptr);
    ASSERT_TRUE(registry::add(*table));
    EXPECT_EQ(registry::find_memory(table.memory()), &*table);
    EXPECT_EQ(registry::find_handle(handle), &*table);
    registry::retire(*table);
    EXPECT_EQ(registry::find_memory(table.memory()), nullptr);
    EXPECT_EQ(registry::find_handle(handle), &*table);
    registry::remove(*table);
    EXPECT_EQ(registry::find_handle(handle), nullptr);
}

// An entry that turns from a low pool into a high one must never look like one that reaches from low to high.
TEST(Registry, EntryThatChangesIsNeverMistakenForOursNorHidesIt) {
    Table low(kLow), middle(kMiddle), high(kHigh);
    ASSERT_TRUE(registry::add(*low));  // its entry comes before that of `middle`
    ASSERT_TRUE(registry::add(*middle));
    std::atomic<bool> done{false};
    std::thread writer([&] {
        for (int i = 0; i < 100'000; ++i) {
            registry::remove(*low);
            EXPECT_TRUE(registry::add(*high));
            registry::remove(*high);
            EXPECT_TRUE(registry::add(*low));
        }
        done = true;
    });
    int wrong = 0;
    while (!done.load(std::memory_order_relaxed)) wrong += registry::find_memory(middle.memory()) != &*middle;
    writer.join();
    EXPECT_EQ(wrong, 0);
    registry::remove(*low);
    registry::remove(*middle);
}

}  // namespace
}  // namespace farswap
