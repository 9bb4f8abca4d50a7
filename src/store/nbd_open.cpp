// Finds, claims and measures the export of an nbd: URL. Knows URLs and leases; the data path is nbd_store.h.
#include <algorithm>
#include <array>
#include <thread>

#include "base/log.h"
#include "store/nbd_control.h"
#include "store/nbd_store.h"

namespace farswap {
namespace {

using namespace nbd;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto kAnswerMax = 5s;       // a server that has not answered by then is reported
constexpr auto kClaimSettle = 300ms;  // longer than anybody's look before his claim
constexpr auto kWatchPoll = 1s;
// File systems, partition tables and volume managers leave their mark in the first MiB.
constexpr std::uint64_t kForeignSearch = 1u << 20;

Deadline soon() {
    return steady_clock::now() + kAnswerMax;
}

Status check_geometry(const std::string& name, const Geometry& geometry) {
    if (geometry.read_only)
        return fail(EROFS, "{}: the export is read-only: export it for writing, or name another", name);
    if (!geometry.can_flush)
        return fail(
            EOPNOTSUPP,
            "{}: the export cannot flush (NBD_CMD_FLUSH), so that nothing on it would ever be safe: name "
            "another",
            name);
    const bool power_of_two = (geometry.block_min & (geometry.block_min - 1)) == 0;
    if (!power_of_two || geometry.block_min > kPageSize || geometry.transfer_max < kPageSize)
        return fail(
            EPROTO,
            "{}: the export takes blocks of {} to {} only, and a page has 4 KiB: name another, or change "
            "its block size",
            name, format_size(geometry.block_min), format_size(geometry.transfer_max));
    return {};
}

/// Bytes for data: the export's size without the lease, or what ?size= says of it.
Result<std::uint64_t> choose_capacity(const Url& url, const std::string& name, const Geometry& geometry) {
    const auto asked = url.size(0);
    if (!asked) return std::unexpected(asked.error());
    const std::uint64_t most =
        geometry.size > kLeaseSize ? (geometry.size - kLeaseSize) / kPageSize * kPageSize : 0;
    if (most < Url::kSizeMin || *asked > most)
        return fail(ENOSPC, "{}: the export holds only {}: give a smaller ?size=, or name a larger one", name,
                    format_size(most));
    return *asked != 0 ? *asked / kPageSize * kPageSize : most;
}

// ---- the lease

struct Record {
    LeaseContent content = LeaseContent::kEmpty;
    Lease lease;
    bool same_as(const Record& other) const {
        return content == other.content && lease.nonce == other.lease.nonce &&
               lease.beat == other.lease.beat && lease.state == other.lease.state;
    }
};

Result<Record> read_record(Control& control) {
    std::array<std::byte, kLeaseSize> block;
    control.set_deadline(soon());
    if (Status got = control.read(0, block); !got) return std::unexpected(got.error());
    Record record;
    record.content = decode_lease(block, record.lease);
    return record;
}

Status write_lease(Control& control, const Lease& lease) {
    std::array<std::byte, kLeaseSize> block;
    encode_lease(lease, block);
    control.set_deadline(soon());
    if (Status put = control.write(0, block); !put) return put;
    return control.flush();
}

Status busy(const std::string& name, const std::string& owner) {
    return fail(EBUSY, "{}: in use by {}; name another export", name, owner);
}

/// Watches an owner that may be gone.
Status watch_owner(Control& control, const std::string& name, const Record& seen, const std::string& owner,
                   const LeaseTiming& timing) {
    log::info("{}: waiting {} s to see whether the owner is gone: {}", name,
              std::chrono::duration_cast<std::chrono::seconds>(timing.watch).count(), owner);
    for (const Deadline end = steady_clock::now() + timing.watch; steady_clock::now() < end;) {
        if (Status watched = watch_for(std::min<std::chrono::milliseconds>(kWatchPoll, timing.watch));
            !watched)
            return watched;
        const auto now = read_record(control);
        if (!now) return std::unexpected(now.error());
        if (!now->same_as(seen)) return busy(name, owner);
    }
    return {};
}

Result<bool> begins_with_zeros(Control& control, std::uint64_t size) {
    std::vector<std::byte> bytes(64 * 1024);
    for (std::uint64_t at = 0; at < std::min(kForeignSearch, size); at += bytes.size()) {
        const auto part = std::span(bytes).first(std::min<std::uint64_t>(bytes.size(), size - at));
        control.set_deadline(soon());
        if (Status got = control.read(at, part); !got) return std::unexpected(got.error());
        if (std::ranges::any_of(part, [](std::byte byte) { return byte != std::byte{0}; })) return false;
    }
    return true;
}

/// Whether nobody's data and no live owner are on the export.
Status check_unused(Control& control, const std::string& name, const Geometry& geometry,
                    const LeaseTiming& timing) {
    const auto record = read_record(control);
    if (!record) return std::unexpected(record.error());
    if (record->content != LeaseContent::kLease) {
        const auto zeros =
            begins_with_zeros(control, geometry.size / geometry.block_min * geometry.block_min);
        if (!zeros) return std::unexpected(zeros.error());
        if (*zeros) return {};
        return fail(
            EEXIST,
            "{}: the export holds data that are not farswap's: name another, or wipe its first MiB if "
            "nobody needs them",
            name);
    }
    const auto here = observe_from_here();
    if (!here) return std::unexpected(here.error());
    const std::string owner = describe_owner(record->lease, here->now_s);
    switch (judge(record->lease, *here)) {
        case Owner::kNone:
        case Owner::kDead:
            return {};
        case Owner::kAlive:
            return busy(name, owner);
        case Owner::kUnknown:
            return watch_owner(control, name, *record, owner, timing);
    }
    return {};
}

Status claim(Control& control, const std::string& name, const Geometry& geometry, const Lease& lease,
             const LeaseTiming& timing) {
    if (Status unused = check_unused(control, name, geometry, timing); !unused) return unused;
    if (Status written = write_lease(control, lease); !written) return written;
    // NBD has no compare-and-write: of two who claim at once, the one who wrote last finds itself here.
    std::this_thread::sleep_for(kClaimSettle);
    const auto now = read_record(control);
    if (!now) return std::unexpected(now.error());
    if (now->content == LeaseContent::kLease && now->lease.nonce == lease.nonce) return {};
    const auto here = observe_from_here();
    return busy(name, describe_owner(now->lease, here ? here->now_s : 0));
}

/// A second connection, for reads. A server that promises several and gives none is used with one.
Handle connect_reads(const ClaimedExport& claimed) {
    if (!claimed.geometry.multi_connection) return nullptr;
    auto second = Control::connect(claimed.endpoints, soon());
    if (second) return second->release();
    log::info("{}; reads and writes share one connection", second.error().message);
    return nullptr;
}

}  // namespace

bool is_nbd_scheme(const Url& url) {
    return url.scheme == "nbd" || url.scheme == "nbd+unix" || url.scheme == "nbds" ||
           url.scheme == "nbds+unix";
}

Status check_nbd_url(const Url& url) {
    if (Status good = check_endpoint(url); !good) return good;
    const auto size = url.size(0);
    return size ? Status{} : std::unexpected(size.error());
}

Result<std::unique_ptr<Store>> open_nbd_store(const Url& url, const StoreOptions&, io::Loop& loop,
                                              const LeaseTiming& timing,
                                              std::chrono::milliseconds silence_max) {
    if (Status good = check_nbd_url(url); !good) return std::unexpected(good.error());
    const auto endpoints = resolve(url);
    if (!endpoints) return std::unexpected(endpoints.error());
    auto control = Control::connect(*endpoints, soon());
    if (!control) return std::unexpected(control.error());
    ClaimedExport claimed{
        .name = endpoints->front().name, .endpoints = {control->endpoint()}, .geometry = control->geometry()};
    if (Status fit = check_geometry(claimed.name, claimed.geometry); !fit)
        return std::unexpected(fit.error());
    const auto capacity = choose_capacity(url, claimed.name, claimed.geometry);
    if (!capacity) return std::unexpected(capacity.error());
    claimed.capacity = *capacity;
    const auto lease = make_lease(claimed.capacity);
    if (!lease) return std::unexpected(lease.error());
    claimed.lease = *lease;
    if (Status taken = claim(*control, claimed.name, claimed.geometry, claimed.lease, timing); !taken)
        return std::unexpected(taken.error());
    claimed.writes = control->release();
    claimed.reads = connect_reads(claimed);
    return std::make_unique<NbdStore>(loop, std::move(claimed), timing, silence_max);
}

}  // namespace farswap
