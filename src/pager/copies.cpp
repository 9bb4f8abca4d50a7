// Copies on write: memory that a fork shares becomes more with every write, and no event tells of it. Where
// that could break the cap, what is shared is write-protected, so that whoever writes waits for room as for a
// page.
#include <algorithm>
#include <array>
#include <cerrno>

#include "pager/pager.h"

namespace farswap {
namespace {

constexpr std::uint64_t kHoldAtOnce = std::uint64_t{128} << 20;  // bytes looked through at a look: some ms
// Most children execute another program at once, which ends the sharing.
constexpr std::chrono::milliseconds kAgeForHolding{1};
constexpr std::chrono::milliseconds kBurst{20};  // forks so close to each other count as one

}  // namespace

void Pager::shares_by_fork(Process& process) {
    const auto now = io::Clock::now();
    process.forked = true;
    if (process.copies_held || process.held_until > 0 || now - process.shares_since > kBurst)
        process.shares_since = now;
    copies_may_grow(process);
}

io::Clock::time_point Pager::may_hold_from(const Process& process) {
    return process.shares_since + kAgeForHolding;
}

bool Pager::hold_copies(Process& process) {
    if (process.gone || comes_in_anyway(process) || process.copies_held || process->registered().empty())
        return true;
    if (io::Clock::now() < may_hold_from(process)) return true;
    // What the kernel writes to when a thread ends must not make it wait: no fault can be served any more
    // then. What a thread that begins later writes to is not shared any more.
    if (!keep_thread_pages(process)) return false;
    std::uint64_t left = kHoldAtOnce;
    for (const target::AddressRange& range : process->registered().ranges()) {
        while (left > 0 && process.held_until < range.end) {
            const std::uint64_t from = std::max(process.held_until, range.start);
            const std::uint64_t to = std::min(range.end, from + left);
            if (!protect_shared(process, from, to)) return false;  // an event must be read first
            left -= to - from;
            process.held_until = to;
        }
        if (left == 0) return false;
    }
    process.copies_held = true;
    return true;
}

/// A child that could write more than there is room for waits from its first write on: to find it, and to
/// look at what it shares, takes until it has copied tens of MiB. All that it has is shared at first; what
/// other forks share may be copied in the meantime, too.
void Pager::hold_child(Process& parent, Process& child) {
    shared_bytes_ += parent.rss;
    if (budget_.used() + shared_bytes_ <= budget_.cap() || !keep_thread_pages(parent)) return;
    child.may_be_protected = true;
    bool done = true;
    for (const target::AddressRange& range : child->registered().ranges())
        done &= protect_but_kept(child, range.start, range.end);
    child.copies_held = done;
}

/// Protects those pages of [start, end) that others share; false if it has to be tried again.
bool Pager::protect_shared(Process& process, std::uint64_t start, std::uint64_t end) {
    std::array<target::AddressRange, 64> shared;
    process.may_be_protected = true;
    while (start < end) {
        const auto scan = process->scan_shared(start, end, shared);
        if (!scan) return true;  // it ends
        for (std::size_t i = 0; i < scan->count; i++) {
            if (!protect_but_kept(process, shared[i].start, shared[i].end)) return false;
        }
        if (scan->walk_end <= start) return true;
        start = scan->walk_end;
    }
    return true;
}

bool Pager::protect_but_kept(Process& process, std::uint64_t start, std::uint64_t end) {
    bool done = true;
    std::uint64_t from = start;
    const auto protect_until = [&](std::uint64_t to) {
        if (from < to && process->uffd().protect(from, to - from) == EAGAIN) done = false;
        from = to + kPageSize;
    };
    process.pages->for_each(start, end, [&](std::uint64_t at, PageWord word) {
        if (word.state() == PageState::kKept) protect_until(at);
    });
    protect_until(end);
    return done;
}

void Pager::copies_may_grow(Process& process) {
    process.copies_held = false;
    process.held_until = 0;
}

void Pager::release_copies(Process& process) {
    if (process.gone || !std::exchange(process.may_be_protected, false)) return;
    copies_may_grow(process);
    for (const target::AddressRange& range : process->registered().ranges()) {
        if (process->uffd().unprotect(range.start, range.end - range.start) == EAGAIN)
            process.may_be_protected = true;
        process->protect_zero_pages(range);
    }
}

}  // namespace farswap
