// See lease.h.
#include "store/lease.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <limits>
#include <type_traits>

#include "base/fd.h"
#include "keeper/keeper.h"

namespace farswap {

namespace {

constexpr char kMagic[16] = "farswap-lease\n";
constexpr std::uint32_t kVersion = 1;

/// The block as it lies in the file.
struct Layout {
    char magic[sizeof kMagic];
    std::uint32_t version;
    std::uint32_t length;  ///< bytes of `lease`
    Lease lease;
    std::uint64_t checksum;  ///< XXH64 of all before it
};
static_assert(std::is_trivially_copyable_v<Layout> && sizeof(Lease) == 160 && sizeof(Layout) == 192,
              "no padding; and it fits one disk sector, so that it is never torn");

std::uint64_t checksum_of(const Layout& layout) noexcept {
    return XXH64(&layout, offsetof(Layout, checksum), 0);
}

std::int64_t now_seconds() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec;
}

/// Seconds since the last beat, by whatever clock wrote it: the record may hold any number.
std::int64_t age_of(const Lease& lease, std::int64_t now_s) noexcept {
    std::int64_t age = 0;
    if (__builtin_sub_overflow(now_s, lease.beat_time_s, &age))
        return lease.beat_time_s < 0 ? std::numeric_limits<std::int64_t>::max()
                                     : std::numeric_limits<std::int64_t>::min();
    return age;
}

/// Reads a small file of /proc into `text`, zero-terminated. Allocates nothing. The bytes read, or -1.
ssize_t read_small(const char* path, std::span<char> text) noexcept {
    const Fd fd(::open(path, O_RDONLY | O_CLOEXEC));
    if (!fd) return -1;
    const ssize_t got = ::read(fd.get(), text.data(), text.size() - 1);
    if (got >= 0) text[static_cast<std::size_t>(got)] = '\0';
    return got;
}

/// State and start time from /proc/PID/stat. The command name in parentheses may hold anything, so the fields
/// are counted from the last ')'.
bool read_process(std::uint32_t pid, char& state, std::uint64_t& start) noexcept {
    char path[32];
    std::snprintf(path, sizeof path, "/proc/%u/stat", pid);
    char text[1024];
    if (read_small(path, text) <= 0) return false;
    const char* at = std::strrchr(text, ')');
    if (at == nullptr || at[1] != ' ') return false;
    at += 2;
    state = *at;
    constexpr int kStateField = 3, kStartField = 22;
    for (int field = kStateField; field < kStartField; ++field) {
        at = std::strchr(at, ' ');
        if (at == nullptr) return false;
        ++at;
    }
    start = std::strtoull(at, nullptr, 10);
    return true;
}

}  // namespace

void encode_lease(const Lease& lease, LeaseBlock block) noexcept {
    Layout layout{};
    std::memcpy(layout.magic, kMagic, sizeof kMagic);
    layout.version = kVersion;
    layout.length = sizeof(Lease);
    layout.lease = lease;
    layout.checksum = checksum_of(layout);
    std::ranges::fill(block, std::byte{0});
    std::memcpy(block.data(), &layout, sizeof layout);
}

LeaseContent decode_lease(ConstLeaseBlock block, Lease& lease) noexcept {
    if (std::ranges::all_of(block, [](std::byte byte) { return byte == std::byte{0}; }))
        return LeaseContent::kEmpty;
    Layout layout;
    std::memcpy(&layout, block.data(), sizeof layout);
    if (std::memcmp(layout.magic, kMagic, sizeof kMagic) != 0 || layout.version != kVersion ||
        layout.length != sizeof(Lease) || layout.checksum != checksum_of(layout))
        return LeaseContent::kForeign;
    lease = layout.lease;
    lease.host.back() = '\0';
    lease.boot_id.back() = '\0';
    return LeaseContent::kLease;
}

