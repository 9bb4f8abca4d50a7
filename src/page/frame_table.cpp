// The state of every frame of a pool: transitions of the frame word.
#include "page/frame_table.h"

#include <sched.h>

#include <memory>

#include "base/assert.h"

namespace farswap {

namespace {

constexpr std::uintptr_t kWritingHalf = sizeof(Frame) / 2;

std::span<Frame> make_frames(std::span<std::byte> storage, std::uint32_t count, FrameTable* table) noexcept {
    FARSWAP_ASSERT(storage.size() >= FrameTable::bytes_for(count));
    auto* frames = reinterpret_cast<Frame*>(storage.data());
    for (std::uint32_t i = 0; i < count; ++i) std::construct_at(frames + i)->table = table;
    return {frames, count};
}

std::span<FreeBitmap::Word> make_words(std::span<std::byte> storage, std::uint32_t count) noexcept {
    auto* words = reinterpret_cast<FreeBitmap::Word*>(storage.data() + count * sizeof(Frame));
    const std::size_t size = FreeBitmap::words_for(count);
    for (std::size_t i = 0; i < size; ++i) std::construct_at(words + i);
    return {words, size};
}

constexpr std::uint64_t pin_unit(bool for_writing) {
    return for_writing ? FrameWord::kWritePin : FrameWord::kReadPin;
}

constexpr std::uint64_t pin_field(bool for_writing) {
    return FrameWord::kPinMax * pin_unit(for_writing);
}

}  // namespace

Pin pin_of(const page* handle) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(handle);
    return {reinterpret_cast<Frame*>(address & ~kWritingHalf), (address & kWritingHalf) != 0};
}

page* handle_of(Frame& frame, bool for_writing) noexcept {
    return reinterpret_cast<page*>(reinterpret_cast<std::uintptr_t>(&frame) +
                                   (for_writing ? kWritingHalf : 0));
}

std::size_t FrameTable::bytes_for(std::uint32_t frames) noexcept {
    return frames * sizeof(Frame) + FreeBitmap::words_for(frames) * sizeof(FreeBitmap::Word);
}

FrameTable::FrameTable(std::span<std::byte> storage, std::byte* memory, std::uint32_t frames) noexcept
    : memory_(memory),
      frames_(make_frames(storage, frames, this)),
      free_(make_words(storage, frames), frames) {}

void FrameTable::add(std::uint32_t count) noexcept {
    free_.add(added_, count);
    added_ += count;
}

BitRun FrameTable::allocate_run(std::uint32_t count_max) noexcept {
    const BitRun run = free_.take_run(count_max);
    for (Frame& frame : frames_.subspan(run.first, run.count)) {
        // Nobody else writes a free frame's word: pins do not revive it, and the bitmap gave it to us alone.
        FARSWAP_ASSERT(FrameWord{frame.word.load(std::memory_order_relaxed)}.free());
        frame.word.store(FrameWord::kOwner, std::memory_order_release);
    }
    return run;
}

void FrameTable::release(std::uint32_t frame) noexcept {
    FARSWAP_ASSERT(frame < size());
    drop(frames_[frame], {.unit = FrameWord::kOwner, .field = FrameWord::kOwner, .mark = 0});
}

page* FrameTable::pin(const void* address, bool for_writing) noexcept {
    const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(address) - memory_);
    if (offset % kPageSize != 0) return nullptr;
    FARSWAP_ASSERT(offset / kPageSize < frames_.size());
    Frame& frame = frames_[offset / kPageSize];
    std::uint64_t bits = frame.word.load(std::memory_order_relaxed);
    do {
        if (FrameWord{bits}.free()) return nullptr;
        FARSWAP_ASSERT(FrameWord{bits}.pins(for_writing) < FrameWord::kPinMax);
    } while (!frame.word.compare_exchange_weak(bits, bits + pin_unit(for_writing), std::memory_order_acquire,
                                               std::memory_order_relaxed));
    return handle_of(frame, for_writing);
}

void FrameTable::put(const page* handle) noexcept {
    const Pin pin = pin_of(handle);
    pin.frame->table->drop(*pin.frame, {.unit = pin_unit(pin.for_writing),
                                        .field = pin_field(pin.for_writing),
                                        .mark = pin.for_writing ? FrameWord::kDirty : 0});
}

/// Whoever brings the count to zero frees the frame.
void FrameTable::drop(Frame& frame, Reference reference) noexcept {
    std::uint64_t bits = frame.word.load(std::memory_order_relaxed);
    std::uint64_t after = 0;
    do {
        FARSWAP_ASSERT((bits & reference.field) != 0);  // one put or release too many
        after = (bits - reference.unit) | reference.mark;
        // Release: what the holder did to the page; acquire: what the other holders did, before it is reused.
    } while (
        !frame.word.compare_exchange_weak(bits, after, std::memory_order_acq_rel, std::memory_order_relaxed));
    if (FrameWord{after}.free()) free_.give_back(static_cast<std::uint32_t>(&frame - frames_.data()));
}

void FrameTable::settle() const noexcept {
    for (std::uint32_t frame = 0; frame < added_; ++frame) {
        while (word(frame).free() && !free_.is_free(frame)) ::sched_yield();
    }
}

}  // namespace farswap
