// Opens a store by its URL. The one place that knows all kinds of stores.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "farswap/store.h"
#include "io/loop.h"

namespace farswap {

struct StoreOptions {
    /// Bytes, for a URL without ?size=; 0 lets the store choose (most of the free space).
    std::uint64_t size_default = 0;
    /// Names the file made in a directory, e.g. "farswap-HOST-PID-RANDOM"; made up when it is empty.
    std::string job = {};
};

/// Activates the store: connects, takes ownership (the lease), fixes the size and reserves the first chunk.
/// Blocking, and may run the loop; bounded by a few seconds for a server that does not answer. Only a named
/// file or device whose owner is silent but not surely dead takes longer: it is watched for kLeaseWatch.
///
/// Every URL may have ?prio=, see store_priority().
///
/// `file:PATH[?size=N]`: a directory (gets a file of its own, removed at the end), a file, or a block device.
///
/// `nfs://HOST/EXPORT/PATH[?version=3|4&nfsport=&mountport=&uid=&gid=&size=N]`: a directory or a file.
///
/// `nbd://HOST[:PORT]/EXPORT[?size=N]`, `nbd+unix:///EXPORT?socket=PATH[&size=N]`: an NBD export.
///
/// `plugin:PATH?size=N[&...]`: a shared object that brings a store of its own (farswap/store_plugin.h).
///
/// Errors are one line that says what to do: ENOENT, EACCES, EROFS, ENOSPC, EBUSY (a live owner, named),
/// EINVAL (URL), ETIMEDOUT/ECONNREFUSED (server).
Result<std::unique_ptr<Store>> open_store(std::string_view url, const StoreOptions& options, io::Loop& loop);

/// The ?prio= of a store's URL, which every kind of store may have: nothing when it is not given. EINVAL.
Result<std::optional<int>> store_priority(std::string_view url);

/// Whether the URL is one that open_store() understands, by its text alone: EINVAL, as open_store() gives it.
Status check_store_url(std::string_view url);

/// The store that serves without --swap: an unlinked file under /var/tmp.
Result<std::unique_ptr<Store>> open_default_store(const StoreOptions& options, io::Loop& loop);

/// A file of farswap found in a store's directory whose owner is gone (its lease has expired, or the host and
/// boot id are ours and the process is dead).
struct Orphan {
    std::string path = {};
    std::string owner = {};  ///< "host HOST, pid N, last sign of life 3 h ago"
    std::uint64_t bytes = 0;
    bool alive = false;       ///< listed, never removed
    std::uint64_t nonce = 0;  ///< of the lease as it was listed: the removal checks that
    std::uint64_t beat = 0;   ///< it has not been renewed or replaced since
};
Result<std::vector<Orphan>> list_orphans(std::string_view url);
/// Removes the orphan at `path` of the directory that `url` names, after checking its lease again.
Status remove_orphan(std::string_view url, const Orphan& orphan);

/// How long calls that ask for nothing take, one after the other for so long, on a connection of their own:
/// the floor of what the store's server can do. EOPNOTSUPP for a store that has no such call. Blocking.
Result<std::vector<std::chrono::nanoseconds>> time_null_calls(std::string_view url,
                                                              std::chrono::milliseconds span);

}  // namespace farswap
