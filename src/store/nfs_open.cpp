// Finds, claims and sizes the file of an nfs: URL, and lists and removes those that nobody owns any more.
// Knows URLs, leases and the control plane; the data path is nfs_file.h.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>

#include "base/log.h"
#include "store/lease.h"
#include "store/nfs_control.h"
#include "store/nfs_file.h"
#include "store/nfs_server_url.h"
#include "store/nfs_store.h"

namespace farswap {
namespace {

using namespace nfs;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto kAnswerMax = 5s;                   // a server that has not answered by then is reported
constexpr auto kFirstChunkMax = 30s;              // it answers, and may be slow
constexpr std::uint64_t kFirstChunk = 16u << 20;  // bytes reserved at once; the rest while the job runs
constexpr std::uint32_t kTransferMax = 1u
                                       << 20;  // bytes; servers offer 1 MiB at least, and more gains nothing
constexpr auto kClaimSettle = 300ms;           // longer than anybody's look before his claim
constexpr auto kWatchPoll = 1s;
constexpr std::string_view kJobPrefix = "farswap-";
constexpr int kNamesTried = 100;
constexpr std::uint64_t kForeignSearch = 1u
                                         << 20;  // bytes; file systems and disk images leave their mark there

/// The place that a URL names.
struct Place {
    Server server;
    FileHandle directory{};
    FileHandle file{};
    std::string directory_path;
    std::string file_name{};  ///< empty: the URL names a directory
};

Deadline soon() {
    return steady_clock::now() + kAnswerMax;
}

/// The error with the URL in front, so that the operator sees which of several stores it is.
std::unexpected<Error> fail_for(const Url& url, Error error) {
    if (error.message.find(url.text) == std::string::npos)
        error.message = fmt::format("{}: {}", url.text, error.message);
    return std::unexpected(std::move(error));
}

std::string permission_hint(const Server& server) {
    return fmt::format(
        "uid {} gid {} may not; change the directory's owner or mode on the server, or add ?uid=&gid=",
        server.credential.uid, server.credential.gid);
}

/// Whether a mountd that said so may know a directory above.
bool may_be_below_an_export(int code) {
    constexpr std::array kCodes{ENOENT, EACCES, EPERM, ENOTDIR, EINVAL, EOPNOTSUPP, EREMOTEIO};
    return std::ranges::find(kCodes, code) != kCodes.end();
}

/// Some servers mount a file as well; we want the directory that it is in.
Result<Control::Found> mount_directory(const std::string& path, Control& control) {
    control.set_deadline(soon());
    auto found = control.mount(path);
    if (found && !found->directory) return fail(ENOTDIR, "{} is a file", path);
    return found;
}

/// Mounts the longest part of the path that the server lets us, and walks the rest.
Result<Place> find(const Url& url, const Server& server, Control& control) {
    std::string path = url.path;
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    std::string mounted = path;
    std::vector<std::string> rest;  // components below `mounted`, the last one first
    auto at = mount_directory(mounted, control);
    const auto whole = at;
    while (!at && may_be_below_an_export(at.error().code) && mounted.size() > 1) {
        const std::size_t slash = mounted.rfind('/');
        rest.push_back(mounted.substr(slash + 1));
        mounted = slash == 0 ? "/" : mounted.substr(0, slash);
        at = mount_directory(mounted, control);
    }
    if (!at && may_be_below_an_export(at.error().code)) {
        return fail(
            ENOENT,
            "the server exports nothing there to this machine ({}); `showmount -e {}` lists its exports",
            whole.error().message, server.host);
    }
    Place place{.server = server, .directory_path = path};
    for (; at && !rest.empty(); rest.pop_back()) {
        place.directory = at->handle;
        at = control.lookup(place.directory, rest.back());
        place.file_name = rest.back();
    }
    if (!at && at.error().code == ENOENT) {
        return fail(
            ENOENT,
            "no such file or directory on the server; make the directory (or an empty file) there, or "
            "name another");
    }
    if (!at) return std::unexpected(at.error());
    if (at->directory) {
        place.directory = at->handle;
        place.file_name.clear();
    } else {
        place.file = at->handle;
        place.directory_path = path.substr(0, path.rfind('/'));
    }
    return place;
}

struct Opened {
    std::unique_ptr<Control> control;
    Place place;
};

Result<Opened> open_by(const Url& url, const Server& server) {
    auto control = Control::connect(server, soon());
    if (!control) return std::unexpected(control.error());
    auto place = find(url, server, **control);
    if (!place) return std::unexpected(place.error());
    return Opened{std::move(*control), std::move(*place)};
}

/// Whether a server that cannot be talked to by NFSv3 for that reason may know NFSv4 alone: nobody listens at
/// its rpcbind or mountd, or they know nothing of NFSv3.
bool may_be_newer(int code) {
    return code == ECONNREFUSED || code == EPROTONOSUPPORT;
}

Result<Opened> open_place(const Url& url) {
    auto server = server_of(url);
    if (!server) return std::unexpected(server.error());
    auto opened = open_by(url, *server);
    if (opened || url.parameter("version") || !may_be_newer(opened.error().code)) return opened;
    server->version = 4;
    auto newer = open_by(url, *server);
    if (!newer && may_be_newer(newer.error().code)) return opened;
    log::info("nfs://{}{}: there is no NFSv3 ({}); trying NFSv4.1", url.host, url.path,
              opened.error().message);
    return newer;
}

// ---- leases

struct Record {
    LeaseContent content = LeaseContent::kEmpty;
    Lease lease;
    bool operator==(const Record& other) const {
        return content == other.content && lease.nonce == other.lease.nonce &&
               lease.beat == other.lease.beat && lease.state == other.lease.state;
    }
};

Result<Record> read_record(Control& control, const FileHandle& file) {
    std::array<std::byte, kLeaseSize> block{};  // a file that is shorter counts as zeros behind its end
    control.set_deadline(soon());
    auto count = control.read(file, 0, block);
    if (!count) return std::unexpected(count.error());
    Record record;
    record.content = decode_lease(block, record.lease);
    return record;
}

/// Watches a record whose owner may be gone. -> whether it was renewed meanwhile.
Result<bool> renewed(Control& control, const FileHandle& file, const Record& record) {
    for (const Deadline end = steady_clock::now() + kLeaseWatch; steady_clock::now() < end;) {
        if (auto watched = watch_for(kWatchPoll); !watched) return std::unexpected(watched.error());
        auto now = read_record(control, file);
        if (!now) return std::unexpected(now.error());
        if (!(*now == record)) return true;
    }
    return false;
}

/// Whether nobody owns the file; waits for kLeaseWatch where only time can tell.
Status check_unowned(Control& control, const FileHandle& file, const Record& record) {
    const auto here = observe_from_here();
    if (!here) return std::unexpected(here.error());
    const std::string owner = describe_owner(record.lease, here->now_s);
    switch (judge(record.lease, *here)) {
        case Owner::kNone:
        case Owner::kDead:
            return {};
        case Owner::kAlive:
            return fail(EBUSY, "in use by {}; name another file, or a directory to get a file of its own",
                        owner);
        case Owner::kUnknown:
            break;
    }
    log::info("waiting {} s to see whether the owner is gone: {}", kLeaseWatch.count(), owner);
    auto alive = renewed(control, file, record);
    if (!alive) return std::unexpected(alive.error());
    if (*alive) return fail(EBUSY, "in use by {}", owner);
    return {};
}

Status write_lease(Control& control, const FileHandle& file, const Lease& lease) {
    std::array<std::byte, kLeaseSize> block;
    encode_lease(lease, block);
    Verifier verifier{};
    control.set_deadline(soon());
    auto written = control.write(file, 0, block, kTransferMax, verifier);
    if (written) written = control.commit(file, verifier);
    if (!written) return std::unexpected(written.error());
    if (!*written) return fail(ESTALE, "the server restarted meanwhile; try again");
    return {};
}

/// Whether the file begins with nothing but zeros: the first page alone says little, as some file systems
/// (btrfs, ISO 9660) leave it empty.
Result<bool> begins_with_zeros(Control& control, const FileHandle& file) {
    std::vector<std::byte> bytes(64 * 1024);
    control.set_deadline(soon());
    for (std::uint64_t at = 0; at < kForeignSearch;) {
        const auto count = control.read(file, at, bytes);
        if (!count) return std::unexpected(count.error());
        if (*count == 0) break;
        const auto read = std::span(bytes).first(*count);
        if (std::ranges::any_of(read, [](std::byte byte) { return byte != std::byte{0}; })) return false;
        at += *count;
    }
    return true;
}

/// Takes a file that serves one job at a time, unless somebody has it.
Status claim(Control& control, const FileHandle& file, const Lease& lease) {
    const auto record = read_record(control, file);
    if (!record) return std::unexpected(record.error());
    const auto unused = record->content == LeaseContent::kEmpty ? begins_with_zeros(control, file)
                                                                : record->content == LeaseContent::kLease;
    if (!unused) return std::unexpected(unused.error());
    if (!*unused) {
        return fail(
            EEXIST,
            "the file holds something that is not farswap's; to give it up, empty it first (truncate -s 0)");
    }
    if (record->content == LeaseContent::kLease) {
        if (auto unowned = check_unowned(control, file, *record); !unowned) return unowned;
    }
    if (auto written = write_lease(control, file, lease); !written) return written;
    // NFSv3 has no compare-and-write: of two who claim at once, the one who wrote last finds itself here.
    std::this_thread::sleep_for(kClaimSettle);
    const auto now = read_record(control, file);
    if (!now) return std::unexpected(now.error());
    if (now->content != LeaseContent::kLease || now->lease.nonce != lease.nonce) {
        const auto here = observe_from_here();
        return fail(EBUSY, "in use by {}", describe_owner(now->lease, here ? here->now_s : 0));
    }
    return {};
}

// ---- activation

Status reserve_first_chunk(Control& control, ClaimedFile& file) {
    const auto chunk = std::min(kFirstChunk, file.capacity);
    const std::vector<std::byte> zeros(kTransferMax);
    control.set_deadline(steady_clock::now() + kFirstChunkMax);
    Unstable unstable;
    Verifier verifier{};
    for (std::uint64_t at = 0; at < chunk; at += zeros.size()) {
        const auto length = std::min<std::uint64_t>(zeros.size(), chunk - at);
        auto same =
            control.write(file.file, kLeaseSize + at, {zeros.data(), length}, file.write_max, verifier);
        if (!same) return std::unexpected(same.error());
        unstable.add(verifier);
    }
    const auto committed = control.commit(file.file, verifier);
    if (!committed) return std::unexpected(committed.error());
    if (!*committed || !unstable.kept_by(verifier))
        return fail(ESTALE, "the server restarted meanwhile; try again");
    file.reserved = chunk;
    return {};
}

/// Fixes capacity and transfer sizes.
Status measure(Control& control, const Url& url, const StoreOptions& options, ClaimedFile& file) {
    const auto limits = control.limits(file.directory);
    if (!limits) return std::unexpected(limits.error());
    const auto size = url.size(options.size_default);
    if (!size) return std::unexpected(size.error());
    const std::uint64_t free = limits->free_bytes - std::min<std::uint64_t>(limits->free_bytes, kLeaseSize);
    file.capacity = (*size != 0 ? *size : free) / kPageSize * kPageSize;
    if (file.capacity < Url::kSizeMin) return fail(ENOSPC, "the store is full: {} free", format_size(free));
    file.read_max = std::min(kTransferMax, limits->read_max);
    file.write_max = std::min(kTransferMax, limits->write_max);
    if (file.read_max < kPageSize || file.write_max < kPageSize) {
        return fail(EPROTO, "the server transfers only {} bytes at a time",
                    std::min(file.read_max, file.write_max));
    }
    return {};
}

/// Errors of the file system behind the export, in words that say what to do.
Error explained(Error error, const Place& place) {
    switch (error.code) {
        case EACCES:
        case EPERM:
            return {EACCES, fmt::format("no permission to write in {}: {}", place.directory_path,
                                        permission_hint(place.server))};
        case EROFS:
            return {EROFS, "the export is read-only: export it read-write, or name another"};
        case ENOSPC:
            return {ENOSPC, "the store is full: free space on the server, or name another"};
        case EDQUOT:
            return {EDQUOT,
                    fmt::format("the quota of uid {} on the server is used up", place.server.credential.uid)};
        default:
            return error;
    }
}

/// Takes back what was made for a store that is not to be, over a connection of its own: the first one may be
/// what failed. `only_empty`: whether the file is ours is not known, but one that somebody uses has a lease.
void take_back(const ClaimedFile& file, const std::string& name, bool only_empty) {
    auto control = Control::connect(file.server, soon());
    Status gone = control ? Status{} : std::unexpected(control.error());
    if (control) {
        const auto found = (*control)->lookup(file.directory, name);
        if (!found || (only_empty && found->size > 0)) return;
        gone = (*control)->remove(file.directory, name);
    }
    if (!gone && !only_empty)
        log::warning("{}: cannot remove {}: {}; `farswap check --clean` removes it later", file.name, name,
                     gone.error().message);
}

/// A file of the job's own. One name may be taken: by another store of the same job, on the same directory.
Status create_own_file(Control& control, const StoreOptions& options, ClaimedFile& file) {
    const std::string stem =
        options.job.empty() ? fmt::format("{}{:016x}", kJobPrefix, file.lease.nonce) : options.job;
    for (int number = 1; number <= kNamesTried; ++number) {
        const std::string name = number == 1 ? stem : fmt::format("{}-{}", stem, number);
        auto created = control.create(file.directory, name);
        if (!created && created.error().code == EEXIST) continue;
        if (!created) {
            // The answer may have been lost, and not the call.
            if (control.broken()) take_back(file, name, true);
            return std::unexpected(created.error());
        }
        file.file = *created;
        file.file_name = name;
        file.remove_at_close = true;
        return {};
    }
    return fail(EEXIST, "{} and {} more names are taken: farswap check --clean removes what dead jobs left",
                stem, kNamesTried);
}

Result<ClaimedFile> activate(Control& control, const Place& place, const Url& url,
                             const StoreOptions& options) {
    ClaimedFile file{.name = fmt::format("nfs://{}{}", url.host, url.path),
                     .server = place.server,
                     .directory = place.directory,
                     .file = place.file,
                     .file_name = place.file_name};
    if (auto status = measure(control, url, options, file); !status) return std::unexpected(status.error());
    auto lease = make_lease(file.capacity);
    if (!lease) return std::unexpected(lease.error());
    file.lease = *lease;
    const auto peer = control.peer();
    if (!peer) return std::unexpected(peer.error());
    file.address = *peer;

    Status claimed;
    if (place.file_name.empty()) {
        if (auto made = create_own_file(control, options, file); !made) return std::unexpected(made.error());
        claimed = write_lease(control, file.file, file.lease);
    } else {
        claimed = claim(control, file.file, file.lease);
        if (!claimed) return std::unexpected(claimed.error());
    }
    if (claimed) claimed = reserve_first_chunk(control, file);
    if (claimed) return file;
    control.set_deadline(soon());
    if (file.remove_at_close) {
        take_back(file, file.file_name, false);
    } else {
        file.lease.state = Lease::State::kFree;
        (void)write_lease(control, file.file, file.lease);
    }
    return std::unexpected(claimed.error());
}

Result<Orphan> inspect(Control& control, const Place& place, const std::string& name) {
    const auto found = control.lookup(place.directory, name);
    if (!found) return std::unexpected(found.error());
    const auto record = read_record(control, found->handle);
    if (!record) return std::unexpected(record.error());
    if (record->content == LeaseContent::kForeign) return fail(EEXIST, "{} is not a file of farswap", name);
    const auto here = observe_from_here();
    if (!here) return std::unexpected(here.error());
    Orphan orphan{.path = fmt::format("{}/{}", place.directory_path, name),
                  .owner = "unknown: it has no lease yet",
                  .bytes = found->size};
    if (record->content == LeaseContent::kLease) {
        orphan.owner = describe_owner(record->lease, here->now_s);
        orphan.alive = judge(record->lease, *here) == Owner::kAlive;
    }
    return orphan;
}

}  // namespace

Result<std::unique_ptr<Store>> open_nfs_store(const Url& url, const StoreOptions& options, io::Loop& loop) {
    auto opened = open_place(url);
    if (!opened) return fail_for(url, opened.error());
    auto file = activate(*opened->control, opened->place, url, options);
    if (!file) return fail_for(url, explained(file.error(), opened->place));
    return std::make_unique<NfsFile>(loop, std::move(*file));
}

Status check_nfs_url(const Url& url) {
    const auto server = server_of(url);
    if (!server) return fail_for(url, server.error());
    const auto size = url.size(0);
    return size ? Status{} : std::unexpected(size.error());
}

Result<std::vector<Orphan>> list_nfs_orphans(const Url& url) {
    auto opened = open_place(url);
    if (!opened) return fail_for(url, opened.error());
    std::vector<Orphan> orphans;
    if (!opened->place.file_name.empty())
        return orphans;  // a file serves job after job: it is never an orphan
    auto names = opened->control->list(opened->place.directory, std::string(kJobPrefix));
    if (!names) return fail_for(url, names.error());
    for (const std::string& name : *names) {
        auto orphan = inspect(*opened->control, opened->place, name);
        if (orphan) {
            orphans.push_back(std::move(*orphan));
        } else if (opened->control->broken() || orphan.error().code == ETIMEDOUT) {
            return fail_for(url, orphan.error());
        }  // else: somebody else's file, or one that was removed meanwhile
    }
    return orphans;
}

Status remove_nfs_orphan(const Url& url, const Orphan& orphan) {
    auto opened = open_place(url);
    if (!opened) return fail_for(url, opened.error());
    Control& control = *opened->control;
    const Place& place = opened->place;
    const std::string name = orphan.path.substr(orphan.path.rfind('/') + 1);
    const auto found = control.lookup(place.directory, name);
    if (!found) return fail_for(url, found.error());
    const auto record = read_record(control, found->handle);
    if (!record) return fail_for(url, record.error());
    Status unowned;
    if (record->content == LeaseContent::kLease) {
        unowned = check_unowned(control, found->handle, *record);
    } else if (record->content == LeaseContent::kForeign) {
        unowned = fail(EEXIST, "{} is not a file of farswap", name);
    } else if (const auto alive = renewed(control, found->handle, *record); !alive || *alive) {
        unowned = alive ? fail(EBUSY, "{} is in use", name) : std::unexpected(alive.error());
    }
    if (!unowned) return fail_for(url, unowned.error());
    control.set_deadline(soon());
    if (auto removed = control.remove(place.directory, name); !removed)
        return fail_for(url, explained(removed.error(), place));
    return {};
}

}  // namespace farswap
