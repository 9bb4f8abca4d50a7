// What the keeper, the pager and its heirs have in common: they share their memory. Private to the keeper.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "keeper/kept_thread.h"

namespace farswap::keeper {

enum class Phase : std::uint32_t { kNone, kWaitsForLeave, kHasLeave, kKeeps, kFailed };

struct Shared {
    static constexpr std::size_t kThreadsMax = 32;

    std::atomic<Phase> phase{Phase::kNone};  ///< a futex
    std::atomic<int> error{0};               ///< of kFailed
    std::atomic<pid_t> keeper{0};
    std::atomic<std::uint32_t> births{0};
    std::array<char, 16> name{};  ///< of the pager's threads (PR_SET_NAME)
    std::atomic<pid_t> traced{0};  ///< see Indivisible
    /// Where, seen from a thread's pointer to its own storage, the C library keeps the thread's number, whose
    /// address the kernel knows (set_tid_address(2)).
    std::ptrdiff_t number_offset = 0;
    /// The pager's threads, its main thread first. Only the keeper's, once it keeps.
    std::array<KeptThread, kThreadsMax> threads;
    std::size_t count = 0;
};

/// Makes threads of a new process that go on as `shared.threads`, of which nothing runs any more, and traces
/// them. False: they could not be made, and none is left.
bool make_heirs(Shared& shared) noexcept;

/// Options with which each thread is traced.
extern const long kTraceOptions;

}  // namespace farswap::keeper
