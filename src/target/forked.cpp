// What a forked child has of its parent's mappings, while it runs already and changes them. Its own
// userfaultfd tells, asked in Target::had_at_fork(): the parent's mappings do not, since it goes on, too.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "target/target.h"

namespace farswap::target {
namespace {

// Between a change of mappings and its event, where the thread that makes it is not held up.
constexpr std::chrono::milliseconds kAnnouncement{2};

}  // namespace

void Target::inherit_ranges(const Target& parent, const IntervalSet& mapped) {
    for (const AddressRange& range : mapped.ranges()) {
        for (const AddressRange& part : parent.registered_.overlap(range.start, range.end))
            registered_.add(part.start, part.end);
    }
    refused_ = parent.refused_;
}

std::optional<bool> Target::had_at_fork(std::uint64_t start, std::uint64_t bytes) {
    const auto began = io::Clock::now();
    for (;;) {
        const auto registered = uffd_.is_registered(start, bytes);
        const bool is_told = registered.has_value() || hear();
        if (is_told) owes_announcement_ = false;
        if (registered) return *registered || has_heard_of_the_end_of(start, bytes);
        // What is being changed is announced in a moment. Not to be waited for at each page.
        const bool is_late = io::Clock::now() - began > kAnnouncement;
        owes_announcement_ |= is_late && !is_told;
        if (is_late || owes_announcement_ || gone_ || moving_ || uffd_.is_gone()) return std::nullopt;
        if (!is_told) sched_yield();
    }
}

/// Reads what is announced, and keeps it. Whether there was anything.
bool Target::hear() {
    if (gone_ || moving_) return false;
    std::array<uffd_msg, kMessagesPerRead> messages;
    const ssize_t got = read(uffd_.fd(), messages.data(), sizeof messages);
    if (got <= 0) return false;  // drain() will meet the same error
    const auto count = static_cast<std::size_t>(got) / sizeof(uffd_msg);
    heard_.insert(heard_.end(), messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(count));
    return true;
}

bool Target::has_heard_of_the_end_of(std::uint64_t start, std::uint64_t bytes) const {
    IntervalSet gone;
    for (const uffd_msg& message : heard_) {
        const auto& remap = message.arg.remap;
        if (message.event == UFFD_EVENT_UNMAP) gone.add(message.arg.remove.start, message.arg.remove.end);
        if (message.event == UFFD_EVENT_REMAP) gone.add(remap.from, remap.from + remap.len);
    }
    return !gone.empty() && gone.missing(start, start + bytes).empty();
}

void Target::deliver_heard() {
    while (!heard_.empty() && !gone_ && !moving_) {
        const std::vector<uffd_msg> heard = std::exchange(heard_, {});
        deliver(heard);
    }
}

}  // namespace farswap::target
