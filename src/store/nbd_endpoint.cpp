// See nbd_endpoint.h.
#include "store/nbd_endpoint.h"

#include <libnbd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

namespace farswap::nbd {
namespace {

// A server that does not say what it takes: the NBD protocol's "Block size constraints".
constexpr std::uint32_t kBlockMinDefault = 512;
constexpr std::uint32_t kTransferMaxDefault = 32u << 20;
constexpr std::size_t kExportNameMax = 4096;  // bytes, of every string of the protocol

bool is_socket(const Url& url) {
    return url.scheme == "nbd+unix";
}

/// The path without the '/' that stands between host and export.
std::string export_of(const Url& url) {
    return url.path.starts_with('/') ? url.path.substr(1) : url.path;
}

Result<std::vector<Endpoint>> resolve_host(const Url& url, const Endpoint& endpoint) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;
    const std::string port = std::to_string(url.port != 0 ? url.port : kPort);
    addrinfo* found = nullptr;
    const int error = ::getaddrinfo(url.host.c_str(), port.c_str(), &hints, &found);
    if (error != 0)
        return fail(EHOSTUNREACH, "{}: cannot find host {}: {}", url.text, url.host, ::gai_strerror(error));
    std::vector<Endpoint> endpoints;
    for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
        endpoints.push_back(endpoint);
        std::memcpy(&endpoints.back().address, at->ai_addr, at->ai_addrlen);
        endpoints.back().address_size = at->ai_addrlen;
    }
    ::freeaddrinfo(found);
    return endpoints;
}

void set_option(int fd, int level, int option, int value) noexcept {
    // Each is a refinement, and fails on a Unix socket.
    (void)::setsockopt(fd, level, option, &value, sizeof value);
}

}  // namespace

void HandleCloser::operator()(nbd_handle* handle) const noexcept {
    nbd_close(handle);
}

Status check_endpoint(const Url& url) {
    if (url.scheme.starts_with("nbds"))
        return fail(EINVAL,
                    "'{}': NBD over TLS is not supported: use nbd: on a network that you trust, or through a "
                    "tunnel (ssh -L, stunnel)",
                    url.text);
    Status known = is_socket(url) ? url.allow_only({"socket", "size"}) : url.allow_only({"size"});
    if (!known) return known;
    if (export_of(url).size() > kExportNameMax)
        return fail(EINVAL, "'{}': the export's name is too long", url.text);
    if (!is_socket(url)) return {};
    const auto path = url.parameter("socket");
    if (!path || path->empty())
        return fail(EINVAL, "'{}' names no socket: write nbd+unix:///EXPORT?socket=PATH", url.text);
    if (path->size() >= sizeof(sockaddr_un::sun_path))
        return fail(EINVAL, "'{}': the socket's path is longer than {} bytes: name a shorter one", url.text,
                    sizeof(sockaddr_un::sun_path) - 1);
    return {};
}

Result<std::vector<Endpoint>> resolve(const Url& url) {
    if (Status good = check_endpoint(url); !good) return std::unexpected(good.error());
    Endpoint endpoint{.name = url.text.substr(0, url.text.find('?')), .export_name = export_of(url)};
    if (!is_socket(url)) return resolve_host(url, endpoint);
    const std::string_view path = *url.parameter("socket");
    endpoint.name += fmt::format("?socket={}", path);
    auto& address = reinterpret_cast<sockaddr_un&>(endpoint.address);
    address.sun_family = AF_UNIX;
    std::ranges::copy(path, address.sun_path);
    endpoint.address_size = sizeof address;
    return std::vector{endpoint};
}

Result<Handle> start_connecting(const Endpoint& endpoint) {
    Handle handle(nbd_create());
    if (!handle) return fail_errno(ENOMEM, "{}", endpoint.name);
    // Simple replies: a header, then the bytes, received where they belong. Nothing reads memory that a
    // failed read left behind.
    nbd_set_request_structured_replies(handle.get(), false);
    nbd_set_pread_initialize(handle.get(), false);
    nbd_set_export_name(handle.get(), endpoint.export_name.c_str());
    const auto* address = reinterpret_cast<const sockaddr*>(&endpoint.address);
    if (nbd_aio_connect(handle.get(), address, endpoint.address_size) < 0) {
        const int code = nbd_get_errno();
        return fail(code != 0 ? code : ECONNREFUSED, "{}", nbd_get_error());
    }
    tune_socket(nbd_aio_get_fd(handle.get()));
    return handle;
}

void tune_socket(int fd) noexcept {
    if (fd < 0) return;
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 10);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 25'000);
}

void shut_down(nbd_handle* handle) noexcept {
    const int fd = handle != nullptr && !nbd_aio_is_created(handle) ? nbd_aio_get_fd(handle) : -1;
    if (fd < 0) return;
    // A TCP connection is reset, so that the server drops what it has not read of it yet.
    const sockaddr nowhere{.sa_family = AF_UNSPEC, .sa_data = {}};
    if (::connect(fd, &nowhere, sizeof nowhere) != 0) (void)::shutdown(fd, SHUT_RDWR);
}

Geometry geometry_of(nbd_handle* handle) noexcept {
    Geometry geometry;
    const auto size = nbd_get_size(handle);
    const auto block_min = nbd_get_block_size(handle, LIBNBD_SIZE_MINIMUM);
    const auto transfer_max = nbd_get_block_size(handle, LIBNBD_SIZE_MAXIMUM);
    geometry.size = size > 0 ? static_cast<std::uint64_t>(size) : 0;
    geometry.block_min = block_min > 0 ? static_cast<std::uint32_t>(block_min) : kBlockMinDefault;
    geometry.transfer_max =
        transfer_max > 0
            ? static_cast<std::uint32_t>(std::min<std::int64_t>(transfer_max, kTransferMaxDefault))
            : kTransferMaxDefault;
    geometry.read_only = nbd_is_read_only(handle) != 0;
    geometry.can_flush = nbd_can_flush(handle) == 1;
    geometry.multi_connection = nbd_can_multi_conn(handle) == 1;
    return geometry;
}

}  // namespace farswap::nbd
