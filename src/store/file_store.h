// The file: store: a file in a directory, a named file or a block device, by direct I/O through the loop.
// Knows nothing of whose pages it holds.
#pragma once

#include <memory>

#include "farswap/store.h"
#include "io/loop.h"
#include "store/lease.h"
#include "store/open.h"
#include "store/url.h"

namespace farswap {

/// As open_store(), for a URL of scheme file.
Result<std::unique_ptr<Store>> open_file_store(const Url& url, const StoreOptions& options, io::Loop& loop,
                                               const LeaseTiming& timing = {});

/// As check_store_url(), for a URL of scheme file.
Status check_file_url(const Url& url);

/// A store in a file without a name in `directory`.
Result<std::unique_ptr<Store>> open_anonymous_store(const std::string& directory, const StoreOptions& options,
                                                    io::Loop& loop);

/// As list_orphans() and remove_orphan(), for a URL of scheme file.
Result<std::vector<Orphan>> list_file_orphans(const Url& url, const LeaseTiming& timing = {});
Status remove_file_orphan(const Url& url, const Orphan& orphan);

}  // namespace farswap
