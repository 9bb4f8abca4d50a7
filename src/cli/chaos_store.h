// Stores for `--chaos`: slow and failing, but never lying.
#pragma once

#include <memory>

#include "farswap/store.h"
#include "io/loop.h"

namespace farswap::cli {

/// Wraps the store: reads, writes and flushes come late, out of order, short, or not at all, and acknowledged
/// writes are lost as by a server that restarts. Each of it may pass, so that nothing that is tried again is
/// lost.
std::unique_ptr<Store> make_chaotic(std::unique_ptr<Store> store, io::Loop& loop);

}  // namespace farswap::cli
