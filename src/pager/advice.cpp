// What the members of a job wait for at the gate of madvise(2), and when each call goes on.
#include <algorithm>

#include "base/log.h"
#include "pager/members.h"

namespace farswap {
namespace {

// For an agent: its process may not be able to stop before the call has gone on.
constexpr std::chrono::seconds kHeldMax{1};
// How long the budget may take to see what a call has populated.
constexpr std::chrono::seconds kPromised{1};
// The end of a thread is not announced.
constexpr std::chrono::milliseconds kLookForEnds{1};
// From when a call was let go to when its thread has made it, on a very busy machine.
constexpr std::chrono::seconds kConfining{1};

}  // namespace

void Members::let_calls_go() {
    std::erase_if(held_calls_, [this](const target::AdviceGate::Call& call) { return deal_with(call); });
    if (std::ranges::any_of(held_calls_, &target::AdviceGate::Call::wants_no_agent))
        loop_.arm(calls_timer_, io::Clock::now() + kLookForEnds);
}

/// Whether the call has not to wait here any longer. What brings the cap near goes on when its process is
/// registered; a guard is put in by the agent.
bool Members::deal_with(const target::AdviceGate::Call& call) {
    if (!gate_.is_waiting(call)) return true;
    if (call.is_for_one_thread) {
        if (!may_be_alone(call)) return false;
        gate_.let_go(call);
        return true;
    }
    if (call.is_for_all_threads) {
        if (!has_no_agent(call)) return false;
        std::erase_if(confining_,
                      [now = io::Clock::now()](const Confining& one) { return now >= one.until; });
        confining_.push_back({.process = call.process,
                              .thread = call.thread,
                              .filters = target::read_seccomp(call.thread).filters,
                              .until = io::Clock::now() + kConfining});
        gate_.let_go(call);
        return true;
    }
    if (call.may_wipe_unseen || (call.is_about_forks() && is_overdue(call))) {
        pager_.forks_may_wipe(true);
        gate_.let_go(call);
        return true;
    }
    if (call.is_about_forks()) {
        if (!note_fork_advice(call)) return false;
        target::Member* member = gate_.let_go(call) ? nullptr : bearer_of(call.process);
        if (member != nullptr && member->owner != nullptr)
            Pager::doubt_fork_advice(*static_cast<Process*>(member->owner), pages_of(call));
        return true;
    }
    const target::AddressRange range = pages_of(call);
    const bool is_harmless = range.start >= range.end || (call.populates() && is_far_from_the_cap(range));
    target::Member* member = is_harmless ? nullptr : bearer_of(call.process);
    if (member == nullptr || !member->alive || !must_wait(call, *member)) {
        gate_.let_go(call);
        return true;
    }
    auto* process = static_cast<Process*>(member->owner);
    if (process == nullptr || !process->target->has_agent()) return false;
    if (!call.populates()) {
        pager_.install_guard(*process, {.range = range,
                                        .wanted = [this, call] { return gate_.is_waiting(call); },
                                        .done = [this, call](int error) { gate_.answer(call, error); }});
        return true;
    }
    const auto held_back = injector_.hold_back(process->target->process());
    if (!held_back) return false;
    (void)pager_.engage(*process);
    if (process->target->refresh_due()) return false;
    gate_.let_go(call);
    return true;
}

/// Whether what the call is about is noted, or need not be.
bool Members::note_fork_advice(const target::AdviceGate::Call& call) {
    const target::AddressRange range = pages_of(call);
    target::Member* member = bearer_of(call.process);
    if (range.start >= range.end || member == nullptr || !member->alive) return true;
    if (injecting_.contains(member->process)) return false;
    if (member->owner == nullptr) {
        const Pager::Recognised recognised = pager_.recognise(member->process);
        if (recognised.child != nullptr) link(member, recognised.child);
        if (recognised.child == nullptr && !recognised.certain) return false;
    }
    return pager_.note_fork_advice(static_cast<Process*>(member->owner), range, call.wipes());
}

/// The pages that the call is about; none if the kernel will refuse it, or has nothing to do.
target::AddressRange Members::pages_of(const target::AdviceGate::Call& call) {
    const std::uint64_t most = PageTable::kAddressEnd;
    if (call.start % kPageSize != 0 || call.start >= most || call.bytes > most - call.start) return {};
    return {call.start, call.start + (call.bytes + kPageSize - 1) / kPageSize * kPageSize};
}

/// Whether populating the range brings the cap near, with all that was let go a moment ago and is not
/// measured yet.
bool Members::is_far_from_the_cap(const target::AddressRange& range) {
    const auto now = io::Clock::now();
    if (now >= promised_until_) promised_ = 0;
    const std::uint64_t bytes = range.end - range.start;
    if (budget_.used() + promised_ + bytes >= budget_.engage_at()) return false;
    promised_ += bytes;
    promised_until_ = now + kPromised;
    return true;
}

/// The member whose memory the process uses: itself, unless it borrows another's (vfork, CLONE_VM). Null: it
/// is gone.
target::Member* Members::bearer_of(pid_t process) {
    target::Member* member = tree_.find(process);
    if (member == nullptr) {
        tree_.scan();
        member = tree_.find(process);
    }
    while (member != nullptr && member->borrows_memory) member = tree_.find(member->parent);
    return member;
}

/// Whether the call has to wait until its process has an agent, or for the agent. Once it populates it cannot
/// be stopped, and without an agent nothing can leave it; to be stopped takes it out of the call, which it
/// will make again.
bool Members::must_wait(const target::AdviceGate::Call& call, target::Member& member) {
    if (member.owner == nullptr && !injecting_.contains(member.process)) {
        const Pager::Recognised recognised = pager_.recognise(member.process);
        if (recognised.child != nullptr) link(&member, recognised.child);
        if (recognised.child == nullptr && !recognised.certain) return !is_overdue(call);
    }
    auto* process = static_cast<Process*>(member.owner);
    if (process != nullptr && process->target->has_agent()) {
        // The agent is behind the gate, too.
        return process->target->agent().thread != call.thread;
    }
    // Of what nothing is outside, nothing can be dropped.
    if (!call.populates() && (process == nullptr || process->far_pages == 0)) return false;
    give_agent(member);
    return injecting_.contains(member.process) && !is_overdue(call);
}

/// Whether a call that wants its thread to be the only one may go on: the agent has ended, or is not all that
/// is in its way. Until it has gone on, no other agent is put in.
bool Members::may_be_alone(const target::AdviceGate::Call& call) {
    target::Member* member = tree_.find(call.process);
    if (member == nullptr || !member->alive || is_overdue(call)) return true;
    if (injecting_.contains(member->process)) return false;
    auto* process = static_cast<Process*>(member->owner);
    if (process == nullptr) return true;
    const pid_t agent = process->target->agent().thread;
    std::vector<pid_t> threads;
    target::append_threads(member->process, threads);
    std::erase_if(threads,
                  [&](pid_t thread) { return thread == call.thread || target::is_kernel_worker(thread); });
    if (threads.empty() || threads != std::vector{agent}) return true;
    if (process->target->has_agent()) pager_.send_agent_away(*process);
    return false;
}

/// Whether no agent can be reached by a filter that the call puts before all threads of its process; it is
/// sent away. The next one is put in behind the filter if that allows what it needs, and else refused.
bool Members::has_no_agent(const target::AdviceGate::Call& call) {
    target::Member* member = tree_.find(call.process);
    if (member == nullptr || !member->alive) return true;
    if (injecting_.contains(member->process)) return false;
    auto* process = static_cast<Process*>(member->owner);
    if (process == nullptr) return true;
    if (process->target->has_agent()) {
        pager_.send_agent_away(*process);
        return false;
    }
    std::vector<pid_t> threads;
    target::append_threads(member->process, threads);
    return std::ranges::find(threads, process->target->agent().thread) == threads.end();
}

/// Whether a filter for all threads of the process may still come: an agent that is there by then is behind
/// it.
bool Members::is_confining_itself(pid_t process) const {
    const auto now = io::Clock::now();
    return std::ranges::any_of(confining_, [&](const Confining& one) {
        return one.process == process && now < one.until &&
               target::read_seccomp(one.thread).filters == one.filters;
    });
}

bool Members::is_overdue(const target::AdviceGate::Call& call) {
    if (io::Clock::now() - call.since < kHeldMax) return false;
    log::warning("process {} could not be {} before it {}", call.process,
                 call.is_for_one_thread  ? "left alone"
                 : call.is_about_forks() ? "looked at"
                                         : "paged",
                 call.is_for_one_thread  ? "wanted to be the only thread: that may be refused"
                 : call.is_about_forks() ? "said what forks are to wipe: that is looked up at each fork"
                 : call.populates()      ? "populated memory: it may overstep the cap"
                                         : "installed a guard: what was outside there is not forgotten");
    return true;
}

}  // namespace farswap
