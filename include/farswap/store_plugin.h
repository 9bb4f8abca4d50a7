/// @file
/// A store of one's own: a shared object that farswap loads for --swap plugin:PATH. What it has to define is
/// below; it needs these headers, and nothing of farswap to link with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "farswap/store.h"

namespace farswap {

/// The pager that a store serves. It outlives the store.
class StoreHost {
  public:
    virtual ~StoreHost() = default;

    /// Completes a request that submit() has accepted: its callback runs on the loop's thread, in a later
    /// round. Any thread, also from inside submit(); nothing is allocated, nobody waits. Once a request:
    /// afterwards it is the caller's.
    virtual void complete(Request& request, int result) noexcept = 0;
    /// The same for flush().
    virtual void complete(FlushRequest& flush, int result) noexcept = 0;
    /// The same for reserve().
    virtual void complete(ReserveRequest& reserve, int result) noexcept = 0;
};

/// What the store is asked to be.
struct StorePluginOptions {
    const char* url;     ///< as the user wrote it, for messages
    std::uint64_t size;  ///< bytes: ?size= of the URL, which has to be given
    /// The value of ?NAME=, or null. A name that nobody asks for before the store is open is an error of the
    /// user's.
    const char* (*parameter)(const StorePluginOptions& options, const char* name);
    const void* owner;  ///< farswap's
};

/// Changes when one of the types that both sides use does.
inline constexpr std::uint32_t kStorePluginVersion = 1;

}  // namespace farswap

extern "C" {
/// Which kStorePluginVersion the object was compiled with. One of another number is not asked for a store.
extern const std::uint32_t farswap_store_plugin_version;

/// Opens the store, as Store says: owned by this job alone, its size fixed. May block for some seconds. The
/// calls that follow come from the same thread, and requests have been validated: their memory is there and
/// pinned until they are completed. A write is made what it says by the time it completes; what a flush
/// covers is kept until the store is closed, and what is read is compared by farswap with what was written
/// (Request, FlushRequest, Store for the rest).
///
/// Null when it cannot be opened: errno then says why, and `message` (`message_size` bytes) what to do, one
/// line. Deleted by its virtual destructor, after close(). No exception may leave any of this.
farswap::Store* farswap_open_store(const farswap::StorePluginOptions& options, farswap::StoreHost& host,
                                   char* message, std::size_t message_size);
}
