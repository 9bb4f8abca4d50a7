// The state of every frame of a pool: owner's reference, pins, dirty. Knows where the frames' memory begins
// but never touches it, and nothing of how it was mapped.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "farswap/kernel_pages.h"
#include "farswap/request.h"
#include "page/free_bitmap.h"

namespace farswap {

class FrameTable;

/// One frame's state in one word, changed only by compare-and-swap:
///   bits  0-29  pins for reading     (I/O loads from the page)
///   bits 30-59  pins for writing     (I/O stores into the page)
///   bit  60     the owner's reference
///   bit  61     dirty: a pin for writing has been put since the frame was allocated
/// The frame's count is the owner's reference and all pins together; at zero the frame is free.
struct FrameWord {
    static constexpr int kPinBits = 30;
    static constexpr std::uint64_t kPinMax = (std::uint64_t{1} << kPinBits) - 1;
    static constexpr std::uint64_t kReadPin = 1;
    static constexpr std::uint64_t kWritePin = std::uint64_t{1} << kPinBits;
    static constexpr std::uint64_t kOwner = std::uint64_t{1} << 60;
    static constexpr std::uint64_t kDirty = std::uint64_t{1} << 61;

    std::uint64_t bits = 0;

    constexpr std::uint32_t read_pins() const { return static_cast<std::uint32_t>(bits & kPinMax); }
    constexpr std::uint32_t write_pins() const {
        return static_cast<std::uint32_t>(bits >> kPinBits & kPinMax);
    }
    constexpr std::uint32_t pins(bool for_writing) const { return for_writing ? write_pins() : read_pins(); }
    constexpr std::uint32_t all_pins() const { return read_pins() + write_pins(); }
    constexpr bool owned() const { return bits & kOwner; }
    constexpr bool dirty() const { return bits & kDirty; }
    constexpr bool free() const { return (bits & ~kDirty) == 0; }
};

/// A frame. The address of its first half is the handle (`page*`) of a pin for reading, that of its second
/// half the handle of one for writing, so that a handle tells frame and direction without being looked up.
struct alignas(16) Frame {
    std::atomic<std::uint64_t> word{0};
    FrameTable* table = nullptr;  ///< fixed
};
static_assert(sizeof(Frame) == 16);

/// What a handle stands for.
struct Pin {
    Frame* frame;
    bool for_writing;
};
Pin pin_of(const page* handle) noexcept;
page* handle_of(Frame& frame, bool for_writing) noexcept;

/// The frames of one pool. Every call may be made from any thread; none blocks, none allocates.
class FrameTable {
  public:
    /// Bytes of table memory that `frames` frames need.
    static std::size_t bytes_for(std::uint32_t frames) noexcept;
    /// `storage`: bytes_for(frames), aligned to a page. `memory`: the first frame's address. Both outlive
    /// this. No frame can be allocated before it is added.
    FrameTable(std::span<std::byte> storage, std::byte* memory, std::uint32_t frames) noexcept;
    FrameTable(const FrameTable&) = delete;
    FrameTable& operator=(const FrameTable&) = delete;

    /// The next so many frames can be allocated from now on. One thread at a time.
    void add(std::uint32_t count) noexcept;
    /// How many have been added: the first ones.
    std::uint32_t added() const noexcept { return added_; }

    /// Neighbouring frames, each with the owner's reference, no pin, clean.
    BitRun allocate_run(std::uint32_t count_max) noexcept;
    /// Drops the owner's reference (which must be there).
    void release(std::uint32_t frame) noexcept;
    /// Adds a pin to the frame that starts at `address`, which lies in this pool. Null when it is not the
    /// start of a frame or the frame's count is zero.
    page* pin(const void* address, bool for_writing) noexcept;
    /// Drops a pin (which must be there). Uses nothing of the table once the frame is visible as free.
    static void put(const page* handle) noexcept;

    FrameWord word(std::uint32_t frame) const noexcept {
        return {frames_[frame].word.load(std::memory_order_acquire)};
    }
    std::byte* address(const Frame& frame) const noexcept {
        return memory_ + static_cast<std::size_t>(&frame - frames_.data()) * kPageSize;
    }
    std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(frames_.size()); }
    std::uint32_t free_count() const noexcept { return free_.free_count(); }
    std::span<std::byte> memory() const noexcept { return {memory_, frames_.size() * kPageSize}; }
    std::span<const std::byte> handles() const noexcept {
        return std::as_bytes(std::span<const Frame>(frames_));
    }

    /// Waits until a put or release that is between its two steps (count zero, frame free) has left the
    /// table.
    void settle() const noexcept;

  private:
    /// One reference of a kind: what it adds to the word, where its kind is counted, what its end leaves
    /// behind.
    struct Reference {
        std::uint64_t unit;
        std::uint64_t field;
        std::uint64_t mark;
    };
    void drop(Frame& frame, Reference reference) noexcept;

    std::byte* memory_;
    std::span<Frame> frames_;
    FreeBitmap free_;
    std::uint32_t added_ = 0;
};

}  // namespace farswap
