// Members that come while they run, and members that leave while they live.
#include <algorithm>
#include <ranges>

#include "base/log.h"
#include "pager/members.h"

namespace farswap {
namespace {

constexpr std::chrono::milliseconds kDepartureStep{2};
// A child that nobody has recognised for so long ends or executes another program on its own, or cannot be
// found.
constexpr std::chrono::seconds kUnknownFor{1};
// Children of an attached process that ended are nobody's: they are looked for among all processes.
constexpr std::chrono::milliseconds kOrphanPeriod{50};
constexpr int kRefusalsMax = 500;  // at the pace of the steps: a second

}  // namespace

Status Members::attach(const std::vector<pid_t>& processes) {
    for (const pid_t process : processes) tree_.add_root(process);
    tree_.scan();
    tree_.measure();
    refusal_.reset();
    attaching_ = true;
    for (const pid_t process : processes) {
        target::Member* member = tree_.find(process);
        if (member == nullptr) return fail(ESRCH, "process {} has ended", process);
        inject(*member, Fd());
    }
    while (!injecting_.empty()) loop_.run_once(std::chrono::nanoseconds::max());
    attaching_ = false;
    if (!refusal_) return {};
    const Error why = refusal_->second;
    detach({});
    while (is_departing()) {
        step_departures();
        loop_.run_once(kDepartureStep);
        pager_.pump();
        pager_.bury();
    }
    return std::unexpected(why);
}

bool Members::is_below(const target::Member& member, pid_t root) const {
    for (const target::Member* at = &member; at != nullptr; at = tree_.find(at->parent)) {
        if (at->process == root) return true;
        if (at->parent == at->process) break;
    }
    return false;
}

void Members::detach(const std::vector<pid_t>& roots) {
    tree_.scan();
    for (const auto& member : tree_.members()) {
        const bool is_meant =
            roots.empty() || std::ranges::any_of(roots, [&](pid_t root) { return is_below(*member, root); });
        if (is_meant) member->leaves = true;
    }
    if (roots.empty()) {
        for (const auto& process : pager_.processes()) pager_.leave(*process);
    }
    step_departures();
}

void Members::stay() {
    for (const auto& member : tree_.members()) {
        if (!member->left) member->leaves = false;
    }
    for (const auto& process : pager_.processes()) pager_.stay(*process);
}

bool Members::is_departing() const {
    return !ejecting_.empty() || std::ranges::any_of(tree_.members(), [](const auto& member) {
        return member->leaves && !member->left && member->alive;
    }) || std::ranges::any_of(pager_.processes(), [](const auto& process) {
        return process->leaving && !process->gone;
    });
}

std::optional<std::uint64_t> Members::far_pages(pid_t root) const {
    const target::Member* first = tree_.find(root);
    if (root != 0 && (first == nullptr || !first->alive || first->left)) return std::nullopt;
    std::uint64_t sum = 0;
    for (const auto& member : tree_.members()) {
        const auto* process = static_cast<const Process*>(member->owner);
        if (process != nullptr && (root == 0 || is_below(*member, root))) sum += process->far_pages;
    }
    return sum;
}

Process* Members::process_of(pid_t process) {
    target::Member* member = tree_.find(process);
    if (member == nullptr) {
        tree_.scan();
        member = tree_.find(process);
    }
    if (member == nullptr) return nullptr;
    if (member->owner == nullptr) {
        const Pager::Recognised recognised = pager_.recognise(process);
        if (recognised.child != nullptr) link(member, recognised.child);
    }
    auto* owner = static_cast<Process*>(member->owner);
    return owner == nullptr || owner->gone ? nullptr : owner;
}

/// Not while an address space is served whose process is not known: it would read zeros.
bool Members::empty() const {
    return injecting_.empty() && ejecting_.empty() &&
           std::ranges::all_of(pager_.processes(), [](const auto& process) { return process->gone; }) &&
           std::ranges::all_of(tree_.members(), [](const auto& member) { return member->left; });
}

void Members::look_for_orphans() {
    const auto now = io::Clock::now();
    const auto is_unknown = [](const auto& process) {
        return process->target->process() == 0 && !process->gone && !process->unmarkable;
    };
    if (!tree_.has_roots() || now < next_orphans_ || !std::ranges::any_of(pager_.processes(), is_unknown))
        return;
    for (const pid_t candidate : target::all_processes()) {
        if (tree_.find(candidate) != nullptr) continue;
        const Pager::Recognised recognised = pager_.recognise(candidate);
        if (recognised.child == nullptr) continue;
        log::debug("process {} is an orphan of the job", candidate);
        tree_.adopt(candidate);
        link(tree_.find(candidate), recognised.child);
    }
    next_orphans_ = now + kOrphanPeriod;
}

void Members::step_departures() {
    bool any = false;
    for (const auto& member : tree_.members()) {
        // What a process starts while it leaves goes with it.
        const target::Member* parent = tree_.find(member->parent);
        const auto* owner = static_cast<const Process*>(member->owner);
        if ((parent != nullptr && parent->leaves) || (owner != nullptr && owner->leaving))
            member->leaves = true;
        if (!member->leaves || member->left || !member->alive) continue;
        any = true;
        if (injecting_.contains(member->process)) continue;
        auto* process = static_cast<Process*>(member->owner);
        if (process == nullptr) {
            const Pager::Recognised recognised = pager_.recognise(member->process);
            if (recognised.child == nullptr) {
                member->left = recognised.certain;
                continue;
            }
            link(member.get(), recognised.child);
            process = recognised.child;
        }
        pager_.leave(*process);
        if (pager_.may_release(*process)) let_go(*member, *process);
    }
    let_go_of_the_unknown();
    eject_again();
    if (any || !ejecting_.empty()) due_ = std::min(due_, io::Clock::now() + kDepartureStep);
}

void Members::let_go(target::Member& member, Process& process) {
    auto left = pager_.release(process);
    member.owner = nullptr;
    member.left = true;
    log::debug("process {} has all its memory back", member.process);
    if (left.ranges.empty()) return;
    const target::EjectJob job{
        .process = member.process, .agent = left.agent, .ranges = std::move(left.ranges)};
    ejecting_.emplace(member.process, Ejection{job});
    injector_.submit(job);
}

/// Forked children that cannot be found in /proc have no agent; the page that marks them stays.
void Members::let_go_of_the_unknown() {
    for (const auto& process : pager_.processes()) {
        if (!process->leaving || process->gone || process->target->process() != 0) continue;
        if (io::Clock::now() - process->shares_since < kUnknownFor || !pager_.may_release(*process)) continue;
        (void)pager_.release(*process);
        left_behind_["a forked process could not be found: it keeps a mapping of 64 KiB"]++;
    }
}

void Members::ejected(const target::EjectDone& done) {
    const auto ejection = ejecting_.find(done.process);
    if (!done.status && done.status.error().code != ESRCH && target::living_task(done.process) != 0) {
        // To trace one that is ending is "not permitted"; and it lives until the last of its threads has
        // gone.
        ejection->second.is_due = ++ejection->second.refusals < kRefusalsMax;
        if (ejection->second.is_due) return;
        left_behind_[fmt::format("{}; it keeps a few unused mappings", done.status.error().message)]++;
    }
    ejecting_.erase(ejection);
}

void Members::eject_again() {
    for (auto& [process, ejection] : ejecting_) {
        if (std::exchange(ejection.is_due, false)) injector_.submit(ejection.job);
    }
}

}  // namespace farswap
