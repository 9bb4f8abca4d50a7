// Keeps the pager itself in memory and alive. Knows nothing of what it pages.
#pragma once

namespace farswap::cli {

/// Locks the pager's memory as it gets used, asks the OOM killer to spare it, and tells the kernel that its
/// I/O frees memory (PR_SET_IO_FLUSHER). Each where permitted, none required. Called after the program has
/// been started, which would inherit the last two. The calling thread's, once. Returns whether the memory is
/// locked.
bool protect_pager() noexcept;

}  // namespace farswap::cli
