// Lists that take memory only when they become longer than they have ever been. Knows nothing of what is in
// them.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "base/no_allocation.h"

namespace farswap {

/// push_back() where nothing may be allocated, for lists whose length the program decides (its threads,
/// mappings, waiting faults): there is no bound to reserve, but each length is paid for once.
template <typename T>
void append(std::vector<T>& list, T value) {
    if (list.size() == list.capacity()) {
        const MayAllocate longer("a list is longer than it has ever been");
        list.reserve(std::max<std::size_t>(16, list.capacity() * 2));
    }
    list.push_back(std::move(value));
}

}  // namespace farswap
