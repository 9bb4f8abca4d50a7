// Finds and removes files in a directory whose owner is gone. Knows leases; opens no store.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "base/fd.h"
#include "store/file_lease.h"
#include "store/file_store.h"

namespace farswap {

namespace {

/// A file of farswap as it is found: what the lease says of its owner.
struct Found {
    LeaseContent content = LeaseContent::kForeign;
    Lease lease;
    Owner owner = Owner::kAlive;
    std::uint64_t bytes = 0;
};

Result<Found> inspect(int fd, const Observer& observer) {
    Found found;
    struct stat info {};
    if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return fail(EINVAL, "not a file");
    found.bytes = static_cast<std::uint64_t>(info.st_blocks) * 512;
    const auto content = read_lease(fd, found.lease);
    if (!content) return std::unexpected(content.error());
    found.content = *content;
    if (found.content == LeaseContent::kLease) {
        found.owner = judge(found.lease, observer);
    } else if (found.content == LeaseContent::kEmpty) {
        // Its maker died before the first record was written, or is about to write it.
        const bool old = observer.now_s - info.st_mtime > kLeaseExpiry.count();
        found.owner = old ? Owner::kDead : Owner::kAlive;
    }
    // Whoever holds the lock lives, whatever the record says.
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) found.owner = Owner::kAlive;
    ::flock(fd, LOCK_UN);
    return found;
}

/// Direct where it can be: the page cache may hold an old record of a file that another machine writes.
Fd open_for_look(const std::string& path) {
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (fd) ::fcntl(fd.get(), F_SETFL, O_DIRECT);
    return fd;
}

Orphan to_orphan(const std::string& path, const Found& found, std::int64_t now_s) {
    const bool known = found.content == LeaseContent::kLease;
    return Orphan{.path = path,
                  .owner = known ? describe_owner(found.lease, now_s) : "no owner recorded",
                  .bytes = found.bytes,
                  .alive = found.owner == Owner::kAlive,
                  .nonce = known ? found.lease.nonce : 0,
                  .beat = known ? found.lease.beat : 0};
}

bool renewed(const Orphan& orphan) {
    const Fd fd = open_for_look(orphan.path);
    Lease now;
    const auto content = fd ? read_lease(fd.get(), now) : Result<LeaseContent>(LeaseContent::kForeign);
    return !content || *content != LeaseContent::kLease || now.nonce != orphan.nonce ||
           now.beat != orphan.beat;
}

}  // namespace

Result<std::vector<Orphan>> list_file_orphans(const Url& url, const LeaseTiming& timing) {
    std::error_code error;
    std::vector<Orphan> orphans;
    if (!std::filesystem::is_directory(url.path, error)) {
        if (error) return fail_errno(error.value(), "cannot look into {}", url.path);
        return orphans;  // a named file or device is kept, whoever had it
    }
    const auto here = observe_from_here();
    if (!here) return std::unexpected(here.error());
    std::vector<std::size_t> unknown;
    for (std::filesystem::directory_iterator at(url.path, error), end; !error && at != end;
         at.increment(error)) {
        if (!at->path().filename().string().starts_with("farswap-")) continue;
        const Fd fd = open_for_look(at->path());
        if (!fd) continue;
        const auto found = inspect(fd.get(), *here);
        if (!found || found->content == LeaseContent::kForeign) continue;
        if (found->owner == Owner::kUnknown) unknown.push_back(orphans.size());
        orphans.push_back(to_orphan(at->path(), *found, here->now_s));
    }
    if (error) return fail_errno(error.value(), "cannot read the directory {}", url.path);
    if (!unknown.empty()) std::this_thread::sleep_for(timing.watch);
    for (std::size_t index : unknown) orphans[index].alive = renewed(orphans[index]);
    std::ranges::sort(orphans, {}, &Orphan::path);
    return orphans;
}

Status remove_file_orphan(const Url& url, const Orphan& orphan) {
    if (orphan.alive) return fail(EBUSY, "{} is in use ({})", orphan.path, orphan.owner);
    const std::filesystem::path path(orphan.path);
    std::error_code error;
    if (!std::filesystem::equivalent(path.parent_path(), url.path, error) ||
        !path.filename().string().starts_with("farswap-"))
        return fail(EINVAL, "{} is no file of farswap in {}", orphan.path, url.path);
    const Fd fd = open_for_look(orphan.path);
    if (!fd) return fail_errno(errno, "cannot open {}", orphan.path);
    const auto here = observe_from_here();
    if (!here) return std::unexpected(here.error());
    const auto found = inspect(fd.get(), *here);
    if (!found) return fail(found.error().code, "{}: {}", orphan.path, found.error().message);
    const Orphan now = to_orphan(orphan.path, *found, here->now_s);
    if (found->content == LeaseContent::kForeign || now.alive || now.nonce != orphan.nonce ||
        now.beat != orphan.beat)
        return fail(EBUSY, "{} is in use again ({})", orphan.path, now.owner);
    if (::unlink(orphan.path.c_str()) != 0) return fail_errno(errno, "cannot remove {}", orphan.path);
    return {};
}

}  // namespace farswap
