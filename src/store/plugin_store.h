// Stores that come from outside: --swap plugin:PATH loads a shared object that defines farswap_open_store().
// Knows the interface of such objects (farswap/store_plugin.h), and no store.
#pragma once

#include <memory>

#include "base/result.h"
#include "farswap/store.h"
#include "io/loop.h"
#include "store/url.h"

namespace farswap {

/// Loads the object and opens its store. EINVAL: no such object, one of another version, a parameter that it
/// does not know. EPERM: in a process with rights that its caller lacks (AT_SECURE, getauxval(3)), which
/// nobody's code is loaded into.
Result<std::unique_ptr<Store>> open_plugin_store(const Url& url, io::Loop& loop);

/// Whether the URL is one, by its text alone. EINVAL.
Status check_plugin_url(const Url& url);

}  // namespace farswap
