// The pinning calls. Knows how to find a pool by address; the count of a frame is the frame table's.
#include "farswap/kernel_pages.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string_view>

#include "base/assert.h"
#include "base/log.h"
#include "farswap/request.h"
#include "page/frame_table.h"
#include "page/pool.h"
#include "page/registry.h"

namespace farswap {

namespace {

/// Once a process: a caller that is wrong is wrong at every call. On the stack, since pinning allocates
/// nothing.
void warn_of_length_once(int index, std::size_t length) noexcept {
    static std::atomic<bool> warned{false};
    if (warned.exchange(true, std::memory_order_relaxed) || log::level() < log::Level::kWarning) return;
    char text[128];
    const auto end = fmt::format_to_n(text, sizeof text,
                                      "get_kernel_pages: segment {} is {} bytes long, not one page ({})",
                                      index, length, kPageSize);
    log::write_line(std::string_view(text, std::min(end.size, sizeof text)));
}

bool contains(std::span<const std::byte> memory, const void* address) noexcept {
    return address >= memory.data() && address < memory.data() + memory.size();
}

}  // namespace

bool page_is_pinned(const page* page, bool* for_writing) noexcept {
    if (registry::find_handle(page) == nullptr) return false;
    const Pin pin = pin_of(page);
    if (for_writing) *for_writing = pin.for_writing;
    return FrameWord{pin.frame->word.load(std::memory_order_acquire)}.pins(pin.for_writing) > 0;
}

}  // namespace farswap

using namespace farswap;

int get_kernel_pages(const kvec* kiov, int nr_segs, int write, page** pages) {
    const bool for_writing = write != 0;
    // The pool of the segment before: it is still there, since a frame of it is pinned.
    FrameTable* table = nullptr;
    for (int index = 0; index < nr_segs; ++index) {
        const kvec& segment = kiov[index];
        if (segment.iov_len != kPageSize) {
            warn_of_length_once(index, segment.iov_len);
            return index > 0 ? index : -EINVAL;
        }
        if (table == nullptr || !contains(table->memory(), segment.iov_base)) {
            table = registry::find_memory(segment.iov_base);
        }
        page* const pinned = table ? table->pin(segment.iov_base, for_writing) : nullptr;
        if (pinned == nullptr) return index > 0 ? index : -EFAULT;
        pages[index] = pinned;
    }
    return std::max(nr_segs, 0);
}

int get_kernel_page(unsigned long start, int write, page** pages) {
    const kvec segment{reinterpret_cast<void*>(start), kPageSize};
    return get_kernel_pages(&segment, 1, write, pages);
}

void put_page(page* page) {
    FrameTable::put(page);
}

void* page_address(const page* page) {
    const Frame& frame = *pin_of(page).frame;
    return frame.table->address(frame);
}

int page_dirty(const page* page) {
    return FrameWord{pin_of(page).frame->word.load(std::memory_order_acquire)}.dirty() ? 1 : 0;
}
