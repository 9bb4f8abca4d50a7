// The lease in a store's first page, which any client of the server may have written: what is decoded, judged
// and told of it. Bytes as they are hardly ever have the right checksum, so they are also taken as the record
// under a good one.
#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <limits>

#include "fuzz.h"
#include "store/lease.h"

namespace farswap {
namespace {

using Block = std::array<std::byte, kLeaseSize>;

bool never_runs(std::uint32_t, std::uint64_t) {
    return false;
}

void use(const Lease& lease) {
    PROMISE(std::memchr(lease.host.data(), '\0', lease.host.size()) != nullptr);
    PROMISE(std::memchr(lease.boot_id.data(), '\0', lease.boot_id.size()) != nullptr);
    Observer observer;
    observer.process_runs = never_runs;
    for (const std::int64_t now :
         {std::int64_t{0}, std::int64_t{1'700'000'000}, std::numeric_limits<std::int64_t>::max()}) {
        observer.now_s = now;
        const Owner owner = judge(lease, observer);
        PROMISE((owner == Owner::kNone) == (lease.state == Lease::State::kFree));
        // It is printed on somebody's terminal.
        PROMISE(std::ranges::all_of(describe_owner(lease, now),
                                    [](unsigned char c) { return std::isprint(c) != 0; }));
    }
    // A process of this machine decides about its lease alone, whatever the clock says.
    observer.host = lease.host;
    observer.boot_id = lease.boot_id;
    observer.pid_namespace = lease.pid_namespace;
    PROMISE(lease.state == Lease::State::kFree || judge(lease, observer) == Owner::kDead);
}

}  // namespace
}  // namespace farswap

using namespace farswap;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Block block{};
    if (size > 0) std::memcpy(block.data(), data, std::min(size, block.size()));
    Lease lease;
    if (decode_lease(block, lease) == LeaseContent::kLease) use(lease);

    Lease given;
    if (size > 0) std::memcpy(static_cast<void*>(&given), data, std::min(size, sizeof given));
    encode_lease(given, block);
    PROMISE(decode_lease(block, lease) == LeaseContent::kLease);
    use(lease);
    // A flipped bit is noticed, wherever it is within the record.
    if (size > 0) {
        const std::size_t bit = (data[0] | data[size - 1] << 8) % (192 * 8);
        block[bit / 8] ^= std::byte{1} << bit % 8;
        PROMISE(decode_lease(block, lease) == LeaseContent::kForeign);
    }
    return 0;
}
