// See file_target.h.
#include "store/file_target.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <filesystem>

#include "base/log.h"
#include "store/file_lease.h"
#include "store/file_memory.h"

namespace farswap {

namespace {

constexpr mode_t kMode = 0600;
constexpr int kNamesTried = 100;
// Of free space, for a store whose size nobody said: the rest of the machine goes on writing, too.
constexpr std::uint64_t kFreeShare = 90;

/// What an errno of open(2) means for the operator.
std::unexpected<Error> explain(int error, const std::string& path) {
    switch (error) {
        case ENOENT:
            return fail(ENOENT, "{} does not exist: create the directory, or name one that is there", path);
        case ENOTDIR:
            return fail(ENOTDIR, "{}: a part of the path is not a directory", path);
        case EACCES:
        case EPERM:
            return fail(error,
                        "no permission to write to {}: name a place that you may write to, or run as root",
                        path);
        case EROFS:
            return fail(EROFS, "{} is on a read-only file system: name a place that can be written", path);
        case ENOSPC:
        case EDQUOT:
            return fail(ENOSPC, "no space is left for {}: free some, or name another place", path);
        case EBUSY:
            return fail(EBUSY, "{} is mounted or otherwise in use: name a device that is free", path);
        default:
            return fail_errno(error, "cannot open {}", path);
    }
}

/// Switches to direct I/O; false, with a note, where the file system refuses it (EINVAL).
bool make_direct(int fd, const std::string& path) {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_DIRECT) == 0) return true;
    log::warning(
        "{} does not do direct I/O: pages go through the kernel's page cache and use memory beside the cap",
        path);
    return false;
}

/// The size of a file that grows: `asked`, or else the default, or else most of the free space.
Result<std::uint64_t> choose_capacity(int fd, const std::string& path, std::uint64_t asked,
                                      std::uint64_t size_default) {
    struct statfs system {};
    struct stat file {};
    if (::fstatfs(fd, &system) != 0 || ::fstat(fd, &file) != 0) return explain(errno, path);
    constexpr std::uint64_t kBlock = 512;  // of st_blocks: stat(3type)
    const std::uint64_t free = system.f_bavail * static_cast<std::uint64_t>(system.f_bsize) +
                               static_cast<std::uint64_t>(file.st_blocks) * kBlock;
    const std::uint64_t most = free / 100 * kFreeShare;
    const std::uint64_t chosen = asked != 0 ? asked : size_default != 0 ? std::min(size_default, most) : most;
    if (free < Url::kSizeMin + kLeaseSize || chosen < Url::kSizeMin)
        return fail(ENOSPC, "only {} are free for {}: free some, or name another place", format_size(free),
                    path);
    if (chosen > free)
        log::info("{} may grow to {}, but only {} are free there", path, format_size(chosen),
                  format_size(free));
    return chosen / kPageSize * kPageSize;
}

/// Overwriting in place is what a store does all day; btrfs does it only for files that are marked so while
/// empty.
void avoid_copy_on_write(int fd) noexcept {
    unsigned flags = 0;
    if (::ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0) return;
    flags |= FS_NOCOW_FL;
    ::ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

std::string job_file_name(const StoreOptions& options) {
    if (!options.job.empty()) {
        std::string name = options.job.starts_with("farswap-") ? options.job : "farswap-" + options.job;
        std::ranges::replace(name, '/', '_');
        return name;
    }
    char host[HOST_NAME_MAX + 1] = "";
    ::gethostname(host, sizeof host - 1);
    std::uint32_t random = 0;
    [[maybe_unused]] auto got = ::getrandom(&random, sizeof random, 0);
    return fmt::format("farswap-{}-{}-{:08x}", host, ::getpid(), random);
}

/// Creates the file exclusively. The error keeps open(2)'s errno: EEXIST asks for another name.
Result<Fd> create_file(const std::string& path) {
    Fd fd(::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, kMode));
    if (!fd) return explain(errno, path);
    avoid_copy_on_write(fd.get());
    return fd;
}

/// A file of this job's own in the directory.
Status open_in_directory(const StoreOptions& options, FileTarget& target) {
    if (Status disk = refuse_memory(target.path); !disk) return disk;
    const std::string stem = (std::filesystem::path(target.path) / job_file_name(options)).string();
    for (int number = 1; number <= kNamesTried; ++number) {
        const std::string path = number == 1 ? stem : fmt::format("{}-{}", stem, number);
        auto fd = create_file(path);
        if (!fd && fd.error().code == EEXIST) continue;
        if (!fd) return std::unexpected(fd.error());
        target.fd = std::move(*fd);
        target.path = path;
        target.made = true;
        return {};
    }
    return fail(EEXIST, "{} and {} more names are taken: farswap check --clean removes what dead jobs left",
                stem, kNamesTried);
}

Status open_named_file(FileTarget& target, bool exists) {
    const std::filesystem::path parent = std::filesystem::path(target.path).parent_path();
    const std::string place = exists ? target.path : parent.empty() ? "." : parent.string();
    if (Status disk = refuse_memory(place); !disk) return disk;
    if (!exists) {
        auto fd = create_file(target.path);
        if (!fd) return std::unexpected(fd.error());
        target.fd = std::move(*fd);
        target.made = true;
        return {};
    }
    target.fd = Fd(::open(target.path.c_str(), O_RDWR | O_CLOEXEC));
    return target.fd ? Status{} : explain(errno, target.path);
}

