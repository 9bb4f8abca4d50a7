// Copies to one half of a mirror what it misses, from the other. Knows which pages; not why they are missing.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/zero_table.h"
#include "farswap/store.h"
#include "io/loop.h"
#include "store/page_marks.h"

namespace farswap {

class MirrorStore;
struct MirrorHalf;

struct ResyncOptions {
    std::uint32_t copies_max = 4;   ///< under way at a time
    std::uint32_t copy_pages = 64;  ///< in one copy, at most
    std::uint32_t batch_max = 256;  ///< copies between two flushes
    /// While the job has requests of its own in flight, a copy is followed by a rest as long as it took, at
    /// most this.
    std::chrono::milliseconds rest_max{100};
    std::chrono::milliseconds timeout{10000};     ///< of one transfer
    std::chrono::milliseconds retry_delay{1000};  ///< until pages that could not be copied are tried again
    std::uint32_t failures_max = 5;  ///< in a row, of writes to the half, before it is lost again
};

/// Goes through the missing pages in rounds, in the order of their offsets. A page stays missing until a
/// flush that covers its copy has completed; so a half that loses its writes meanwhile misses it still.
/// A page is never written by the job and copied at once: a copy does not begin where a write is in flight,
/// and a write waits for a copy that has begun (MirrorStore::dispatch).
/// A copy whose first sending may still be executed late, after its connection was lost, does not count: the
/// page may be free and get other bytes meanwhile. It is made again when that cannot be any more.
/// All memory is allocated when it is made.
class MirrorResync {
  public:
    /// `memory` is memory_needed() bytes, page-aligned.
    MirrorResync(MirrorStore& mirror, io::Loop& loop, const ResyncOptions& options,
                 ZeroTable<std::byte> memory);
    static std::size_t memory_needed(const ResyncOptions& options) noexcept {
        return std::size_t{options.copies_max} * options.copy_pages * kPageSize;
    }
    MirrorResync(const MirrorResync&) = delete;
    MirrorResync& operator=(const MirrorResync&) = delete;

    /// Begins; the half is up, and the other one complete.
    void start(MirrorHalf& target) noexcept;
    /// Starts no more and asks for what is under way to end; quiet() tells when it has.
    void stop() noexcept;
    /// Goes on: a write of the job's has ended.
    void advance() noexcept;
    /// The half may have lost what was written to it since its last flush: the copies, too, if it is the one
    /// that is copied to.
    void forget_batch(const MirrorHalf& half) noexcept;

    /// The pages are being written on the other half alone: copies that were made of them are old.
    void forget(PageMarks::Run pages) noexcept;

    bool running() const noexcept { return target_ != nullptr; }
    bool quiet() const noexcept { return busy_ == 0 && !flush_busy_; }
    bool overlaps(std::uint64_t offset, std::uint64_t length) const noexcept;
    std::uint64_t pages_copied() const noexcept { return pages_copied_; }

  private:
    struct Copier {
        MirrorResync* resync = nullptr;
        Request request;
        io::Timer rest;
        PageMarks::Run pages{};
        io::Clock::time_point began{};
        std::byte* buffer = nullptr;
        MirrorHalf* busy_on = nullptr;  ///< null: nothing is under way
        std::uint32_t losses = 0;       ///< when it began
    };

    bool begin_copy(Copier& copier) noexcept;
    void transfer(Copier& copier, MirrorHalf& half, std::uint32_t direction) noexcept;
    void transfer_ended(Copier& copier, int result) noexcept;
    void read_ended(Copier& copier, int result) noexcept;
    void write_ended(Copier& copier, int result) noexcept;
    void rest(Copier& copier) noexcept;
    void flush_batch() noexcept;
    void flush_ended(int result) noexcept;
    void end_round() noexcept;
    MirrorHalf& source() noexcept;
    bool in_doubt(PageMarks::Run pages) const noexcept;

    MirrorStore& mirror_;
    io::Loop& loop_;
    const ResyncOptions options_;
    ZeroTable<std::byte> memory_;
    std::unique_ptr<Copier[]> copiers_;
    std::unique_ptr<PageMarks::Run[]> batch_;  ///< copied, not flushed
    std::uint32_t batch_size_ = 0;
    MirrorHalf* target_ = nullptr;
    std::uint64_t cursor_ = 0;  ///< pages before it have had their turn in this round
    std::uint32_t busy_ = 0;    ///< copiers with a transfer under way
    std::uint32_t failures_ = 0;
    std::uint32_t losses_ = 0;  ///< times that the copies were lost
    FlushRequest flush_;
    io::Timer round_timer_;
    bool flush_busy_ = false;
    bool batch_lost_ = false;  ///< while its flush is under way
    std::uint64_t pages_copied_ = 0;
};

}  // namespace farswap