Result<Observer> observe_from_here() {
    Observer observer;
    if (::gethostname(observer.host.data(), observer.host.size() - 1) != 0)
        return fail_errno(errno, "cannot read the host name");
    char boot_id[64];
    if (read_small("/proc/sys/kernel/random/boot_id", boot_id) < 36)
        return fail(ENOENT, "cannot read /proc/sys/kernel/random/boot_id: is /proc mounted?");
    std::copy_n(boot_id, 36, observer.boot_id.begin());
    struct stat space {};
    if (::stat("/proc/self/ns/pid", &space) != 0) return fail_errno(errno, "cannot read /proc/self/ns/pid");
    observer.pid_namespace = space.st_ino;
    observer.now_s = now_seconds();
    observer.process_runs = process_runs;
    return observer;
}

Result<Lease> make_lease(std::uint64_t capacity) {
    const auto here = observe_from_here();
    if (!here) return std::unexpected(here.error());
    Lease lease;
    lease.state = Lease::State::kOwned;
    lease.pid = static_cast<std::uint32_t>(keeper::witness());
    char state = 0;
    if (!read_process(lease.pid, state, lease.pid_start))
        return fail(ENOENT, "cannot read /proc/self/stat: is /proc mounted?");
    lease.pid_namespace = here->pid_namespace;
    lease.host = here->host;
    lease.boot_id = here->boot_id;
    lease.capacity = capacity;
    if (::getrandom(&lease.nonce, sizeof lease.nonce, 0) != sizeof lease.nonce)
        return fail_errno(errno, "getrandom");
    renew_lease(lease);
    return lease;
}

void renew_lease(Lease& lease) noexcept {
    // The keeper that was named may have been killed: a lease in the name of the dead is anybody's.
    const auto witness = static_cast<std::uint32_t>(keeper::witness());
    char state = 0;
    std::uint64_t start = 0;
    if (lease.pid != witness && read_process(witness, state, start)) {
        lease.pid = witness;
        lease.pid_start = start;
    }
    ++lease.beat;
    lease.beat_time_s = now_seconds();
}

bool process_runs(std::uint32_t pid, std::uint64_t pid_start) noexcept {
    char state = 0;
    std::uint64_t start = 0;
    return read_process(pid, state, start) && start == pid_start && state != 'Z' && state != 'X';
}

Owner judge(const Lease& lease, const Observer& observer) noexcept {
    if (lease.state == Lease::State::kFree) return Owner::kNone;
    if (lease.host == observer.host && lease.boot_id == observer.boot_id &&
        lease.pid_namespace == observer.pid_namespace)
        return observer.process_runs(lease.pid, lease.pid_start) ? Owner::kAlive : Owner::kDead;
    // A fresh beat is believed. An old one may be the word of a clock that is wrong, so it only asks for a
    // closer look.
    const std::int64_t age = age_of(lease, observer.now_s);
    return age >= -kLeaseExpiry.count() && age <= kLeaseExpiry.count() ? Owner::kAlive : Owner::kUnknown;
}

Status watch_for(std::chrono::milliseconds time) noexcept {
    const timespec wait{.tv_sec = time.count() / 1000, .tv_nsec = time.count() % 1000 * 1'000'000};
    // Not restarted after a signal handler, whatever SA_RESTART says (signal(7)).
    if (::nanosleep(&wait, nullptr) != 0) return fail(EINTR, "ended by a signal");
    return {};
}

std::string describe_owner(const Lease& lease, std::int64_t now_s) {
    const std::int64_t age = std::max<std::int64_t>(0, age_of(lease, now_s));
    std::string ago = age < 120       ? fmt::format("{} s", age)
                      : age < 7200    ? fmt::format("{} min", age / 60)
                      : age < 172'800 ? fmt::format("{} h", age / 3600)
                                      : fmt::format("{} days", age / 86'400);
    // Whoever may write to the server has chosen the name, and it ends up on a terminal.
    std::string host = lease.host.data();
    std::ranges::replace_if(
        host, [](char c) { return c < ' ' || c > '~'; }, '?');
    return fmt::format("host {}, pid {}, last sign of life {} ago", host, lease.pid, ago);
}

}  // namespace farswap
