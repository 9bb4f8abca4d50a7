// What the keeper, the pager and its heirs have in common: they share their memory. Private to the keeper.
#pragma once

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "keeper/keeper.h"
#include "keeper/kept_thread.h"

namespace farswap::keeper {

enum class Phase : std::uint32_t { kNone, kWaitsForLeave, kHasLeave, kKeeps, kFailed };

/// A process that waits to go on when the pager is killed. The keeper traces it, as it was made either before
/// our memory was closed to all who trace (PR_SET_DUMPABLE), or by one that is traced, which passes that on
/// (PTRACE_O_TRACECLONE): to make an heir traced at the moment of a kill would take that it may be traced by
/// others as well.
struct Spare {
    pid_t process = 0;            ///< 0: none. The kernel puts it there (CLONE_PARENT_SETTID); atomic
    std::uint32_t is_called = 0;  ///< a futex; atomic
    bool is_ending = false;       ///< the keeper's: it was killed
};

struct Shared {
    static constexpr std::size_t kThreadsMax = 32;
    static constexpr std::size_t kSparesMax = 3;  ///< two, and the place of the one that has become the pager

    std::atomic<Phase> phase{Phase::kNone};  ///< a futex
    std::atomic<int> error{0};               ///< of kFailed
    std::atomic<pid_t> keeper{0};
    std::atomic<std::uint32_t> births{0};
    std::array<char, 16> name{};  ///< of the pager's threads (PR_SET_NAME)
    std::array<char, 16> keepers_name{"farswap-keeper"};
    std::atomic<pid_t> traced{0};  ///< see Indivisible
    Look look = nullptr;           ///< set before the keeper runs
    /// Where, seen from a thread's pointer to its own storage, the C library keeps the thread's number, whose
    /// address the kernel knows (set_tid_address(2)).
    std::ptrdiff_t number_offset = 0;
    /// The pager's threads, its main thread first. Only the keeper's, once it keeps; the kernel puts the
    /// numbers of heirs there (CLONE_PARENT_SETTID) before they run. A place is its thread's as long as that
    /// lives.
    std::array<KeptThread, kThreadsMax> threads;
    std::size_t count = 0;                      ///< places that are or were in use
    std::array<rlimit, RLIM_NLIMITS> limits{};  ///< of the pager that was killed last
    std::array<Spare, kSparesMax> spares;
    std::size_t leaders_place = 0;  ///< of the pager among the spares, once
    /// The pager's folder of threads and its state, each opened by itself: where /proc hides who may not be
    /// traced, nobody else sees them (hidepid, proc(5)). -1: it is an heir that has no threads yet.
    std::atomic<int> tasks{-1}, stat{-1};
};

// Of Shared::tasks and Shared::stat.
inline constexpr const char* kTasksPath = "/proc/self/task";
inline constexpr const char* kStatPath = "/proc/self/stat";
inline constexpr int kTasksFlags = O_PATH | O_DIRECTORY | O_CLOEXEC, kStatFlags = O_RDONLY | O_CLOEXEC;

/// Options with which each thread is traced.
inline constexpr long kTraceOptions = PTRACE_O_TRACEEXIT | PTRACE_O_TRACECLONE;

/// Makes spares and traces them, of which the kernel asks whether that is permitted. Only while no heir is
/// about to make any. -> 0 or an error number; there are none then.
long prepare_spares(Shared& shared) noexcept;

/// Calls a spare, whose threads will be those of `shared.threads` that are unborn, the first one among them;
/// it makes another spare first. -> its number; 0: there is none, and none can be made. Before a thread
/// becomes what it is to be it is in the heirs' code, and a kill changes nothing of what is kept of it.
pid_t make_heirs(Shared& shared) noexcept;

/// Sends a thread, in a ptrace-stop in which it was read, the way of an heir, to where it is: until it says
/// that it has begun, a kill changes nothing of what is kept of it. False: it has left that stop.
bool begin_anew(Shared& shared, KeptThread& kept) noexcept;

HeirsCode heirs_code() noexcept;

}  // namespace farswap::keeper
