// The fault path: what a thread that waits for a page gets, and from where.
#include <algorithm>
#include <bit>
#include <cerrno>

#include "base/assert.h"
#include "base/log.h"
#include "base/no_allocation.h"
#include "pager/pager.h"

namespace farswap {
namespace {

constexpr std::uint32_t kFreshMax = 64;     // pages of fresh memory filled for one touch
constexpr std::uint32_t kReadAheadMin = 4;  // pages: a walk with a shorter window is none yet
// A walk at its widest has so many windows read ahead: the one that comes next is on its way for too short a
// time.
constexpr std::uint32_t kWindowsAhead = 2;
constexpr std::chrono::microseconds kRetryAfter{100};

alignas(kPageSize) const std::byte kZeros[kFreshMax * kPageSize] = {};

/// ENOENT, ESRCH: the page's mapping or process is gone; there is nobody left to wait. EEXIST: it is there
/// already.
bool settles_the_fault(int error) {
    return error == ENOENT || error == ESRCH || error == EEXIST;
}

/// The address so many pages away; beyond either end of the address space, one where nothing can be.
std::uint64_t beside(std::uint64_t address, std::uint64_t pages, bool backwards) {
    const std::uint64_t distance = pages * kPageSize;
    if (backwards) return address > distance ? address - distance : 0;
    return std::min(address + distance, PageTable::kAddressEnd - kPageSize);
}

}  // namespace

void Pager::on_fault(target::Target& target, std::uint64_t address) {
    stats_.faults++;
    const auto timed = times_.begin();
    Process& process = process_of(target);
    if (serve(process, address) != Served::kDone)
        waiting_.push_back({&process, address, false, times_.current()});
}

void Pager::on_write_fault(target::Target& target, std::uint64_t address) {
    stats_.faults++;
    const auto timed = times_.begin();
    Process& process = process_of(target);
    if (allow_write(process, address) != Served::kDone)
        waiting_.push_back({&process, address, true, times_.current()});
}

Pager::Served Pager::serve(Process& process, std::uint64_t address) {
    if (process.gone || failed_) return Served::kDone;
    settle_ends(process);
    if (process.ends_in_doubt.find(address) != nullptr) return Served::kAgain;
    // A mapping that was announced as gone may have grown again in its place, without an event.
    forget_unmapped(process, address, address + kPageSize);
    if (waits_for_wiped(process, address)) return Served::kDone;  // it will be asked for again
    const PageWord word = process.pages->get(address);
    if (word.fetching()) return Served::kDone;
    if (awaits_guard(process, address)) return Served::kAgain;  // a fill would take its place
    if (word.fault_action() == FaultAction::kFromSlot) return bring_from_slot(process, address, word);
    // What a MOVE has taken out is still "inside" until it is settled: zeros must not take its place.
    if (process.target->is_moving()) return Served::kAgain;
    return fill_zeros(process, address);
}

/// Whether a page may come in now. The cap holds everybody up but those for whom nothing leaves the process
/// before they have got it: the agent, which may itself wait for a page that it was asked to unshare, and we
/// ourselves, for what tells of a thread's mutexes (keep_thread_pages()).
bool Pager::may_fill(const Process& process, std::uint64_t address) {
    if (comes_in_anyway(process) || budget_.has_room(kPageSize)) return true;
    if (std::ranges::find(process.kept_found, address) != process.kept_found.end()) return true;
    times_.waits_for_room();
    if (process.target->agent_idle() || process.asked.op != AGENT_UNSHARE) return false;
    for (std::uint32_t i = 0; i < process.asked.count; i++) {
        const agent_range& range = process.asked.range[i];
        if (address >= range.src && address < range.src + range.len) return true;
    }
    return false;
}

void Pager::arrived(Process& process, std::uint64_t pages) {
    budget_.filled(pages * kPageSize);
    process.rss += pages * kPageSize;
    process.filled += pages * kPageSize;
    process.target->threads().page_came();
}

/// How many pages from `address` on are to become memory of the program at once: one that walks through fresh
/// memory gets it in runs, whose width grows while it goes on.
std::uint64_t Pager::fresh_run(Process& process, std::uint64_t address) {
    process.fresh_window = address == process.next_fresh ? std::min(process.fresh_window * 2, kFreshMax) : 1;
    const target::AddressRange* range = process->registered().find(address);
    const std::uint64_t end =
        range == nullptr ? address + kPageSize : next_guard(process, address, range->end);
    std::uint64_t pages = 1;
    while (pages < process.fresh_window && address + pages * kPageSize < end &&
           budget_.has_room((pages + 1) * kPageSize) &&
           process.pages->get(address + pages * kPageSize).is_default()) {
        pages++;
    }
    return pages;
}

Pager::Served Pager::fill_zeros(Process& process, std::uint64_t address) {
    if (!may_fill(process, address)) return Served::kNoRoom;
    std::uint64_t pages = fresh_run(process, address);
    // Not over guards that were put in without us. The fault proves that its own page has none.
    if (pages > 1) pages = 1 + process->count_absent(address + kPageSize, pages - 1);
    auto filled = process->uffd().copy(address, kZeros, pages * kPageSize);
    if (filled.bytes == 0 && filled.error == ENOENT && pages > 1) {
        // The run reaches into another mapping, which the kernel refuses as a whole.
        filled = process->uffd().copy(address, kZeros, kPageSize);
    }
    if (filled.bytes == 0) {
        if (!settles_the_fault(filled.error)) return Served::kAgain;
        process->uffd().wake(address, kPageSize);
        return Served::kDone;
    }
    process.target->note_filled(address, address + filled.bytes);
    arrived(process, filled.bytes / kPageSize);
    process.next_fresh = address + filled.bytes;
    stats_.faults_first++;
    times_.served(FaultKind::kFirstTouch);
    const PageWord word = process.pages->get(address);
    if (!word.is_default()) {
        let_go(process, address, word);
        process.pages->set(address, word.brought_back({}));
    }
    return Served::kDone;
}

/// Lets a thread write to protected pages, which others share (copies.cpp) or which are the kernel's zero
/// page: each write makes a copy.
Pager::Served Pager::allow_write(Process& process, std::uint64_t address) {
    if (process.gone || failed_) return Served::kDone;
    if (!may_fill(process, address)) return Served::kNoRoom;
    std::uint64_t pages = fresh_run(process, address);
    int error = process->uffd().unprotect(address, pages * kPageSize);
    if (error == ENOENT && pages > 1) {
        pages = 1;  // the run reaches into another mapping
        error = process->uffd().unprotect(address, kPageSize);
    }
    if (error != 0 && !settles_the_fault(error)) return Served::kAgain;
    if (error != 0) {
        process->uffd().wake(address, kPageSize);
        return Served::kDone;
    }
    budget_.filled(pages * kPageSize);
    process.rss += pages * kPageSize;
    process.writes_allowed += pages;
    writes_allowed_ += pages;
    process.next_fresh = address + pages * kPageSize;
    stats_.faults_first++;
    times_.served(FaultKind::kFirstTouch);
    return Served::kDone;
}

Pager::Served Pager::bring_from_slot(Process& process, std::uint64_t address, PageWord word) {
    if (!may_fill(process, address)) return Served::kNoRoom;
    const bool is_new = times_.is_new_fault();
    const auto how = [is_new](MissCurve::Back back) { return is_new ? back : MissCurve::Back::kAlong; };
    if (regions_ != nullptr && is_new) regions_->refault(address);
    if (is_new) process.surroundings.asked_for(address, working_set_.now());
    const Stream& stream = process.streams.fault(address, [&](std::uint64_t start, std::uint64_t end) {
        for (std::uint64_t at = start; at < end; at += kPageSize) {
            if (process.pages->get(at).is_far()) return true;
        }
        return false;
    });
    const Ahead ahead = ahead_of(process, address, stream, is_new);
    // After the page that is wanted.
    const Stream strides = stream;
    if (const std::byte* content = area_.lookup(word.value())) {
        note_back(process, address, how(MissCurve::Back::kCached));
        auto& counter = area_.is_dirty(word.value()) ? stats_.second_chances : stats_.faults_cached;
        const Served served = fill_from_slot(process, address, word, content, ahead);
        if (is_new && served == Served::kDone) counter++;
        read_strides(process, strides);
        return served;
    }
    if (free_fetches_.empty()) return Served::kAgain;
    if (is_new) stats_.faults_stored++;
    note_back(process, address, how(MissCurve::Back::kStored));
    start_fetch(process, address, word, ahead);
    read_strides(process, strides);
    return Served::kDone;
}

/// What the fault at `address` brings in besides. A walk that leaves pages out may be none.
Pager::Ahead Pager::ahead_of(Process& process, std::uint64_t address, const Stream& stream, bool is_new) {
    Ahead ahead{stream.window - 1, stream.backwards};
    ahead.in_walk = stream.window > 1 || stream.depth > 0;
    if (is_new) process.foresight.asked_for(address);
    if (!stream.strides || ahead.pages == 0) return ahead;
    const std::uint64_t next = beside(address, 1, ahead.backwards);
    const std::uint64_t last = beside(address, ahead.pages, ahead.backwards);
    std::uint32_t far = 0;
    for (std::uint32_t i = 1; i <= ahead.pages; i++)
        far += process.pages->get(beside(address, i, ahead.backwards)).is_far();
    ahead.maps =
        is_new && process.foresight.is_worth_it(std::min(next, last), std::max(next, last) + kPageSize, far);
    return ahead;
}

/// Has those pages read into the cache that a walk in equal strides comes to next.
void Pager::read_strides(Process& process, const Stream& stream) {
    for (std::uint32_t i = 1; i <= stream.depth; i++) {
        const std::uint64_t at = stream.strided_to(i);
        if (at >= PageTable::kAddressEnd) return;
        const PageWord word = process.pages->get(at);
        if (word.is_far() && !word.fetching()) area_.prefetch({word.value(), 1});
    }
}

Pager::Served Pager::fill_from_slot(Process& process, std::uint64_t address, PageWord word,
                                    const std::byte* content, Ahead ahead) {
    const auto filled = process->uffd().copy(address, content, kPageSize);
    if (filled.bytes == 0) {
        if (!settles_the_fault(filled.error)) return Served::kAgain;
        if (filled.error == EEXIST) {
            // What is there is what the program has, and the slot's page must never come in its place.
            log::warning("page {:x} of process {} is present and far", address, process->process());
            let_go(process, address, word);
            process.pages->set(address, word.brought_back({}));
        }
        process->uffd().wake(address, kPageSize);
        return Served::kDone;
    }
    times_.served(FaultKind::kCached);
    arrived(process, 1);
    process.far_pages--;
    settle_back(process, address, word,
                ahead.in_walk ? WorkingSet::passed_through(word) : working_set_.refaulted(word));
    if (!ahead.in_walk) map_surroundings(process, address);
    if (ahead.pages > 0 && ahead.maps) map_neighbours(process, address, ahead);
    if (ahead.pages > 0 && !ahead.maps) read_ahead(process, beside(address, 1, ahead.backwards), ahead);
    return Served::kDone;
}

/// Brings in what lies around a page, is outside, and in memory all the same.
void Pager::map_surroundings(Process& process, std::uint64_t address) {
    const std::uint64_t block = Surroundings::block_of(address);
    std::uint32_t near = 0;
    for (std::uint32_t i = 0; i < Surroundings::kPages; i++) {
        const PageWord word = process.pages->get(block + i * kPageSize);
        if (word.is_far() && !word.fetching() && area_.is_in_memory(word.value())) near |= 1u << i;
    }
    if (!process.surroundings.is_worth_it(address, near, working_set_.now())) return;
    for (; near != 0; near &= near - 1) {
        const auto index = static_cast<std::uint32_t>(std::countr_zero(near));
        if (map_run(process, block + index * kPageSize, {1, false}) == 0) return;
    }
}

/// Brings in the neighbours that are near already, and has those behind them read.
void Pager::map_neighbours(Process& process, std::uint64_t address, Ahead ahead) {
    std::uint32_t mapped = 0;
    while (mapped < ahead.pages) {
        const std::uint64_t next = beside(address, mapped + 1, ahead.backwards);
        const std::uint32_t more = map_run(process, next, {ahead.pages - mapped, ahead.backwards});
        if (more == 0) break;
        mapped += more;
    }
    const std::uint64_t last = beside(address, mapped, ahead.backwards);
    process.streams.given(address, std::min(address, last), std::max(address, last) + kPageSize);
    read_ahead(process, beside(last, 1, ahead.backwards), ahead);
}

/// Brings in the page at `address` and those on its side, for as long as they are near and follow each other
/// in addresses, slots and frames: by one COPY. How many.
std::uint32_t Pager::map_run(Process& process, std::uint64_t address, Ahead ahead) {
    const SlotId slot = process.pages->get(address).value();
    const std::byte* first = nullptr;
    std::uint32_t count = 0;
    for (; count < ahead.pages; count++) {
        if (!comes_in_anyway(process) && !budget_.has_room((count + 1) * kPageSize)) break;
        const std::uint64_t distance = count * kPageSize;
        const PageWord word = process.pages->get(beside(address, count, ahead.backwards));
        if (!word.is_far() || word.fetching()) break;
        if (process.guards.find(beside(address, count, ahead.backwards)) != nullptr) break;
        if (process.unmapped.find(beside(address, count, ahead.backwards)) != nullptr) break;
        if (process.ends_in_doubt.find(beside(address, count, ahead.backwards)) != nullptr) break;
        if (process.perhaps_wiped.find(beside(address, count, ahead.backwards)) != nullptr) break;
        if (word.value() != (ahead.backwards ? slot - count : slot + count)) break;
        const std::byte* content = area_.lookup(word.value());
        if (content == nullptr) break;
        if (first == nullptr) first = content;
        if (content != (ahead.backwards ? first - distance : first + distance)) break;
    }
    if (count == 0) return 0;
    const std::uint64_t back = ahead.backwards ? (count - 1) * kPageSize : 0;
    const std::uint64_t start = address - back;
    if (process->count_absent(start, count) < count) return 0;  // a guard lies there, or is gone again
    const auto filled = process->uffd().copy(start, first - back, count * kPageSize);
    const auto pages = static_cast<std::uint32_t>(filled.bytes / kPageSize);
    for (std::uint32_t i = 0; i < pages; i++) {
        const std::uint64_t at = start + i * kPageSize;
        const PageWord word = process.pages->get(at);
        settle_back(process, at, word, WorkingSet::passed_through(word));
        note_back(process, at, MissCurve::Back::kAlong);
    }
    arrived(process, pages);
    process.far_pages -= pages;
    stats_.prefetched += pages;
    return pages == count ? count : 0;
}

/// Has the far pages from `address` on that side read into the cache, in runs of slots.
void Pager::read_ahead(Process& process, std::uint64_t address, Ahead ahead) {
    std::uint32_t pages = ahead.pages + 1;
    if (pages < kReadAheadMin) return;
    if (pages == Streams::kWindowMax) pages *= kWindowsAhead;
    SlotRun run{0, 0};
    for (std::uint32_t i = 0; i < pages; i++) {
        const PageWord word = process.pages->get(beside(address, i, ahead.backwards));
        const bool far = word.is_far() && !word.fetching();
        if (far && run.count > 0 &&
            word.value() == (ahead.backwards ? run.first - 1 : run.first + run.count)) {
            run = {std::min(run.first, word.value()), run.count + 1};
            continue;
        }
        if (run.count > 0) area_.prefetch(run);
        run = far ? SlotRun{word.value(), 1} : SlotRun{0, 0};
    }
    if (run.count > 0) area_.prefetch(run);
}

/// Reads the page with the neighbours that lie in the same run of slots; those behind them in further reads.
void Pager::start_fetch(Process& process, std::uint64_t address, PageWord word, Ahead ahead) {
    std::uint32_t count = 1;
    while (count <= ahead.pages) {
        const PageWord next = process.pages->get(beside(address, count, ahead.backwards));
        if (!next.is_far()) break;
        if (next.value() != (ahead.backwards ? word.value() - count : word.value() + count)) break;
        count++;
    }
    Fetch& fetch = *free_fetches_.back();
    free_fetches_.pop_back();
    const PageWord started = word.fetch_started();
    process.pages->set(address, started);
    fetch.process = &process;
    fetch.address = address;
    fetch.generation = started.generation();
    fetch.ahead = ahead;
    fetch.start = times_.current();
    fetch.active = true;
    fetch.slot_fetch = {.slot = word.value(),
                        .window = {ahead.backwards ? word.value() - (count - 1) : word.value(), count},
                        .ready =
                            [](SlotFetch& done, const std::byte* content, int error) {
                                auto& self = *static_cast<Fetch*>(done.owner);
                                self.pager->fetch_ready(self, content, error);
                            },
                        .owner = &fetch};
    area_.fetch(fetch.slot_fetch);
    read_ahead(process, beside(address, count, ahead.backwards), ahead);
}

void Pager::fetch_ready(Fetch& fetch, const std::byte* content, int error) {
    FARSWAP_ASSERT(fetch.active);
    const auto timed = times_.resume_read(fetch.start);
    Process& process = *fetch.process;
    const std::uint64_t address = fetch.address;
    fetch.active = false;
    free_fetches_.push_back(&fetch);

    PageWord word = process.pages->get(address);
    FARSWAP_ASSERT(word.fetching() && word.generation() == fetch.generation);
    word = word.fetch_ended();
    process.pages->set(address, word);
    if (error == -ECANCELED) {
        waiting_.push_back({&process, address, false, times_.current()});
        return;
    }
    if (content == nullptr) {
        const MayAllocate message("the job is about to end");
        const bool is_wrong = error == -EILSEQ;
        stop_for(-error, "page {:#x} of process {} {}{}: {}; the program was stopped", address,
                 process->process(),
                 is_wrong ? "does not have the content that was written" : "cannot be read: ",
                 is_wrong ? "" : strerror(-error), area_.describe(word.value()));
        return;
    }
    if (process.gone) return;
    const Served served = comes_in_anyway(process) || budget_.has_room(kPageSize)
                              ? fill_from_slot(process, address, word, content, fetch.ahead)
                              : Served::kNoRoom;
    if (served == Served::kNoRoom) times_.waits_for_room();
    if (served != Served::kDone) waiting_.push_back({&process, address, false, times_.current()});
}

Awaited Pager::awaited() noexcept {
    const bool has_faulted = std::exchange(faults_before_, stats_.faults) != stats_.faults;
    // Room is made by agents: they need the core more than we do.
    if (!waiting_.empty()) return Awaited::kNothing;
    if (free_fetches_.size() < fetches_.size()) {
        answered_ = true;
        return Awaited::kAnswer;
    }
    return has_faulted || std::exchange(answered_, false) ? Awaited::kFault : Awaited::kNothing;
}

Pager::Served Pager::serve_again(WaitingFault& fault) {
    const auto timed = times_.resume(fault.start);
    const Served served =
        fault.to_write ? allow_write(*fault.process, fault.address) : serve(*fault.process, fault.address);
    fault.start = times_.current();
    return served;
}

void Pager::retry_waiting() {
    bool again = false;
    for (std::size_t left = waiting_.size(); left > 0 && !waiting_.empty(); left--) {
        WaitingFault fault = waiting_.front();
        waiting_.pop_front();
        if (fault.process->gone) continue;
        const Served served = serve_again(fault);
        if (served == Served::kAgain) {
            // An event must be read first, or a MOVE be answered.
            fault.process->target->drain();
            again = true;
        }
        if (served != Served::kDone && !fault.process->gone) waiting_.push_back(fault);
    }
    // Who waits for room is tried again when room is made.
    if (again) arm_retry();
}

void Pager::arm_retry() {
    if (retry_timer_.index == ~0u) loop_.arm(retry_timer_, io::Clock::now() + kRetryAfter);
}

}  // namespace farswap
