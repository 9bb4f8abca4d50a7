// Messages over Unix sockets that may carry a file descriptor (SCM_RIGHTS, unix(7)). Knows of no layer.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/fd.h"

namespace farswap {

/// A message as it came. `error` is 0 or the errno of recvmsg(2). Owns the first descriptor; those behind it
/// are closed and only counted.
struct ReceivedMessage {
    std::size_t bytes = 0;  ///< 0 with no error: the other end has closed, or has sent an empty message
    int error = 0;
    int descriptors = 0;     ///< how many came along; of more than there was room for, one more than that
    bool truncated = false;  ///< it was longer than the buffer
    Fd descriptor{};
};

/// Sends one message, with `descriptor` along unless that is -1. 0 or an errno; EPIPE raises no signal.
/// Blocks as the socket does. The descriptor stays the caller's.
int send_message(int socket, const void* data, std::size_t bytes, int descriptor) noexcept;

/// Receives one message of at most `bytes` bytes. Blocks as the socket does. What comes along is closed on
/// exec.
ReceivedMessage receive_message(int socket, void* data, std::size_t bytes) noexcept;

}  // namespace farswap
