// Which pool an address belongs to, for the whole process. Knows address ranges, not what is in them.
#pragma once

#include "farswap/kernel_pages.h"

namespace farswap {

class FrameTable;

/// The process's pools. Look-ups are wait-free, allocate nothing and may run while other pools come and go: a
/// caller who looks an address up holds a reference to a frame of its pool, so that this one pool stays.
namespace registry {

/// Pools that may exist in a process at a time; those that were kept for their pins count.
inline constexpr int kPoolsMax = 64;

/// Makes the pool's addresses known. False when there are kPoolsMax already.
bool add(FrameTable& table) noexcept;
/// Forgets the pool's memory, so that nothing is pinned any more, but still knows its handles.
void retire(const FrameTable& table) noexcept;
/// Forgets the pool.
void remove(const FrameTable& table) noexcept;

/// The pool whose memory holds `address`, or null.
FrameTable* find_memory(const void* address) noexcept;
/// The pool that `handle` is a handle of, or null. Does not look into the handle.
FrameTable* find_handle(const page* handle) noexcept;

}  // namespace registry
}  // namespace farswap