/// O_EXCL on a block device: not while it is mounted or part of another device (open(2)).
Status open_device(dev_t device, FileTarget& target) {
    if (Status disk = refuse_memory_device(device, target.path); !disk) return disk;
    target.fd = Fd(::open(target.path.c_str(), O_RDWR | O_CLOEXEC | O_EXCL));
    target.device = true;
    return target.fd ? Status{} : explain(errno, target.path);
}

Status open_by_kind(const Url& url, const StoreOptions& options, FileTarget& target) {
    struct stat info {};
    if (::stat(url.path.c_str(), &info) != 0) {
        if (errno != ENOENT || url.path.ends_with('/')) return explain(errno, url.path);
        return open_named_file(target, false);
    }
    if (S_ISDIR(info.st_mode)) return open_in_directory(options, target);
    if (S_ISREG(info.st_mode)) return open_named_file(target, true);
    if (S_ISBLK(info.st_mode)) return open_device(info.st_rdev, target);
    return fail(EINVAL, "{} is neither a directory, a file nor a block device: name one of these", url.path);
}

/// Growing past RLIMIT_FSIZE would be answered with SIGXFSZ.
Status respect_file_limit(bool asked, FileTarget& target) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return {};
    if (limit.rlim_cur >= target.capacity + kLeaseSize) return {};
    if (asked || limit.rlim_cur < Url::kSizeMin + kLeaseSize)
        return fail(EFBIG,
                    "files may only grow to {} here: raise the limit (ulimit -f), or give a smaller ?size=",
                    format_size(limit.rlim_cur));
    target.capacity = (limit.rlim_cur - kLeaseSize) / kPageSize * kPageSize;
    return {};
}

Status find_device_capacity(std::uint64_t asked, FileTarget& target) {
    std::uint64_t bytes = 0;
    if (::ioctl(target.fd.get(), BLKGETSIZE64, &bytes) != 0) return explain(errno, target.path);
    const std::uint64_t most = bytes > kLeaseSize ? (bytes - kLeaseSize) / kPageSize * kPageSize : 0;
    if (most < Url::kSizeMin || asked > most)
        return fail(ENOSPC, "{} holds only {}: give a smaller ?size=, or name a larger device", target.path,
                    format_size(most));
    target.capacity = asked == 0 ? most : asked / kPageSize * kPageSize;
    return {};
}

Status find_capacity(std::uint64_t asked, const StoreOptions& options, FileTarget& target) {
    if (target.device) return find_device_capacity(asked, target);
    struct stat info {};
    if (::fstat(target.fd.get(), &info) != 0) return explain(errno, target.path);
    // A file that is there already says by its size how large it is to be.
    const auto there = static_cast<std::uint64_t>(info.st_size);
    if (asked == 0 && there >= Url::kSizeMin + kLeaseSize) {
        target.capacity = (there - kLeaseSize) / kPageSize * kPageSize;
    } else {
        const auto chosen = choose_capacity(target.fd.get(), target.path, asked, options.size_default);
        if (!chosen) return std::unexpected(chosen.error());
        target.capacity = *chosen;
    }
    return respect_file_limit(asked != 0, target);
}

/// Everything after the file is open; what fails here leaves no file behind.
Status activate(std::uint64_t asked, const StoreOptions& options, const LeaseTiming& timing,
                FileTarget& target) {
    if (Status size = find_capacity(asked, options, target); !size) return size;
    target.direct = make_direct(target.fd.get(), target.path);
    auto lease = make_lease(target.capacity);
    if (!lease) return std::unexpected(lease.error());
    target.lease = *lease;
    return take_file(target.fd.get(), target.path, target.lease, timing);
}

}  // namespace

Result<FileTarget> open_file_target(const Url& url, const StoreOptions& options, const LeaseTiming& timing) {
    if (Status known = url.allow_only({"size"}); !known) return std::unexpected(known.error());
    const auto asked = url.size(0);
    if (!asked) return std::unexpected(asked.error());
    FileTarget target;
    target.url = url.text;
    target.path = url.path;
    if (Status open = open_by_kind(url, options, target); !open) return std::unexpected(open.error());
    if (Status ready = activate(*asked, options, timing, target); !ready) {
        remove_made_file(target);
        return std::unexpected(ready.error());
    }
    return target;
}

Result<FileTarget> open_anonymous_target(const std::string& directory, const StoreOptions& options) {
    if (Status disk = refuse_memory(directory); !disk) return std::unexpected(disk.error());
    FileTarget target;
    target.url = "file:" + directory;
    target.path = directory;
    target.named = false;
    target.fd = Fd(::open(directory.c_str(), O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, kMode));
    const int error = target.fd ? 0 : errno;
    if (error == 0) {
        avoid_copy_on_write(target.fd.get());
    } else if (error == EOPNOTSUPP || error == EISDIR || error == EINVAL) {
        // The file system has no O_TMPFILE.
        if (Status made = open_in_directory(options, target); !made) return std::unexpected(made.error());
        remove_made_file(target);
        target.made = false;
    } else {
        return explain(error, directory);
    }
    if (Status size = find_capacity(0, options, target); !size) return std::unexpected(size.error());
    target.direct = make_direct(target.fd.get(), directory);
    return target;
}

void remove_made_file(const FileTarget& target) noexcept {
    if (!target.made) return;
    struct stat ours {};
    struct stat there {};
    if (::fstat(target.fd.get(), &ours) != 0 || ::stat(target.path.c_str(), &there) != 0) return;
    if (ours.st_dev == there.st_dev && ours.st_ino == there.st_ino) ::unlink(target.path.c_str());
}

}  // namespace farswap
