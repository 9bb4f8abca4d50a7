// What a loop is made of above its engine; shared by loop.cpp and requests.cpp, included by no one else.
#pragma once

#include <vector>

#include "base/fd.h"
#include "io/engine.h"
#include "io/index_queue.h"
#include "io/loop.h"
#include "io/timer_heap.h"

namespace farswap::io {

class Requests;

/// A request that has a place in the table. The place is free again only when the engine has answered, so
/// that an answer always finds its request.
struct Operation {
    enum class Kind : std::uint8_t { kTransfer, kSync, kAllocate };

    Request* request = nullptr;  ///< null: free
    File* file = nullptr;
    Kind kind = Kind::kTransfer;
    bool in_engine = false;
    int abort = 0;  ///< -ECANCELED or -ETIMEDOUT once an early end is wanted
    Requests* table = nullptr;
    Timer deadline;
};

/// The file requests of a loop.
///
/// A request is in one of these places: `waiting` (the table is full; linked by Request::next), the table, or
/// `finished` (its result is known, its callback is due in the next round; linked too).
class Requests final : public Engine::Listener {
  public:
    Requests(std::uint32_t requests_max, Engine& engine, TimerHeap& timers);

    void submit(Request& request, File& file, Operation::Kind kind) noexcept;
    void refuse(Request& request, int result) noexcept;
    void cancel(Request& request, int reason) noexcept;
    /// Hands queued operations and cancellations to the engine.
    void flush() noexcept;
    void ended(std::uint32_t index, int result) noexcept override;
    /// Calls back the finished requests; those that finish meanwhile are left for the next round.
    int run_finished() noexcept;

    bool any_finished() const noexcept { return finished_.head != nullptr; }
    std::uint32_t accepted() const noexcept { return accepted_; }
    std::uint32_t in_engine() const noexcept { return in_engine_; }
    void cancel_all() noexcept;

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
    /// Hands the operation to the engine; false when it takes none now.
    bool enter(Operation& operation) noexcept;
    void finish_operation(Operation& operation, int result) noexcept;
    void finish(Request& request, int result) noexcept;

    Engine& engine_;
    TimerHeap& timers_;
    std::vector<Operation> table_;
    std::vector<std::uint32_t> free_;
    IndexQueue to_submit_;
    IndexQueue to_cancel_;
    List waiting_;
    List finished_;
    Timer waiting_deadline_;
    std::uint32_t accepted_ = 0;
    std::uint32_t in_engine_ = 0;
};

struct Loop::State {
    State(const LoopOptions& options, std::unique_ptr<Engine> made)
        : engine(std::move(made)),
          timers(options.timers_max + options.requests_max + 1),
          requests(options.requests_max, *engine, timers) {}

    std::unique_ptr<Engine> engine;
    TimerHeap timers;
    Requests requests;
    Fd wake_fd;
    Watch wake_watch;
    Loop::Wait wait;
    bool running = false;
};

}  // namespace farswap::io
