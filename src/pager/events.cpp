// The events of address spaces: pages that move, vanish, fork, or whose process ends; and the registry of
// processes.
#include <fcntl.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/assert.h"
#include "base/log.h"
#include "pager/pager.h"

namespace farswap {
namespace {

constexpr std::size_t kFetchesMax = 1024;
constexpr std::chrono::seconds kEndOfAProcess{2};  // from its first thread's end to its last's, at the most

/// Which pages of its parent a forked child has got, asked of the child's userfaultfd in ascending order. The
/// parent's mappings do not tell: it goes on as soon as the event has been read, and what other threads of it
/// unmapped before the fork may still be unannounced.
class ForkedPages {
  public:
    explicit ForkedPages(target::Target& child) : child_(child) {}

    /// Whether the child has the page at `address`. `end` is where its mapping may end: what is asked for at
    /// once.
    bool has(std::uint64_t address, std::uint64_t end) {
        if (address >= known_end_) ask(address, end);
        return has_;
    }
    /// Looks how much of a range that begins at `start` the child has got, from there on.
    void look_for(std::uint64_t start, std::uint64_t end) {
        while (start < end && has(start, end)) start = known_end_;
    }
    /// All that was found, and more of the same mappings.
    const target::IntervalSet& found() const { return found_; }

  private:
    void ask(std::uint64_t address, std::uint64_t end) {
        for (std::uint64_t bytes = std::min(step_, end - address);;
             bytes = bytes / 2 / kPageSize * kPageSize) {
            bytes = std::max<std::uint64_t>(bytes, kPageSize);
            const std::optional<bool> registered = child_.had_at_fork(address, bytes);
            // It changes its mappings without end: its events will say what it has not got any more.
            if (!registered) bytes = PageTable::kAddressEnd - address;
            has_ = registered.value_or(true);
            if (!has_ && bytes > kPageSize) continue;
            known_end_ = address + bytes;
            step_ = has_ ? 2 * bytes : kPageSize;
            if (has_) found_.add(address, known_end_);
            return;
        }
    }

