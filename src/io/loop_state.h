// What a loop is made of; shared by loop.cpp, requests.cpp and watches.cpp, included by no one else.
#pragma once

#include <vector>

#include "base/fd.h"
#include "io/index_queue.h"
#include "io/loop.h"
#include "io/ring.h"
#include "io/timer_heap.h"

namespace farswap::io {

class Requests;

/// A request that has a place in the table. The place is free again only when the kernel has answered, so
/// that a completion always finds its request.
struct Operation {
    enum class Kind : std::uint8_t { kTransfer, kSync, kAllocate };

    Request* request = nullptr;  ///< null: free
    File* file = nullptr;
    Kind kind = Kind::kTransfer;
    bool in_kernel = false;
    int abort = 0;  ///< -ECANCELED or -ETIMEDOUT once an early end is wanted
    Requests* table = nullptr;
    Timer deadline;
};

/// The file requests of a loop.
///
/// A request is in one of these places: `waiting` (the table is full; linked by Request::next), the table, or
/// `finished` (its result is known, its callback is due in the next round; linked too).
class Requests {
  public:
    Requests(std::uint32_t requests_max, Ring& ring, TimerHeap& timers);

    void submit(Request& request, File& file, Operation::Kind kind) noexcept;
    void refuse(Request& request, int result) noexcept;
    void cancel(Request& request, int reason) noexcept;
    /// Turns queued operations and cancellations into submission entries.
    void flush() noexcept;
    void completed(std::uint32_t index, int result) noexcept;
    /// Calls back the finished requests; those that finish meanwhile are left for the next round.
    int run_finished() noexcept;

    bool any_finished() const noexcept { return finished_.head != nullptr; }
    std::uint32_t accepted() const noexcept { return accepted_; }
    std::uint32_t in_kernel() const noexcept { return in_kernel_; }
    void cancel_all() noexcept;

    Status register_memory(std::span<std::byte> memory);
    bool memory_registered() const noexcept { return !memory_.empty(); }
    Status register_file(File& file);
    void unregister_file(File& file) noexcept;

  private:
    struct List {
        Request* head = nullptr;
        Request* tail = nullptr;
        void push(Request& request) noexcept;
        Request* pop() noexcept;
        bool remove(Request& request) noexcept;
    };

    std::uint32_t index_of(const Operation& operation) const noexcept {
        return static_cast<std::uint32_t>(&operation - table_.data());
    }
    void start(Request& request, File& file, Operation::Kind kind, std::chrono::milliseconds left) noexcept;
    void wait_for_place(Request& request, File& file, Operation::Kind kind) noexcept;
    void start_waiting() noexcept;
    void expire_waiting() noexcept;
    void abort(Operation& operation, int reason) noexcept;
    /// Hands the operation to the kernel; false when it takes no entry now.
    bool enter(Operation& operation) noexcept;
    void prepare_transfer(io_uring_sqe* sqe, const Operation& operation, int fd) noexcept;
    void finish_operation(Operation& operation, int result) noexcept;
    void finish(Request& request, int result) noexcept;
    /// The registered buffer that holds all of the memory, or -1.
    int buffer_of(const std::byte* data, std::uint32_t length) const noexcept;

    Ring& ring_;
    TimerHeap& timers_;
    std::vector<Operation> table_;
    std::vector<std::uint32_t> free_;
    IndexQueue to_submit_;
    IndexQueue to_cancel_;
    List waiting_;
    List finished_;
    Timer waiting_deadline_;
    std::uint32_t accepted_ = 0;
    std::uint32_t in_kernel_ = 0;
    std::span<std::byte> memory_;
    std::vector<int> files_;  ///< registered descriptors by fixed index; -1 is free
};

/// The watches of a loop, each a one-shot poll that is armed again after every callback: level-triggered, and
/// one submission entry an event.
class Watches {
  public:
    Watches(std::uint32_t watches_max, Ring& ring);

    void add(Watch& watch) noexcept;
    void modify(Watch& watch, std::uint32_t events) noexcept;
    void remove(Watch& watch) noexcept;
    void flush() noexcept;
    /// Returns whether a callback was run.
    bool completed(std::uint32_t index, int result) noexcept;

  private:
    /// Stays taken until the kernel has answered its poll, so that a late answer finds no other watch.
    struct Entry {
        Watch* watch = nullptr;
        std::uint32_t armed_events = 0;  ///< of the poll in the kernel; 0: none
        bool removing = false;           ///< the removal of that poll has been submitted
    };

    bool settle(std::uint32_t index) noexcept;

    Ring& ring_;
    std::vector<Entry> table_;
    std::vector<std::uint32_t> free_;
    IndexQueue changed_;  ///< entries whose poll may differ from what is wanted
    std::uint32_t added_ = 0, watches_max_;
};

struct Loop::State {
    explicit State(const LoopOptions& options)
        : timers(options.timers_max + options.requests_max + 1),
          requests(options.requests_max, ring, timers),
          watches(options.watches_max + 1, ring) {}

    Ring ring;
    TimerHeap timers;
    Requests requests;
    Watches watches;
    Fd wake_fd;
    Watch wake_watch;
    bool running = false;
};

}  // namespace farswap::io
