// Who owns a store: a record at the start of its file, and the rules by which another owner is alive or gone.
// Knows the record and processes of this machine; nothing of how the record is read and written.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace farswap {

/// The record fills the first page of the store's file; the store's data begin behind it.
inline constexpr std::size_t kLeaseSize = 4096;
using LeaseBlock = std::span<std::byte, kLeaseSize>;
using ConstLeaseBlock = std::span<const std::byte, kLeaseSize>;

/// The owner renews its record so often.
inline constexpr std::chrono::seconds kLeaseBeat{10};
/// An owner of another machine that has been silent for so long is believed to be gone.
inline constexpr std::chrono::seconds kLeaseExpiry{60};
/// So long a record must have been seen unchanged before it is taken from an owner whose clock we cannot
/// trust: two beats and some slack.
inline constexpr std::chrono::seconds kLeaseWatch{25};

/// How long things take; shorter in tests.
struct LeaseTiming {
    std::chrono::milliseconds beat = kLeaseBeat;
    std::chrono::milliseconds watch = kLeaseWatch;
    /// Nothing is written when the record was last seen to be ours longer ago (the store was away, or this
    /// process was stopped), before it has been looked at again.
    std::chrono::nanoseconds trust = kLeaseExpiry / 2;
};

/// The record as the owner knows it. Plain bytes, written as they are (little-endian), so that renewing it
/// allocates nothing. Texts are zero-terminated.
struct Lease {
    enum class State : std::uint32_t { kFree = 0, kOwned = 1 };

    State state = State::kFree;
    std::uint32_t pid = 0;
    std::uint64_t pid_start = 0;  ///< field 22 of /proc/PID/stat, in clock ticks since boot: proc_pid_stat(5)
    std::uint64_t pid_namespace = 0;  ///< inode of /proc/self/ns/pid: in which `pid` is meant
    std::uint64_t nonce = 0;          ///< random; tells our record from one that somebody wrote over it
    std::uint64_t beat = 0;           ///< counts renewals
    std::int64_t beat_time_s = 0;     ///< of the last renewal, seconds since 1970 by the owner's clock
    std::uint64_t capacity = 0;       ///< bytes of the store's data
    std::array<char, 65> host{};      ///< gethostname(2): at most 64 bytes
    std::array<char, 37> boot_id{};   ///< /proc/sys/kernel/random/boot_id
    std::array<char, 2> padding{};
};

/// Fills the block: magic, version, the record, a checksum, zeros.
void encode_lease(const Lease& lease, LeaseBlock block) noexcept;

enum class LeaseContent {
    kLease,    ///< `lease` has been filled
    kEmpty,    ///< nothing but zeros
    kForeign,  ///< something else: somebody's data, or a lease of a version that we do not know
};
LeaseContent decode_lease(ConstLeaseBlock block, Lease& lease) noexcept;

/// A new record for this process: owned, first beat now.
Result<Lease> make_lease(std::uint64_t capacity);
/// Counts one renewal.
void renew_lease(Lease& lease) noexcept;

enum class Owner {
    kNone,  ///< given up properly
    kAlive,
    kDead,     ///< its process is gone from this machine
    kUnknown,  ///< silent for long by its own clock: dead if the record stays unchanged for kLeaseWatch
};

/// What judge() has to know of this process.
struct Observer {
    std::array<char, 65> host{};
    std::array<char, 37> boot_id{};
    std::uint64_t pid_namespace = 0;
    std::int64_t now_s = 0;  ///< seconds since 1970
    bool (*process_runs)(std::uint32_t pid, std::uint64_t pid_start) = nullptr;
};
Result<Observer> observe_from_here();

/// Where host, boot and pid namespace are ours, the process decides; else the time of the last beat.
Owner judge(const Lease& lease, const Observer& observer) noexcept;

/// Whether the process runs (not as a zombie) and is the one that started then.
bool process_runs(std::uint32_t pid, std::uint64_t pid_start) noexcept;

/// Waits while a record is watched. An error as soon as a signal has been handled: whoever sent it does not
/// want to wait that long.
Status watch_for(std::chrono::milliseconds time) noexcept;

/// "host HOST, pid N, last sign of life 3 h ago"
std::string describe_owner(const Lease& lease, std::int64_t now_s);

}  // namespace farswap
