// The lease of a file or block device: reads and writes the record, and takes a file over. Knows descriptors;
// nothing of the store's data.
#pragma once

#include <string>

#include "store/lease.h"

namespace farswap {

/// A page of memory for direct I/O.
struct alignas(kLeaseSize) LeasePage {
    std::array<std::byte, kLeaseSize> bytes{};
};

/// Reads the record at the start of the file. A file shorter than a record is kEmpty when it is empty or
/// zero.
Result<LeaseContent> read_lease(int fd, Lease& lease);
/// Writes the record and waits until it is durable.
Status write_lease(int fd, const Lease& lease);

/// Whether nothing but zeros lies in the first `bytes` of the file (or up to its end).
Result<bool> starts_with_zeros(int fd, std::size_t bytes);

/// Takes the file for `lease`: locks it (flock(2), until release_file()), refuses when a live owner has it
/// (EBUSY, the owner named) or when it holds what is not ours (EEXIST), watches an owner that may be dead,
/// and writes the lease. `path` is for messages.
Status take_file(int fd, const std::string& path, const Lease& lease, const LeaseTiming& timing);
/// Unlocks the file. Closing `fd` would do that only when the last reference to it is gone, and a worker of
/// io_uring may hold one for a moment after its request has ended, a forked process until it executes another
/// program.
void release_file(int fd) noexcept;

}  // namespace farswap
