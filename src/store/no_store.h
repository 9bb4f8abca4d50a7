// The store of a job that has none: its pages stay in memory. Knows its size only.
#pragma once

#include <memory>

#include "farswap/store.h"

namespace farswap {

/// `capacity` bytes that nobody may write to or read from: it is there to be counted. Owned by the caller.
std::unique_ptr<Store> make_no_store(std::uint64_t capacity);

}  // namespace farswap
