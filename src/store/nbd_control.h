// Single blocking operations on an NBD export, each with a deadline: for opening and closing a store. Knows
// nothing of what is read and written.
#pragma once

#include <chrono>
#include <cstddef>
#include <span>

#include "store/nbd_endpoint.h"

namespace farswap::nbd {

using Deadline = std::chrono::steady_clock::time_point;

class Control {
  public:
    /// Connects to the first of the addresses that answers. ECONNREFUSED, ENOENT, ETIMEDOUT and what the
    /// server says, in one line that names the store.
    static Result<Control> connect(const std::vector<Endpoint>& endpoints, Deadline deadline);
    /// Goes on with a connection that is up and idle.
    Control(Endpoint endpoint, Handle handle);

    const Endpoint& endpoint() const noexcept { return endpoint_; }
    Geometry geometry() const noexcept { return geometry_of(handle_.get()); }

    void set_deadline(Deadline deadline) noexcept { deadline_ = deadline; }
    Status read(std::uint64_t offset, std::span<std::byte> bytes);
    Status write(std::uint64_t offset, std::span<const std::byte> bytes);
    Status flush();

    /// Says goodbye to the server.
    void disconnect() noexcept;
    /// Gives the connection away; nothing may be called after it.
    Handle release() noexcept { return std::move(handle_); }

  private:
    template <typename Start>
    Status run(const char* what, Start start);
    template <typename Start>
    Status run_once(const char* what, Start start);

    Endpoint endpoint_;
    Handle handle_;
    Deadline deadline_{};
};

}  // namespace farswap::nbd
