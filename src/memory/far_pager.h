// The pager of one range of its own process: faults in, pages out, one cap. On a thread of its own; knows a
// swap area and a userfaultfd, and nothing of who uses the range.
//
// Other than the pager of other processes it needs no agent: UFFDIO_MOVE works on its own address space. The
// rule that keeps that one free of deadlock holds here for a thread: it never touches the range itself, has
// no signal handled on it, and waits for no lock that somebody who touches the range can hold.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "io/loop.h"
#include "page/pool.h"
#include "swap/swap_area.h"
#include "target/uffd.h"

namespace farswap {

/// [base, base + pages * kPageSize), and behind it room for kStagingPages more: anonymous, private,
/// untouched.
struct FarRange {
    std::byte* base = nullptr;
    std::uint64_t pages = 0;

    static constexpr std::uint64_t kStagingPages = 64;
    std::byte* staging() const noexcept { return base + pages * kPageSize; }
    std::uint64_t mapped_bytes() const noexcept { return (pages + kStagingPages) * kPageSize; }
};

class FarPager {
  public:
    /// Sizes in bytes; an empty `store` is the default store. Must be called, as everything that is not said
    /// to be for any thread, on the thread that calls run().
    static Result<std::unique_ptr<FarPager>> create(const FarRange& range, std::uint64_t ram,
                                                    std::uint64_t pool, const std::string& store);
    /// The store is given up. Nobody may touch the range any more.
    ~FarPager();

    /// Serves until stop().
    void run();
    /// Any thread.
    void stop() noexcept;
    /// Any thread but run()'s: what is in the pages is gone when it returns, and they are as new.
    void discard(std::uint64_t first, std::uint64_t count);

    struct Counters {
        std::atomic<std::uint64_t> ram_bytes, ram_peak_bytes, far_pages, faults, pages_out, pages_written,
            pages_in;
    };
    /// Any thread.
    const Counters& counters() const noexcept { return counters_; }

  private:
    // What is noted of a page. A slot of an inside page is kept: its content is still on the store.
    // kGivenUp: while it was on its way.
    enum Flag : std::uint8_t { kInside = 1, kWaiting = 2, kFetching = 4, kHot = 8, kGivenUp = 16 };
    struct Fetch {
        SlotFetch slot;
        FarPager* pager = nullptr;
        std::uint64_t page = 0;
        std::uint32_t width = 1;
        Fetch* next_free = nullptr;
    };
    struct Discard {
        std::uint64_t first, count;
        bool done = false;
        Discard* next = nullptr;
    };
    // Memory of zeros that takes RAM only where it was written.
    template <typename T>
    class Notes {
      public:
        explicit Notes(std::uint64_t count) : entries_(static_cast<T*>(std::calloc(count, sizeof(T)))) {}
        ~Notes() { std::free(entries_); }
        Notes(const Notes&) = delete;
        Notes& operator=(const Notes&) = delete;
        explicit operator bool() const noexcept { return entries_ != nullptr; }
        T& operator[](std::uint64_t i) noexcept { return entries_[i]; }

      private:
        T* entries_;
    };

    FarPager(const FarRange& range, std::uint64_t ram);
    Status open_range();
    Status open_area(std::uint64_t pool, const std::string& store);
    Status check_room() const;

    // Faults (far_pager.cpp).
    void read_faults();
    bool serve(std::uint64_t page);
    std::uint32_t note_streak(std::uint64_t page);
    void refill(std::uint64_t page);
    void fill_zeros(std::uint64_t page, std::uint32_t width);
    void fetch(std::uint64_t page, std::uint32_t width);
    void fetched(Fetch& fetch, const std::byte* data, int error);
    void bring_in(std::uint64_t page, const std::byte* data, bool is_hot);
    void bring_along(std::uint64_t page, std::uint32_t width);
    void copy_in(std::uint64_t page, const std::byte* data, std::uint64_t count);
    void wait(std::uint64_t page);
    void serve_waiting();
    void note_counters() noexcept;

    // Reclaim (far_reclaim.cpp).
    std::uint64_t room_pages() const noexcept;
    bool make_room(std::uint64_t pages);
    bool evict();
    std::uint64_t choose(std::uint32_t count_max, std::uint64_t& first);
    std::uint64_t move_out(std::uint64_t first, std::uint64_t count);
    std::uint64_t really_moved(std::uint64_t first, std::uint64_t told, std::uint64_t wanted) const;
    std::uint64_t forget_absent(std::uint64_t first, std::uint64_t count);
    bool is_absent(std::uint64_t at) const;
    void hand_over(std::uint64_t first, FrameRun frames);
    void add_changed(std::uint64_t first, FrameRun frames);
    bool give_up_slots(std::uint64_t looks_max);
    void discard_now(const Discard& discard);
    void do_discards();

    bool has(std::uint64_t page, Flag flag) noexcept { return (flags_[page] & flag) != 0; }
    SlotId slot(std::uint64_t page) noexcept { return slots_[page] - 1; }  // kNoSlot is 0 there
    void set_slot(std::uint64_t page, SlotId slot) noexcept { slots_[page] = slot + 1; }
    std::uint64_t address(std::uint64_t page) const noexcept {
        return reinterpret_cast<std::uintptr_t>(range_.base) + page * kPageSize;
    }

    const FarRange range_;
    const std::uint64_t ram_;
    Notes<std::uint8_t> flags_;
    Notes<std::uint32_t> slots_;
    std::uint64_t resident_ = 0;  // pages that are inside or on their way in
    std::uint64_t far_ = 0;       // pages that are outside
    std::uint64_t slots_peak_ = 0;
    std::uint64_t hand_ = 0;        // where the sweep for victims goes on
    std::uint64_t slots_hand_ = 0;  // and that for slots to give up
    std::uint64_t expected_ = 0;    // the page that a run of faults would touch next
    std::uint32_t streak_ = 1;

    std::unique_ptr<io::Loop> loop_;
    std::unique_ptr<Pool> pool_;
    std::unique_ptr<SwapArea> area_;
    target::Uffd uffd_;
    Fd pagemap_;                  // our own page tables
    bool staging_filled_ = true;  // mlockall(2) may fill staging, also before it was registered
    io::Watch watch_;
    io::Timer retry_;
    std::vector<std::uint64_t> waiting_;  // a ring of pages that wait for room, frames or a Fetch
    std::uint64_t waiting_first_ = 0, waiting_count_ = 0;
    std::vector<Fetch> fetches_;
    Fetch* free_fetch_ = nullptr;
    std::vector<std::byte> zeros_;

    std::mutex mutex_;  // held by us while blocks are discarded; by nobody who touches the range
    std::condition_variable discarded_;
    Discard* discards_ = nullptr;
    std::atomic<bool> stopping_ = false;
    Counters counters_{};
};

/// For what cannot be told to anybody else: a page, or the store, is lost. One line, and the end of the
/// process.
[[noreturn]] void end_process(const std::string& why) noexcept;

}  // namespace farswap
