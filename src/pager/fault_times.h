// Times the faults: which one is being served, since when, and what it waited for. Costs two looks at the
// clock a fault, and no memory.
#pragma once

#include <utility>

#include "io/loop.h"
#include "pager/fault_cost.h"
#include "pager/latencies.h"

namespace farswap {

/// One thread: the loop's.
class FaultTimes {
  public:
    FaultTimes(FaultLatencies& latencies, FaultCost& cost) : latencies_(latencies), cost_(cost) {}

    /// What is to be remembered of a fault that cannot be served at once.
    struct Start {
        io::Clock::time_point began{};  ///< none: nobody waits
        bool is_read = false;           ///< from a store
        bool waited_for_room = false;
    };

    /// While it lives, served() is about that fault.
    class [[nodiscard]] Scope {
      public:
        explicit Scope(FaultTimes& times) : times_(times) {}
        ~Scope() { times_.current_ = {}; }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

      private:
        FaultTimes& times_;
    };
    Scope begin() noexcept { return resume({.began = io::Clock::now()}); }
    Scope resume(const Start& start) noexcept {
        current_ = start;
        return Scope(*this);
    }
    /// A read that was made for it has ended.
    Scope resume_read(Start start) noexcept {
        start.is_read = true;
        return resume(start);
    }

    const Start& current() const noexcept { return current_; }
    /// A thread has touched what is served, and nothing has been read for it yet. Else it came along with
    /// another, its process is leaving, or it was counted when its read began.
    bool is_new_fault() const noexcept {
        return current_.began != io::Clock::time_point{} && !current_.is_read;
    }
    void waits_for_room() noexcept { current_.waited_for_room = true; }
    /// The thread goes on. `kind`: where the page came from, if nothing else delayed it.
    void served(FaultKind kind) noexcept {
        if (current_.began == io::Clock::time_point{}) return;
        if (current_.is_read) kind = FaultKind::kStored;
        if (current_.waited_for_room) kind = FaultKind::kRoom;
        const auto took = io::Clock::now() - std::exchange(current_, {}).began;
        latencies_[kind].add(static_cast<std::uint64_t>(took.count() > 0 ? took.count() : 0));
        if (kind == FaultKind::kCached) cost_.served(took);
    }

  private:
    FaultLatencies& latencies_;
    FaultCost& cost_;
    Start current_;
};

}  // namespace farswap
