// What every store checks before it accepts a request: above all that kernel pages are pinned, and for its
// direction.
#include "farswap/request.h"

#include <cerrno>

#include "page/pool.h"

namespace farswap {

namespace {

/// Whether `handle` is a held pin of the page at `address`, of the kind that the direction needs.
bool pin_serves(const page* handle, const std::byte* address, bool for_writing) noexcept {
    bool pinned_for_writing = false;
    return page_is_pinned(handle, &pinned_for_writing) && pinned_for_writing == for_writing &&
           page_address(handle) == address;
}

bool pins_serve(const Request& request) noexcept {
    if (request.pages == nullptr || request.length != request.page_count * std::uint64_t{kPageSize})
        return false;
    // A read from the store is a write into the page.
    const bool for_writing = (request.op & WRITE) == 0;
    for (std::uint32_t i = 0; i < request.page_count; ++i) {
        if (!pin_serves(request.pages[i], request.data + i * kPageSize, for_writing)) return false;
    }
    return true;
}

}  // namespace

int validate(const Request& request) noexcept {
    if ((request.op & ~(WRITE | REQ_KERNEL)) != 0) return -EINVAL;
    if (request.length == 0 || request.data == nullptr || request.complete == nullptr) return -EINVAL;
    if ((request.op & REQ_KERNEL) != 0 && !pins_serve(request)) return -EINVAL;
    return 0;
}

}  // namespace farswap
