// Where an NBD export is, and libnbd's handles to it. Knows URLs and addresses; nothing of requests or
// leases.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/url.h"

struct nbd_handle;

namespace farswap::nbd {

/// The port that IANA has given to NBD.
inline constexpr std::uint16_t kPort = 10809;

/// Closes without a word to the server; what is in flight is forgotten and its memory not touched any more
/// (nbd_close(3)).
struct HandleCloser {
    void operator()(nbd_handle* handle) const noexcept;
};
using Handle = std::unique_ptr<nbd_handle, HandleCloser>;

struct Endpoint {
    std::string name;         ///< of the store in messages
    std::string export_name;  ///< empty: the server's default
    sockaddr_storage address{};
    socklen_t address_size = 0;
};

/// Whether the URL's text names an export: nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH (the
/// NBD URI specification). EINVAL: one line that says what to write.
Status check_endpoint(const Url& url);
/// The addresses at which it may be, most likely first. Asks the resolver, which may block.
Result<std::vector<Endpoint>> resolve(const Url& url);

/// A new handle that has begun to connect: go on by its socket and direction. ENOMEM, or connect(2)'s errors.
Result<Handle> start_connecting(const Endpoint& endpoint);
/// Has a dead peer noticed (TCP only) and makes close() final, as the kernel may hold on to the socket.
void tune_socket(int fd) noexcept;
void shut_down(nbd_handle* handle) noexcept;

/// What a connected server says of the export.
struct Geometry {
    std::uint64_t size = 0;          ///< bytes
    std::uint32_t block_min = 0;     ///< offsets and lengths are multiples of it
    std::uint32_t transfer_max = 0;  ///< bytes
    bool read_only = false;
    bool can_flush = false;
    bool multi_connection = false;  ///< several connections see the same bytes
};
Geometry geometry_of(nbd_handle* handle) noexcept;

}  // namespace farswap::nbd
