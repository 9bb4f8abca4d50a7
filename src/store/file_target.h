// Opens what a file: URL names, a directory, a file or a block device, and takes it for this job. Knows the
// file systems' rules; nothing of requests.
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "store/lease.h"
#include "store/open.h"
#include "store/url.h"

namespace farswap {

/// An open file that is ours. The store's data begin at kLeaseSize.
struct FileTarget {
    Fd fd;
    std::string path;            ///< for messages; of the file itself
    std::string url;             ///< the store's name
    bool named = true;           ///< other processes can find it, so that it needs a lease
    bool made = false;           ///< we created it: it is removed at the end
    bool device = false;         ///< a block device: all of it is there from the start
    bool direct = false;         ///< O_DIRECT
    std::uint64_t capacity = 0;  ///< bytes of data
    Lease lease;
};

/// ENOENT, EACCES, EROFS, ENOSPC, EBUSY, EINVAL (memory file system, neither file, directory nor block
/// device), EEXIST (holds what is not farswap's): each a line that says what to do.
Result<FileTarget> open_file_target(const Url& url, const StoreOptions& options, const LeaseTiming& timing);

/// A file without a name in `directory`, gone when it is closed.
Result<FileTarget> open_anonymous_target(const std::string& directory, const StoreOptions& options);

/// Removes the file that `target` made, if its name still means that file.
void remove_made_file(const FileTarget& target) noexcept;

}  // namespace farswap
