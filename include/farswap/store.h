/// @file
/// Store: where pages go when they leave the machine's memory. Knows runs of bytes at offsets, not whose they
/// are.
#pragma once

#include <cstdint>
#include <string>

#include "farswap/request.h"

namespace farswap {

/// A flush: everything whose write completed before it was submitted is durable when it completes.
/// The caller owns it until `complete`, which is called once, on the loop's thread, never from inside
/// flush().
struct FlushRequest {
    std::chrono::milliseconds timeout{0};  ///< as Request::timeout
    /// 0; -ESTALE when the store has lost writes that it had acknowledged (an NFS server restarted: the
    /// verifier changed), so that every write since the last good flush must be sent again; -EIO, which asks
    /// for the same, as a device may report once what it could not keep (fsync(2)); or another -errno. A loss
    /// that nobody was told of, because the flush had ended at its deadline, is told to the next.
    void (*complete)(FlushRequest& flush, int result) = nullptr;
    void* owner = nullptr;         ///< the caller's own
    FlushRequest* next = nullptr;  ///< the layer's that has accepted it, as Request::next
    std::uint64_t cookie = 0;      ///< the same layer's
};

/// Grows the reserved space. Owned by the caller until `complete` (0 or -errno, -ENOSPC when the store is
/// full).
struct ReserveRequest {
    std::uint64_t bytes = 0;  ///< the reserved space is at least this afterwards
    /// Called once, on the loop's thread, never from inside reserve().
    void (*complete)(ReserveRequest& reserve, int result) = nullptr;
    void* owner = nullptr;           ///< the caller's own
    ReserveRequest* next = nullptr;  ///< the layer's that has accepted it, as Request::next
    std::uint64_t cookie = 0;        ///< the same layer's
};

/// A place for bytes. One owner, one thread (the event loop's); every call returns at once, results come by
/// the requests' callbacks. Activated by its factory: opened, owned by a lease, size fixed.
class Store {
  public:
    virtual ~Store() = default;

    /// The URL that names the store in messages, without secrets.
    virtual const std::string& name() const noexcept = 0;
    /// Most bytes that may ever be stored. Fixed.
    virtual std::uint64_t capacity() const noexcept = 0;
    /// Bytes from the start that are really allocated; only these may be written. Grows by reserve().
    virtual std::uint64_t reserved() const noexcept = 0;
    /// Offset, length and memory of every request are multiples of this (a power of two, at most kPageSize).
    virtual std::uint32_t alignment() const noexcept = 0;
    /// The largest request that is sent in one piece (larger ones are split by the store).
    virtual std::uint32_t transfer_max() const noexcept = 0;
    /// In how many places the same bytes are kept, at most 8. With more than one, who finds what was read to
    /// be wrong can ask for the bytes of another place (Request::avoid).
    virtual std::uint32_t copies() const noexcept { return 1; }

    /// Starts a transfer. Any number may be in flight, in any order; overlapping ones are the caller's fault.
    virtual void submit(Request& request) noexcept = 0;
    /// Starts a flush; see FlushRequest.
    virtual void flush(FlushRequest& flush) noexcept = 0;
    /// Starts to grow what reserved() tells; see ReserveRequest.
    virtual void reserve(ReserveRequest& reserve) noexcept = 0;

    /// Asks for the request to end early; it completes with -ECANCELED, or with its result if that was
    /// faster.
    virtual void cancel(Request& request) noexcept = 0;

    /// Whether a write of unknown fate may still be executed in [offset, offset + length): it timed out, or
    /// its connection was lost before the answer came, and nobody can tell whether the server still holds a
    /// copy of it. Such a range takes the same bytes again, but no others: a caller that frees it waits until
    /// this is false. Doubts arise only for ranges that were written to, or newly reserved; they pass with
    /// time.
    virtual bool in_doubt(std::uint64_t /*offset*/, std::uint64_t /*length*/) const noexcept { return false; }

    /// Gives the store up: waits for nothing in flight (there must be nothing), removes the file if it was
    /// made for this job, releases the lease. Blocking, bounded to a few seconds. After it only the
    /// destructor may run.
    virtual void close() noexcept = 0;

    /// Operations since activation, for the summary.
    struct Counters {
        std::uint64_t reads = 0;          ///< requests on the wire or to the disk
        std::uint64_t writes = 0;         ///< the same
        std::uint64_t flushes = 0;        ///< the same
        std::uint64_t bytes_read = 0;     ///< that those requests moved
        std::uint64_t bytes_written = 0;  ///< the same
        /// Bytes that this process copied on their way between the requests' memory and the kernel.
        std::uint64_t bytes_copied = 0;
        std::uint64_t retries = 0;      ///< requests that were sent again
        std::uint64_t reconnects = 0;   ///< connections that replaced one that broke
        std::uint64_t lost_writes = 0;  ///< times -ESTALE was reported
    };
    /// What was done so far.
    virtual Counters counters() const noexcept = 0;
};

}  // namespace farswap
