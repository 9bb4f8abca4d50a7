// See open.h.
#include "store/open.h"

#include "store/file_store.h"
#include "store/nbd_store.h"
#include "store/nfs_store.h"
#include "store/plugin_store.h"
#include "store/url.h"

namespace farswap {

namespace {

constexpr const char* kDefaultDirectory = "/var/tmp";

std::unexpected<Error> unknown_scheme(const Url& url) {
    return fail(
        EINVAL,
        "'{}': there is no store of kind '{}': use nfs://HOST/EXPORT/PATH, nbd://HOST/EXPORT or file:PATH",
        url.text, url.scheme);
}

}  // namespace

Result<std::unique_ptr<Store>> open_store(std::string_view text, const StoreOptions& options,
                                          io::Loop& loop) {
    const auto url = parse_url(text);
    if (!url) return std::unexpected(url.error());
    if (url->scheme == "file") return open_file_store(*url, options, loop);
    if (url->scheme == "nfs") return open_nfs_store(*url, options, loop);
    if (is_nbd_scheme(*url)) return open_nbd_store(*url, options, loop);
    if (url->scheme == "plugin") return open_plugin_store(*url, loop);
    return unknown_scheme(*url);
}

Status check_store_url(std::string_view text) {
    const auto url = parse_url(text);
    if (!url) return std::unexpected(url.error());
    if (const auto priority = url->priority(); !priority) return std::unexpected(priority.error());
    if (url->scheme == "file") return check_file_url(*url);
    if (url->scheme == "nfs") return check_nfs_url(*url);
    if (is_nbd_scheme(*url)) return check_nbd_url(*url);
    if (url->scheme == "plugin") return check_plugin_url(*url);
    return unknown_scheme(*url);
}

Result<std::optional<int>> store_priority(std::string_view text) {
    const auto url = parse_url(text);
    if (!url) return std::unexpected(url.error());
    return url->priority();
}

Result<std::unique_ptr<Store>> open_default_store(const StoreOptions& options, io::Loop& loop) {
    auto store = open_anonymous_store(kDefaultDirectory, options, loop);
    if (!store) return fail(store.error().code, "{} (or name a store by --swap URL)", store.error().message);
    return store;
}

Result<std::vector<Orphan>> list_orphans(std::string_view text) {
    const auto url = parse_url(text);
    if (!url) return std::unexpected(url.error());
    if (url->scheme == "file") return list_file_orphans(*url);
    if (url->scheme == "nfs") return list_nfs_orphans(*url);
    if (is_nbd_scheme(*url)) return std::vector<Orphan>{};  // it serves job after job: it is never an orphan
    if (url->scheme == "plugin") return std::vector<Orphan>{};  // what it leaves is its own business
    return unknown_scheme(*url);
}

Status remove_orphan(std::string_view text, const Orphan& orphan) {
    const auto url = parse_url(text);
    if (!url) return std::unexpected(url.error());
    if (url->scheme == "file") return remove_file_orphan(*url, orphan);
    if (url->scheme == "nfs") return remove_nfs_orphan(*url, orphan);
    if (is_nbd_scheme(*url)) return fail(EINVAL, "{}: an export is not removed", url->text);
    if (url->scheme == "plugin") return fail(EINVAL, "{}: it lists nothing to remove", url->text);
    return unknown_scheme(*url);
}

Result<std::vector<std::chrono::nanoseconds>> time_null_calls(std::string_view text,
                                                              std::chrono::milliseconds span) {
    const auto url = parse_url(text);
    if (!url) return std::unexpected(url.error());
    if (url->scheme != "nfs") return fail(EOPNOTSUPP, "{}: has no call that asks for nothing", text);
    return time_nfs_null_calls(*url, span);
}

}  // namespace farswap
