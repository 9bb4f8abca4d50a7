// What the keeper, the pager and its heirs have in common: they share their memory. Private to the keeper.
#pragma once

#include <sys/ptrace.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "keeper/keeper.h"
#include "keeper/kept_thread.h"

namespace farswap::keeper {

enum class Phase : std::uint32_t { kNone, kWaitsForLeave, kHasLeave, kKeeps, kFailed };

struct Shared {
    static constexpr std::size_t kThreadsMax = 32;

    std::atomic<Phase> phase{Phase::kNone};  ///< a futex
    std::atomic<int> error{0};               ///< of kFailed
    std::atomic<pid_t> keeper{0};
    std::atomic<std::uint32_t> births{0};
    std::array<char, 16> name{};   ///< of the pager's threads (PR_SET_NAME)
    std::atomic<pid_t> traced{0};  ///< see Indivisible
    Look look = nullptr;           ///< set before the keeper runs
    /// Where, seen from a thread's pointer to its own storage, the C library keeps the thread's number, whose
    /// address the kernel knows (set_tid_address(2)).
    std::ptrdiff_t number_offset = 0;
    /// The pager's threads, its main thread first. Only the keeper's, once it keeps; the kernel puts the
    /// numbers of heirs there (CLONE_PARENT_SETTID) before they run. A place is its thread's as long as that
    /// lives.
    std::array<KeptThread, kThreadsMax> threads;
    std::size_t count = 0;  ///< places that are or were in use
};

/// Options with which each thread is traced.
inline constexpr long kTraceOptions = PTRACE_O_TRACEEXIT | PTRACE_O_TRACECLONE;

/// Makes a new process, traced, whose threads will be those of `shared.threads` that are unborn, the first
/// one among them. -> its number; 0: it could not be made. Before a thread becomes what it is to be it is in
/// the heirs' code, and a kill changes nothing of what is kept of it.
pid_t make_heirs(Shared& shared) noexcept;

HeirsCode heirs_code() noexcept;

}  // namespace farswap::keeper
