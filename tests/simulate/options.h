// What a run is made of: its seed, its size, and which kinds of events it has.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace farswap::simulate {

enum class Feature : unsigned {
    kFork,
    kUnmap,
    kRemap,
    kDiscard,  ///< madvise(2): DONTNEED, FREE
    kExec,
    kExit,        ///< of processes, before their time
    kThreads,     ///< more than one, and their ends
    kMutexes,     ///< robust ones
    kPin,         ///< devices that read and write
    kLock,        ///< mlock(2)
    kForkAdvice,  ///< MADV_DONTFORK, MADV_WIPEONFORK
    kHold,        ///< copies on write wait for room
    kChaos,       ///< evictions at random
    kSlow,        ///< a store that takes its time
    kErrors,      ///< of stores, for a moment
    kLosses,      ///< stores that lose what was not flushed
    kOutages,     ///< stores that go and return
    kLate,        ///< writes that time out and are executed later
    kStores,      ///< more than one store
    kCorrupt,     ///< stores change what they hold: must be noticed
    kFailure,     ///< a store that fails for good
    kFull,        ///< a store that is too small
    kMemory,      ///< no store: what compresses stays in memory
    kTier,        ///< what compresses stays in memory for a while
    // Not by the seed, only where they are asked for:
    kPreempted,  ///< threads are held up for long between two steps of a call; addresses are soon used again
    kTwice,      ///< with kLate: writes that succeeded are executed once more, later
    kMirror,     ///< each page on two stores
    kGrow,       ///< mappings get larger where they are, of which no event tells
    kBrief,      ///< with kThreads: they begin and end all the time, with mutexes held
    kRestless,   ///< mappings move all the time, while processes fork
    kCareless,   ///< memory is dropped while another thread forks: known to fail (decision 0006)
    kLeave,      ///< the job lets its processes go while they run
    kHasty,      ///< what is new moves at once, to where something has just gone; children look, and end
    kAgain,      ///< with kHasty: what has just moved moves once more; long between a move's two events
    // By the seed, and by chance of its own: choose().
    kDeath,  ///< the pager is killed, and another goes on in its place (decision 0025)
    kCount
};
inline constexpr unsigned kFeatures = static_cast<unsigned>(Feature::kCount);
inline constexpr unsigned kFeaturesBySeed = static_cast<unsigned>(Feature::kPreempted);
extern const std::array<std::string_view, kFeatures> kFeatureNames;

struct Options {
    std::uint64_t seed = 1;
    std::uint64_t steps = 60'000;
    std::uint32_t processes = 0;    ///< at one time; 0: by the seed
    std::uint32_t pages = 0;        ///< that the program uses, about; 0: by the seed
    std::uint64_t allowed = ~0ull;  ///< features that the seed may choose
    std::uint64_t wanted = 0;       ///< features that each run has, as far as they are allowed
    bool trace = false;
    // By the seed:
    std::uint64_t chosen = 0;
    std::uint32_t threads = 0;
    std::uint32_t frames = 0;
    std::uint32_t cap_pages = 0;

    /// Whether what is said of forks waits at a gate of madvise(2), as behind the seccomp filter.
    bool is_gated() const { return seed % 4 != 0; }
    bool has(Feature feature) const { return (chosen >> static_cast<unsigned>(feature) & 1) != 0; }
    /// Chooses what the seed is to choose.
    void choose();
};

}  // namespace farswap::simulate
