// Opens a store by its URL. The one place that knows all kinds of stores.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "farswap/store.h"
#include "io/loop.h"

namespace farswap {

struct StoreOptions {
    std::uint64_t size_default =
        0;            ///< bytes, for a URL without ?size=; 0 lets the store choose (free space)
    std::string job;  ///< names the file made in a directory, e.g. "farswap-HOST-PID-RANDOM"
};

/// Activates the store: connects, takes ownership (the lease), fixes the size and reserves the first chunk.
/// Blocking; bounded by a few seconds for a server that does not answer.
///   file:PATH[?size=N]                        a directory (own unlinked-at-exit file), a file, or a block
///   device nfs://HOST/EXPORT/PATH[?version=3&nfsport=&mountport=&uid=&gid=&size=N]
/// Errors are one line that says what to do: ENOENT, EACCES, EROFS, ENOSPC, EBUSY (a live owner, named),
/// EINVAL (URL), ETIMEDOUT/ECONNREFUSED (server).
Result<std::unique_ptr<Store>> open_store(std::string_view url, const StoreOptions& options, io::Loop& loop);

/// The store that serves without --swap: an unlinked file under /var/tmp.
Result<std::unique_ptr<Store>> open_default_store(const StoreOptions& options, io::Loop& loop);

/// A file of farswap found in a store's directory whose owner is gone (its lease has expired, or the host and
/// boot id are ours and the process is dead).
struct Orphan {
    std::string path;
    std::string owner;  ///< "host HOST, pid N, last sign of life 3 h ago"
    std::uint64_t bytes = 0;
    bool alive = false;  ///< listed, never removed
};
Result<std::vector<Orphan>> list_orphans(std::string_view url);
/// Removes the orphan at `path` of the directory that `url` names, after checking its lease again.
Status remove_orphan(std::string_view url, const Orphan& orphan);

}  // namespace farswap
