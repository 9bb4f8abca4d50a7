#include "target/process_tree.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace farswap::target {

Member* ProcessTree::find(pid_t process) const noexcept {
    for (const auto& member : members_) {
        if (member->process == process) return member.get();
    }
    return nullptr;
}

void ProcessTree::visit(pid_t process, pid_t parent) {
    if (Member* known = find(process)) {
        known->alive = true;
        if (known->borrows_memory) known->borrows_memory = share_address_space(process, parent);
        return;
    }
    auto member = std::make_unique<Member>();
    member->process = process;
    member->parent = parent;
    if (!open_gauge(*member)) return;
    member->seen = std::chrono::steady_clock::now();
    member->borrows_memory = share_address_space(process, parent);
    members_.push_back(std::move(member));
    seen_++;
    generation_++;
}

bool ProcessTree::open_gauge(Member& member) {
    member.task = living_task(member.process);
    if (member.task == 0) return false;
    return member.gauge.open(member.task);
}

void ProcessTree::leave_out_present() {
    strangers_.push_back({getpid(), Fd()});  // as if we were one: all below it are
    follow_strangers();
    strangers_.erase(strangers_.begin());
}

bool ProcessTree::is_stranger(pid_t process) const noexcept {
    return std::ranges::any_of(strangers_, [&](const Stranger& one) { return one.process == process; });
}

/// Forgets strangers that have ended, and finds those that they have started.
void ProcessTree::follow_strangers() {
    std::erase_if(strangers_, [](const Stranger& one) {
        pollfd ended{one.pidfd.get(), POLLIN, 0};
        return one.pidfd && poll(&ended, 1, 0) != 0;
    });
    std::vector<pid_t> children;
    for (std::size_t i = 0; i < strangers_.size(); i++) {
        children.clear();
        append_children(strangers_[i].process, children);
        for (const pid_t child : children) {
            if (is_stranger(child)) continue;
            Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
            if (pidfd) strangers_.push_back({child, std::move(pidfd)});
        }
    }
}

void ProcessTree::enqueue(pid_t process, pid_t parent) {
    if (!queued_.insert(process).second) return;
    queue_.push_back(process);
    visit(process, parent);
}

void ProcessTree::begin_below_us() {
    follow_strangers();
    std::vector<pid_t> children;
    append_children(getpid(), children);
    for (const pid_t child : children) {
        if (!is_stranger(child)) enqueue(child, getpid());
    }
}

/// Members are looked for by what we hold open of them: the number of one that has ended may be a stranger's
/// by now. Who has ended and is not waited for by its parent, a stranger, is no member any more.
void ProcessTree::begin_at_roots() {
    std::vector<std::pair<pid_t, pid_t>> known;
    for (const auto& member : members_) {
        if (member->gauge.read_once() && living_task(member->process) != 0)
            known.emplace_back(member->process, member->parent);
    }
    for (const auto& [process, parent] : known) enqueue(process, parent);
    for (const pid_t root : new_roots_) enqueue(root, read_parent(root));
    new_roots_.clear();
}

void ProcessTree::scan() {
    std::erase_if(members_, [](const auto& member) { return !member->alive; });
    for (auto& member : members_) member->alive = false;
    queue_.clear();
    queued_.clear();
    has_roots_ ? begin_at_roots() : begin_below_us();
    std::vector<pid_t> children;
    for (std::size_t i = 0; i < queue_.size(); i++) {
        const pid_t process = queue_[i];
        children.clear();
        append_children(process, children);
        for (const pid_t child : children) enqueue(child, process);
    }
    for (auto& member : members_) {
        if (!member->alive) {
            // Missed by a torn look at the children files, or really gone?
            member->alive = living_task(member->process) != 0;
        }
        if (!member->alive) generation_++;
    }
}

bool ProcessTree::measure(bool everything) {
    bool any_ended = false;
    for (auto& member : members_) {
        const bool had_memory = member->use.has_memory;
        auto use = member->gauge.read(everything);
        if ((!use || !use->has_memory) && open_gauge(*member)) use = member->gauge.read(true);
        member->use = use.value_or(MemoryUse{});
        // A main thread that has ended hides what becomes of the others.
        any_ended |= !use || !member->alive || (had_memory && !member->use.has_memory) ||
                     member->task != member->process;
    }
    return any_ended;
}

std::uint64_t ProcessTree::rss() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& member : members_) {
        const MemoryUse& use = member->use;
        if (!member->borrows_memory && !member->leaves) sum += use.rss_anon + use.rss_shmem + use.hugetlb;
    }
    return sum;
}

std::uint64_t ProcessTree::minor_faults() const {
    std::uint64_t sum = 0;
    for (const auto& member : members_) sum += read_minor_faults(member->process);
    return sum;
}

void ProcessTree::measure_pss() {
    for (auto& member : members_) {
        if (!member->borrows_memory && !member->leaves) member->pss = read_pss(member->task).value_or(0);
    }
}

bool ProcessTree::any_shrank(std::uint64_t bytes) const {
    return std::ranges::any_of(members_, [bytes](const auto& member) {
        if (member->borrows_memory || member->leaves) return false;
        const std::uint64_t had = member->use.rss_anon + member->use.rss_shmem;
        const MemoryUse now = member->gauge.read_once().value_or(MemoryUse{});
        const std::uint64_t has = now.rss_anon + now.rss_shmem;
        return has < had / 2 && had - has > bytes;
    });
}

}  // namespace farswap::target
