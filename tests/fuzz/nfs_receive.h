// What the targets of NFS replies share: the socket's part in receiving.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>

#include "fuzz.h"
#include "store/nfs_receiver.h"

namespace farswap::fuzz {

/// Receives once, as from a socket that has the first `there` bytes of `stream`, which are taken off it.
inline nfs::Received receive(nfs::Receiver& receiver, std::span<const std::byte>& stream, std::size_t there) {
    there = std::min(there, stream.size());
    std::size_t room = 0, given = 0;
    for (const iovec& place : receiver.places()) {
        const std::size_t part = std::min(place.iov_len, there - given);
        if (part > 0) std::memcpy(place.iov_base, stream.data() + given, part);
        room += place.iov_len;
        given += part;
    }
    PROMISE(room > 0 && given > 0);
    stream = stream.subspan(given);
    const nfs::Received received = receiver.received(given);
    PROMISE(received != nfs::Received::kMore || given == room);
    return received;
}

}  // namespace farswap::fuzz