    target::Target& child_;
    target::IntervalSet found_;
    std::uint64_t known_end_ = 0;
    std::uint64_t step_ = PageTable::kAddressEnd;
    bool has_ = false;
};

}  // namespace

Pager::Pager(io::Loop& loop, Pool& pool, SwapArea& area, Budget& budget, JobStats& stats)
    : loop_(loop), pool_(pool), area_(area), budget_(budget), stats_(stats) {
    for (std::size_t i = 0; i < kFetchesMax; i++) {
        fetches_.push_back(std::make_unique<Fetch>());
        fetches_.back()->pager = this;
        free_fetches_.push_back(fetches_.back().get());
    }
    retry_timer_.owner = this;
    // Firing is enough: the loop's owner pumps after every turn.
    retry_timer_.fire = [](io::Timer&) {};
}

Pager::~Pager() {
    loop_.cancel(retry_timer_);
    cancel_peeks();
    for (auto& process : processes_) drop_all(*process);
}

std::unique_ptr<Process> Pager::make_process(std::unique_ptr<target::Target> target) {
    if (!tables_) {
        auto memory = TableMemory::create();
        if (!memory) return nullptr;
        tables_ = std::move(*memory);
    }
    auto process = std::make_unique<Process>();
    process->pages = std::make_unique<PageTable>(*tables_);
    process->target = std::move(target);
    process->target->owner = process.get();
    process->lent.reserve(kBatchPages);
    process->moved.reserve(kBatchPages);
    return process;
}

Result<Process*> Pager::adopt(target::Agent agent) {
    const std::uint64_t cookie = agent.cookie;
    auto target = target::Target::create(std::move(agent), loop_, *this);
    if (!target) return std::unexpected(target.error());
    auto process = make_process(std::move(*target));
    if (!process) return fail(ENOMEM, "no memory to manage another process");
    process->cookie_base = cookie;
    processes_.push_back(std::move(process));
    stats_.processes_managed++;
    return processes_.back().get();
}

void Pager::give_agent(Process& child, target::Agent agent) {
    child.former_base = child.cookie_base;
    child.former_depth = child.cookie_depth;
    child.cookie_base = agent.cookie;
    child.cookie_depth = 0;
    stats_.processes_managed++;
    child.target->give_agent(std::move(agent));
}

void Pager::send_agent_away(Process& process, std::uint32_t status) {
    if (!process.target->agent_idle() || !process.moved.empty() || process.staged > 0 ||
        process.installs_guard)
        return;
    const target::Agent& agent = process->agent();
    process.agents_sent_away.push_back({agent.base, agent.base + agent.length});
    process.inherited_marks.push_back(agent.cookie);  // its children have that, too
    process.target->send_agent_away(status);
}

Status Pager::engage(Process& process) {
    // All processes together leave a 256th of the cap unregistered at most, and nothing above the cap: only
    // what is registered can be made to wait.
    const std::uint64_t unregistered_max = budget_.cap() / 256 / processes_.size();
    return register_mappings(process, budget_.has_room(0) ? unregistered_max : 0);
}

Status Pager::register_mappings(Process& process, std::uint64_t unregistered_max) {
    const std::uint64_t before = process->registered().bytes();
    auto refreshed = process.target->refresh_mappings(unregistered_max);
    if (process->registered().bytes() != before) copies_may_grow(process);
    if (!forks_wipe_)
        process.wiped_is_whole = true;
    else if (!process.wiped_is_whole)
        look_for_wiped(process);
    return refreshed;
}

void Pager::let_go(Process& process, std::uint64_t address, PageWord word) {
    if (word.fetching()) {
        for (auto& fetch : fetches_) {
            if (!fetch->active || fetch->process != &process || fetch->address != address) continue;
            area_.cancel_fetch(fetch->slot_fetch);
            fetch->active = false;
            free_fetches_.push_back(fetch.get());
            break;
        }
        process->uffd().wake(address, kPageSize);
    }
    if (!word.has_slot()) return;
    area_.put(word.value());
    (word.is_far() ? process.far_pages : process.kept_slots)--;
}

/// Gives up a read for a waiting thread whose page changes its address; the slot stays the page's.
void Pager::give_up_fetch(Process& process, std::uint64_t address, PageWord word) {
    if (!word.fetching()) return;
    area_.get(word.value());
    process.far_pages++;
    let_go(process, address, word);
}

/// A mapping moves to where, as far as we know, another one lies: that one's end is still to be announced,
/// since each thread queues its event only after it has left the kernel's lock. Its pages step aside until
/// then.
void Pager::displace(Process& process, std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
    const target::IntervalSet unnoted = process->unnoted_before(from, to, bytes);
    for (const target::IntervalSet* known : {&process->registered(), &unnoted}) {
        for (const target::AddressRange& range : known->overlap(to, to + bytes)) {
            for (const target::AddressRange& fresh : process.owed.missing(range.start, range.end))
                step_aside(process, fresh);
        }
    }
}

void Pager::step_aside(Process& process, const target::AddressRange& range) {
    process.pages->for_each(range.start, range.end, [&](std::uint64_t at, PageWord word) {
        give_up_fetch(process, at, word);
        process.displaced.emplace(at, word.relocated());
        process.pages->set(at, word.unmapped());
    });
    process.owed.add(range.start, range.end);
    for (const target::AddressRange& part : process.wiped.overlap(range.start, range.end))
        process.displaced_wiped.add(part.start, part.end);
    process.wiped.remove(range.start, range.end);
}

/// What is still to be announced keeps the userfaultfd from being quiet. Once it is, nothing is owed: what
/// seemed to lie there had gone before it was registered, or was never registered in this process, so that
/// its end is not announced.
void Pager::forget_what_is_not_owed(Process& process) {
    if (process.owed.empty() || process.gone || !process->uffd().is_quiet()) return;
    for (const auto& [at, word] : process.displaced) let_go(process, at, word);
    process.displaced.clear();
    process.displaced_wiped = {};
    process.owed.clear();
}

/// There are no words for what lies so high. Nothing is registered there, but mremap(2) takes what is.
void Pager::stop_as_too_high(const target::Target& target) {
    stop_for(
        ENOTSUP,
        "process {} has moved memory above 128 TiB, where farswap does not follow; the program was stopped",
        target.process());
}

/// The program has unmapped the agent's memory, or mapped something else over it: the next zap of staging
/// would empty what is the program's now.
void Pager::stop_if_agents(target::Target& target, std::uint64_t start, std::uint64_t end) {
    const target::Agent& agent = target.agent();
    if (target.has_agent() && start < agent.base + agent.length && agent.base < end)
        stop_as_mapped_over(target);
}

void Pager::stop_as_mapped_over(const target::Target& target) {
    stop_for(
        EFAULT,
        "process {} has unmapped farswap's part of its memory, or mapped something else over it; the program "
        "was stopped",
        target.process());
}

void Pager::on_remap(target::Target& target, std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
    Process& process = process_of(target);
    if (to > PageTable::kAddressEnd - bytes) return stop_as_too_high(target);
    stop_if_agents(target, from, from + bytes);
    children_asked_ = true;
    end_what_was_in_doubt(process, to, to + bytes);
    const std::uint64_t number = note_move(process, from, to, bytes);
    remember_unmapped(process, to, to + bytes, number);
    remember_unmapped(process, from, from + bytes, number);
    const target::IntervalSet newer = arrived_since(process, from, bytes);
    note_arrival(process, from, to, bytes, newer);
    displace(process, from, to, bytes);
    const auto move = [&](std::uint64_t at, PageWord word, const target::IntervalSet& wiped) {
        if (wiped.find(at) == nullptr) remember(process, at, word, number);
        process.pages->set(to + (at - from), word.relocated());
    };
    process.pages->for_each(from, from + bytes, [&](std::uint64_t at, PageWord word) {
        if (newer.find(at) != nullptr) return;
        give_up_fetch(process, at, word);
        move(at, word, process.wiped);
        process.pages->set(at, word.unmapped());
    });
    const bool has_displaced = !process.displaced.empty();
    for (auto page = process.displaced.lower_bound(from);
         !newer.empty() && page != process.displaced.end() && page->first < from + bytes;) {
        move(page->first, page->second, process.displaced_wiped);
        page = process.displaced.erase(page);
    }
    // Where no walk of expire_doubts() comes by any more.
    process.has_doubts |= process.doubts_until != 0 || has_displaced;
    take_along(process, from, to, bytes);
    move_wiped(process, from, to, bytes);
    target.range_moved(from, to, bytes);
    for (const target::AddressRange& guard : process.guards.overlap(from, from + bytes))
        process.guards.add(to + (guard.start - from), to + (guard.end - from));
}

void Pager::on_remove(target::Target& target, std::uint64_t start, std::uint64_t end, bool before_fork) {
    Process& process = process_of(target);
    const target::Agent& agent = target.agent();
    if (start >= agent.base && end <= agent.base + agent.length) return;  // our own zap of staging
    const std::uint32_t now = tenths_now();
    process.pages->for_each(start, end, [&](std::uint64_t at, PageWord word) {
        if (before_fork && process.wiped.find(at) == nullptr) remember_removal(process, at, word);
        let_go(process, at, word);
        process.pages->set(at, word.removal_announced(false, now));
    });
    // The kernel drops the pages only after this event was read (kernel facts 2.2). Those still present are
    // out of bounds until a fault proves that they are gone.
    std::array<target::AddressRange, 64> ranges;
    for (std::uint64_t at = start; at < end;) {
        auto scan = target.scan_present(at, end, (end - at) / kPageSize, ranges);
        if (!scan) {  // a child that is not identified yet: doubt everything
            scan = target::PagemapScan{1, end};
            ranges[0] = {at, end};
        }
        for (std::size_t i = 0; i < scan->count; i++) {
            process.has_doubts = true;
            for (std::uint64_t page = ranges[i].start; page < ranges[i].end; page += kPageSize) {
                process.pages->set(page, process.pages->get(page).removal_announced(true, now));
            }
        }
        if (scan->walk_end <= at) break;
        at = scan->walk_end;
    }
}

void Pager::on_unmap(target::Target& target, std::uint64_t start, std::uint64_t end) {
    Process& process = process_of(target);
    stop_if_agents(target, start, end);
    for (const target::AddressRange& range : process.owed.missing(start, end)) {
        for (const target::AddressRange& part : process.moved_in.overlap(range.start, range.end))
            doubt_end(process, part.start, part.end);
        for (const target::AddressRange& part : process.moved_in.missing(range.start, range.end))
            end_mapping(process, part.start, part.end);
    }
    end_displaced(process, start, end);
    std::erase_if(process.inherited_marks, [&](std::uint64_t mark) { return mark >= start && mark < end; });
    // What lies there now is the program's, and stays when it is let go of.
    std::erase_if(process.agents_sent_away,
                  [&](const target::AddressRange& agent) { return agent.start < end && start < agent.end; });
}

/// What is known to lie there has gone.
void Pager::end_mapping(Process& process, std::uint64_t start, std::uint64_t end) {
    unmap_wiped(process, start, end);
    unmap_later(process, start, end);
    process.target->range_unmapped(start, end);
    process.guards.remove(start, end);
}

/// What stepped aside there has gone.
void Pager::end_displaced(Process& process, std::uint64_t start, std::uint64_t end) {
    for (auto page = process.displaced.lower_bound(start);
         page != process.displaced.end() && page->first < end;) {
        remember_displaced(process, page->first, page->second);
        let_go(process, page->first, page->second);
        page = process.displaced.erase(page);
    }
    process.owed.remove(start, end);
    process.displaced_wiped.remove(start, end);
}

void Pager::on_fork(target::Target& target, Fd child_uffd) {
    Process& parent = process_of(target);
    const std::optional<target::ForkRanges> told = ask_what_is_wiped(parent);  // it goes on meanwhile
    auto made = make_process(target::Target::create_child(std::move(child_uffd), loop_, *this));
    // A child has words for all that its parent has outside.
    if (!made || !tables_->make_room(parent.pages->blocks())) {
        stop_for(ENOMEM, "no memory to follow a fork; the program was stopped");
        return;
    }
    children_asked_ = true;
    Process& child = *made;
    processes_.push_back(std::move(made));
    shares_by_fork(parent);
    shares_by_fork(child);
    parent.unshared.clear();
    child.forked_by = target.process();
    child.forkers_faults = target::read_minor_faults(target.process());
    child.may_be_protected = parent.may_be_protected;
    child.guards = parent.guards;
    child.leaving = parent.leaving;
    child.out_of_reach = parent.out_of_reach;
    child.has_doubts = parent.has_doubts || parent.doubts_until != 0;
    child.inherited_marks = parent.inherited_marks;
    if (target.has_agent()) child.inherited_marks.push_back(target.agent().cookie);
    child.cookie_base = parent.cookie_base;
    child.cookie_depth = target.has_agent() ? 0 : parent.cookie_depth + 1;
    child.former_base = parent.former_base;
    child.former_depth = parent.former_depth + 1;
    child.cookie = {0x66617273776170ull, ++cookies_};
    mark(child);
    log::debug("process {} (mark {}) forked mark {}, depth {}", target.process(), parent.cookie[1], cookies_,
               child.cookie_depth);

    forget_what_is_mapped_again(parent);
    inherit_pages(parent, child, told);
    hold_child(parent, child);
    if (child_forked) child_forked();
}

/// Gives the child its own view of what its parent has outside. `told`: as by ask_what_is_wiped().
void Pager::inherit_pages(Process& parent, Process& child, const std::optional<target::ForkRanges>& told) {
    if (forks_wipe_ && !parent.wiped_is_whole) look_for_wiped(parent);
    const std::vector<Process::Move> after = moves_after(parent, child);
    target::IntervalSet newer;
    for (const Process::Move& move : after) newer.add(move.to, move.to + move.bytes);
    ForkedPages forked(*child.target);
    parent.pages->for_each(0, PageTable::kAddressEnd, [&](std::uint64_t at, PageWord word) {
        if (parent.wiped.find(at) != nullptr) return;  // the child has zeros there, if it has anything
        if (newer.find(at) != nullptr) return;
        const target::AddressRange* range = parent->registered().find(at);
        if (!forked.has(at, range == nullptr ? at + kPageSize : range->end))
            return leave_behind(parent, child, at, word);
        child.pages->set(at, word.inherited());
        if (!word.has_slot()) return;
        area_.get(word.value());
        (word.is_far() ? child.far_pages : child.kept_slots)++;
    });

    target::IntervalSet mapped = forked.found();
    // What is missed is registered again when the child is looked at: nothing where it has words, which would
    // be dropped then.
    ForkedPages whole(*child.target);
    for (const target::AddressRange& range : parent->registered().ranges())
        whole.look_for(range.start, range.end);
    for (const target::AddressRange& range : whole.found().ranges()) mapped.add(range.start, range.end);
    child.target->inherit_ranges(*parent.target, mapped);
    inherit_wiped(parent, child);
    if (forks_may_wipe_) inherit_doubts_about_wiping(parent, child, told);
    if (parent.has_overtaking() || !parent.removed.empty()) inherit_overtaken(parent, child, after);
}

/// Puts a mark into the child by which it is found in /proc: it has no number yet.
void Pager::mark(Process& child) {
    child.unmarkable = child.cookie_depth >= target::kCookiePages;
    if (child.unmarkable) return;  // served, but never found: nothing is evicted from it
    alignas(kPageSize) std::array<std::uint64_t, kPageSize / 8> page{};
    std::copy(child.cookie.begin(), child.cookie.end(), page.begin());
    const std::uint64_t at = child.cookie_base + child.cookie_depth * kPageSize;
    const int error = child->uffd().copy(at, page.data(), kPageSize).error;
    child.marked = error != EAGAIN;
    if (error == ENOENT && child.former_base != 0) {
        // Forked by another thread while its parent got an agent, whose memory the child has not got.
        child.cookie_base = std::exchange(child.former_base, 0);
        child.cookie_depth = child.former_depth;
        return mark(child);
    }
    child.unmarkable = error != 0 && error != EAGAIN && error != ESRCH;
}

Pager::Recognised Pager::recognise(pid_t process) {
    // Each fork inherits the marks of those above it, so only the deepest one is a process's own; and while
    // one is still to be placed, its bearer could be taken for its parent.
    for (auto& child : processes_) {
        if (!child->marked && !child->gone) mark(*child);
        if (!child->marked && !child->gone) return {nullptr, false};
    }
    bool bears_marks = false;
    for (auto& child : processes_) {
        if (child->target->process() != 0 || child->gone) continue;
        bears_marks |= child->unmarkable;  // it may be any of them
        // Only a page that is present may be read: another one could wait for ourselves.
        Fd pagemap(::open(fmt::format("/proc/{}/pagemap", process).c_str(), O_RDONLY | O_CLOEXEC));
        const std::uint64_t end = child->cookie_base + target::kCookiePages * kPageSize;
        std::array<target::AddressRange, target::kCookiePages> range;
        auto scan = target::scan_pages(pagemap.get(), target::PageKind::kAnonymous, child->cookie_base, end,
                                       target::kCookiePages, range);
        if (!scan || scan->count == 0) continue;
        bears_marks = true;
        const std::uint64_t deepest = range[scan->count - 1].end - kPageSize;
        if (deepest != child->cookie_base + child->cookie_depth * kPageSize) continue;
        std::array<std::uint64_t, 2> cookie{};
        iovec local{cookie.data(), sizeof cookie};
        iovec remote{reinterpret_cast<void*>(deepest), sizeof cookie};
        if (process_vm_readv(process, &local, 1, &remote, 1, 0) != sizeof cookie || cookie != child->cookie)
            continue;
        if (!child->target->identify(process)) continue;
        log::debug("process {} bears mark {}", process, child->cookie[1]);
        (void)learn_what_was_wiped(*child);
        return {child.get(), true};
    }
    return {nullptr, !bears_marks};
}

void Pager::on_batch_end(target::Target& target) {
    forget(process_of(target).removed);
    settle_ends(process_of(target));
    forget_what_is_not_owed(process_of(target));
    forget_what_was_overtaken(process_of(target));
    if (!process_of(target).awaited.empty()) (void)learn_what_was_wiped(process_of(target));
    if (!std::exchange(children_asked_, false)) return;
    for (std::size_t i = 0; i < processes_.size(); i++) processes_[i]->target->deliver_heard();
}

void Pager::on_gone(target::Target& target, bool process_alive) {
    Process& process = process_of(target);
    if (std::exchange(process.gone, true)) return;
    log::debug("process {} (mark {}) is gone{}", target.process(), process.cookie[1],
               process_alive ? ", perhaps by an exec" : "");
    if (process_gone) process_gone(process, process_alive);
    drop_all(process);
}

void Pager::on_deaf(target::Target& target, int error) {
    stop_for(
        error,
        "a fork of process {} cannot be followed: {}; the program was stopped; raise the limit on open files "
        "(ulimit -Hn)",
        target.process(), strerror(error));
}

void Pager::drop_all(Process& process) {
    process.pages->for_each(0, PageTable::kAddressEnd, [&](std::uint64_t at, PageWord word) {
        let_go(process, at, word);
        process.pages->set(at, word.unmapped());
    });
    for (const auto& [at, word] : process.displaced) let_go(process, at, word);
    process.displaced.clear();
    forget_moves(process);
    forget(process.removed);
    forget_left_behind(process);
    process.unmapped.clear();
    FARSWAP_ASSERT(process.far_pages == 0 && process.kept_slots == 0);
    return_frames(process);
    waiting_.erase_if([&](const WaitingFault& fault) { return fault.process == &process; });
}

void Pager::bury() {
    std::erase_if(processes_, [](const auto& process) { return process->gone; });
}

void Pager::look_for_gone_children() {
    for (auto& process : processes_) {
        look_again_for_wiped(*process);
        // Who ends by exit(2) leaves the others alone: the agent would keep it for ever.
        if (!process->gone && process->target->has_agent() && process->target->process() != 0 &&
            target::is_alone(process->target->agent().thread, process->target->process()))
            send_agent_away(*process, target::read_exit_status(process->target->process()));
        // Without an agent it tells only when asked that its address space is gone.
        if (process->gone || process->target->has_agent()) continue;
        const pid_t number = process->target->process();
        if (process->target->uffd().is_gone()) {
            const char state = number == 0 ? '\0' : target::read_state(number);
            on_gone(*process->target, state != '\0' && state != 'Z' && state != 'X');
        } else if (process->target->lost_agent() && process->target->is_moving() &&
                   io::Clock::now() - process->target->asked_at() > kEndOfAProcess) {
            // What the agent had moved when it ended lies where nobody finds it.
            stop_for(
                ESRCH,
                "process {} ended and left its memory to another process while pages were moved out of it; "
                "the program was stopped",
                number);
        }
    }
}

}  // namespace farswap
