// The rules of a slot's life: which event leads from which state to which. No I/O, no system call, no table
// of slots: whoever applies a rule does what the step says.
#pragma once

#include <cstdint>

namespace farswap {

/// Where a slot's page is. "Safe" means: the flush that covers its write has completed without loss.
enum class SlotState : std::uint8_t {
    kFree,           ///< nobody's
    kDirty,          ///< in the cache only
    kWriting,        ///< in the cache, a write of it in flight
    kRewriting,      ///< as kWriting, but the store has lost data meanwhile: the write will count for nothing
    kWritten,        ///< in the cache and acknowledged by the store, not safe yet
    kClean,          ///< in the cache and safe: the frame may be reused
    kStored,         ///< safe, on the store only
    kReading,        ///< safe, a read into a frame in flight
    kOrphanWriting,  ///< count 0, kept until its write has ended
    kOrphanReading,  ///< count 0, kept until its read has ended
    kFilled,         ///< all one word, which the slot map holds: neither frame nor store has anything of it
    kPacked,         ///< compressed, in memory only (packed_pages.h)
    kPackedStored,   ///< safe on the store, and compressed in memory as well
};
inline constexpr unsigned kSlotStates = 13;

enum class SlotEvent : std::uint8_t {
    kAdded,         ///< a page was put into the cache under this slot
    kWriteStarted,  ///< its frame is pinned and a request submitted
    kWriteDone,     ///< the store acknowledged the write
    kWriteFailed,   ///< the write was given up
    kFlushed,       ///< a flush that covers the write completed
    kLost,          ///< the store lost what it had acknowledged since the last good flush
    kDropped,       ///< the memory is wanted for another page
    kReadStarted,   ///< a frame was taken and a request submitted
    kReadDone,      ///< the content arrived and its checksum matches
    kReadFailed,    ///< the read was given up, or the checksum does not match
    kLastPut,       ///< the count fell to 0
    kAddedFilled,   ///< a page that is all one word was put under this slot
    kAddedPacked,   ///< a page was compressed and put under this slot
    kPackedAway,    ///< its page was compressed, in place of the frame
    kUnpacked,      ///< ... and expanded into a frame again, to be written
    kPackedToo,     ///< its page, which is back on the store only, was compressed as well
};
inline constexpr unsigned kSlotEvents = 16;

/// What an event does to a slot.
struct SlotStep {
    SlotState next = SlotState::kFree;
    bool legal = false;           ///< false: the event cannot happen in that state, the caller is broken
    bool releases_frame = false;  ///< the slot gives its frame up
    bool frees_slot = false;      ///< the slot's place on the store may be handed out again
};

const SlotStep& slot_step(SlotState state, SlotEvent event) noexcept;

/// Whether the page is in memory, compressed.
constexpr bool is_packed(SlotState state) noexcept {
    return state == SlotState::kPacked || state == SlotState::kPackedStored;
}

/// Whether a slot in this state owns a frame.
constexpr bool has_frame(SlotState state) noexcept {
    return state != SlotState::kFree && state != SlotState::kStored && state != SlotState::kFilled &&
           !is_packed(state);
}

/// Whether the frame holds the page's content, for its user to read.
constexpr bool is_cached(SlotState state) noexcept {
    return state >= SlotState::kDirty && state <= SlotState::kClean;
}

/// Whether the page's content will outlive its frame as it is, if it has one.
constexpr bool is_safe(SlotState state) noexcept {
    return state == SlotState::kWritten || state == SlotState::kClean || state == SlotState::kStored ||
           state == SlotState::kReading || state == SlotState::kPackedStored;
}

/// Whether the page can be had without the store.
constexpr bool has_content(SlotState state) noexcept {
    return is_cached(state) || state == SlotState::kFilled || is_packed(state);
}

}  // namespace farswap
