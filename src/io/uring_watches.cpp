// See uring_watches.h.
#include "io/uring_watches.h"

#include "base/assert.h"

namespace farswap::io {

// Twice the watches, since a removed one keeps its entry until the kernel has answered in the next round.
UringWatches::UringWatches(std::uint32_t watches_max, Ring& ring)
    : ring_(ring),
      table_(2 * std::size_t{watches_max}),
      changed_(2 * watches_max),
      watches_max_(watches_max) {
    free_.reserve(table_.size());
    for (auto index = static_cast<std::uint32_t>(table_.size()); index > 0; --index)
        free_.push_back(index - 1);
}

void UringWatches::add(Watch& watch) noexcept {
    FARSWAP_ASSERT(!watch.added && watch.ready != nullptr);
    FARSWAP_ASSERT(added_ < watches_max_ && !free_.empty());
    watch.index = free_.back();
    watch.added = true;
    free_.pop_back();
    ++added_;
    table_[watch.index] = Entry{.watch = &watch};
    changed_.push(watch.index);
}

void UringWatches::modify(Watch& watch, std::uint32_t events) noexcept {
    FARSWAP_ASSERT(watch.added && table_[watch.index].watch == &watch);
    if (watch.events == events) return;
    watch.events = events;
    changed_.push(watch.index);
}

void UringWatches::remove(Watch& watch) noexcept {
    if (!watch.added) return;
    Entry& entry = table_[watch.index];
    FARSWAP_ASSERT(entry.watch == &watch);
    watch.added = false;
    --added_;
    entry.watch = nullptr;
    if (entry.armed_events == 0)
        free_.push_back(watch.index);
    else
        changed_.push(watch.index);
}

/// Makes the poll in the kernel what is wanted, a step at a time. False when the kernel takes no entry now.
bool UringWatches::settle(std::uint32_t index) noexcept {
    Entry& entry = table_[index];
    const std::uint32_t wanted = entry.watch ? entry.watch->events | Watch::kAlwaysReported : 0;
    if (entry.armed_events == wanted || entry.removing) return true;
    io_uring_sqe* sqe = ring_.entry();
    if (sqe == nullptr) return false;
    if (entry.armed_events != 0) {
        io_uring_prep_poll_remove(sqe, tag(Kind::kWatch, index));
        sqe->user_data = tag(Kind::kIgnored, 0);
        entry.removing = true;
    } else {
        io_uring_prep_poll_add(sqe, entry.watch->fd, wanted);
        sqe->user_data = tag(Kind::kWatch, index);
        entry.armed_events = wanted;
    }
    return true;
}

void UringWatches::flush() noexcept {
    for (; !changed_.empty(); changed_.pop())
        if (!settle(changed_.front())) return;
}

bool UringWatches::completed(std::uint32_t index, int result) noexcept {
    FARSWAP_ASSERT(index < table_.size());
    Entry& entry = table_[index];
    FARSWAP_ASSERT(entry.armed_events != 0);
    entry.armed_events = 0;
    entry.removing = false;
    if (entry.watch == nullptr) {
        free_.push_back(index);
        return false;
    }
    changed_.push(index);
    // The poll was taken back, or the kernel had no memory for it: it is armed again.
    if (result == -ECANCELED || result == -EAGAIN || result == -ENOMEM || result == -EINTR) return false;
    Watch& watch = *entry.watch;
    // Any other failure (EBADF: the descriptor is gone) is an error of the descriptor.
    const std::uint32_t events =
        result < 0 ? EPOLLERR : static_cast<std::uint32_t>(result) & (watch.events | Watch::kAlwaysReported);
    if (events == 0) return false;
    watch.ready(watch, events);
    return true;
}

}  // namespace farswap::io
