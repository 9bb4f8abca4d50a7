// The nfs: store as open.cpp sees it. Knows NFS servers; nothing of what is stored there.
#pragma once

#include <chrono>
#include <memory>
#include <string_view>
#include <vector>

#include "store/open.h"
#include "store/url.h"

namespace farswap {

/// As open_store(), for a URL of scheme nfs.
Result<std::unique_ptr<Store>> open_nfs_store(const Url& url, const StoreOptions& options, io::Loop& loop);

/// As check_store_url(), for a URL of scheme nfs.
Status check_nfs_url(const Url& url);

/// As list_orphans() and remove_orphan(), for a URL of scheme nfs.
Result<std::vector<Orphan>> list_nfs_orphans(const Url& url);
Status remove_nfs_orphan(const Url& url, const Orphan& orphan);

/// As time_null_calls(), for a URL of scheme nfs.
Result<std::vector<std::chrono::nanoseconds>> time_nfs_null_calls(const Url& url,
                                                                  std::chrono::milliseconds span);

}  // namespace farswap
