// See file_lease.h.
#include "store/file_lease.h"

#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "base/log.h"

namespace farswap {

namespace {

/// File systems, partition tables and volume managers leave their mark in the first MiB.
constexpr std::size_t kForeignSearch = std::size_t{1} << 20;

/// pread(2) up to the end of the file.
ssize_t read_fully(int fd, std::byte* data, std::size_t length, off_t offset) {
    std::size_t done = 0;
    while (done < length) {
        const ssize_t got = ::pread(fd, data + done, length - done, offset + static_cast<off_t>(done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return got;
        if (got == 0 || got % static_cast<ssize_t>(kLeaseSize) != 0) return static_cast<ssize_t>(done) + got;
        done += static_cast<std::size_t>(got);
    }
    return static_cast<ssize_t>(done);
}

Status busy(const std::string& path, const std::string& owner) {
    return fail(EBUSY, "{} is in use ({}): name another file, or a directory, where every job gets its own",
                path, owner);
}

/// Waits and looks whether the owner gives a sign of life.
Status watch_owner(int fd, const std::string& path, const Lease& seen, const LeaseTiming& timing,
                   std::int64_t now_s) {
    log::warning("{} has an owner that may be gone ({}): watching it for {} s", path,
                 describe_owner(seen, now_s),
                 std::chrono::duration_cast<std::chrono::seconds>(timing.watch).count());
    if (Status watched = watch_for(timing.watch); !watched) return watched;
    Lease later;
    const auto content = read_lease(fd, later);
    if (!content) return std::unexpected(content.error());
    if (*content == LeaseContent::kLease && later.nonce == seen.nonce && later.beat == seen.beat) return {};
    return busy(path, "its owner has just given a sign of life");
}

Status refuse_live_owner(int fd, const std::string& path, const LeaseTiming& timing) {
    Lease found;
    const auto content = read_lease(fd, found);
    if (!content) return std::unexpected(content.error());
    if (*content != LeaseContent::kLease) {
        const auto zeros = starts_with_zeros(fd, kForeignSearch);
        if (!zeros) return std::unexpected(zeros.error());
        if (!*zeros)
            return fail(EEXIST,
                        "{} holds data that are not farswap's: name another place, or wipe its first MiB if "
                        "nobody needs them",
                        path);
        return {};
    }
    const auto here = observe_from_here();
    if (!here) return std::unexpected(here.error());
    switch (judge(found, *here)) {
        case Owner::kNone:
        case Owner::kDead:
            return {};
        case Owner::kAlive:
            return busy(path, describe_owner(found, here->now_s));
        case Owner::kUnknown:
            return watch_owner(fd, path, found, timing, here->now_s);
    }
    return {};
}

}  // namespace

Result<LeaseContent> read_lease(int fd, Lease& lease) {
    const auto page = std::make_unique<LeasePage>();
    const ssize_t got = read_fully(fd, page->bytes.data(), kLeaseSize, 0);
    if (got < 0) return fail_errno(errno, "cannot read the owner's record");
    return decode_lease(page->bytes, lease);
}

Status write_lease(int fd, const Lease& lease) {
    const auto page = std::make_unique<LeasePage>();
    encode_lease(lease, page->bytes);
    const ssize_t put = ::pwrite(fd, page->bytes.data(), kLeaseSize, 0);
    if (put < 0) return fail_errno(errno, "cannot write the owner's record");
    if (put != static_cast<ssize_t>(kLeaseSize))
        return fail(ENOSPC, "cannot write the owner's record: no space is left");
    if (::fdatasync(fd) != 0) return fail_errno(errno, "cannot write the owner's record");
    return {};
}

Result<bool> starts_with_zeros(int fd, std::size_t bytes) {
    const auto page = std::make_unique<LeasePage>();
    for (std::size_t at = 0; at < bytes; at += kLeaseSize) {
        const ssize_t got = read_fully(fd, page->bytes.data(), kLeaseSize, static_cast<off_t>(at));
        if (got < 0) return fail_errno(errno, "cannot read");
        const std::span read(page->bytes.data(), static_cast<std::size_t>(got));
        if (std::ranges::any_of(read, [](std::byte byte) { return byte != std::byte{0}; })) return false;
        if (read.size() < kLeaseSize) break;
    }
    return true;
}

Status take_file(int fd, const std::string& path, const Lease& lease, const LeaseTiming& timing) {
    // A lock that the file system cannot give (ENOLCK, EOPNOTSUPP) is not needed: the lease decides.
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        Lease holder;
        const auto content = read_lease(fd, holder);
        const auto here = observe_from_here();
        const bool known =
            content && here && *content == LeaseContent::kLease && holder.state == Lease::State::kOwned;
        return busy(path, known ? describe_owner(holder, here->now_s) : "another program has locked it");
    }
    if (Status free = refuse_live_owner(fd, path, timing); !free) return free;
    if (Status written = write_lease(fd, lease); !written)
        return fail(written.error().code, "{}: {}", path, written.error().message);
    // Of two machines that take the same device at one time, the later writer has it.
    Lease now;
    const auto content = read_lease(fd, now);
    if (!content) return fail(content.error().code, "{}: {}", path, content.error().message);
    if (*content != LeaseContent::kLease || now.nonce != lease.nonce)
        return busy(path, "another machine has just taken it");
    return {};
}

void release_file(int fd) noexcept {
    // Where the file system gives no locks there is none to take off.
    (void)::flock(fd, LOCK_UN);
}

}  // namespace farswap
