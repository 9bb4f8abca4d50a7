// The fault path: what a thread that waits for a page gets, and from where.
#include <cerrno>

#include "base/assert.h"
#include "base/log.h"
#include "pager/pager.h"

namespace farswap {
namespace {

constexpr std::uint32_t kWindowMax = 64;  // pages: a quarter MiB, the most that a run of slots holds
constexpr std::chrono::microseconds kRetryAfter{100};

alignas(kPageSize) const std::byte kZeros[kWindowMax * kPageSize] = {};

/// ENOENT, ESRCH: the page's mapping or process is gone; there is nobody left to wait. EEXIST: it is there
/// already.
bool settles_the_fault(int error) {
    return error == ENOENT || error == ESRCH || error == EEXIST;
}

}  // namespace

void Pager::on_fault(target::Target& target, std::uint64_t address) {
    stats_.faults++;
    Process& process = process_of(target);
    if (serve(process, address) != Served::kDone) waiting_.push_back({&process, address});
}

Pager::Served Pager::serve(Process& process, std::uint64_t address) {
    if (process.gone || failed_) return Served::kDone;
    const PageWord word = process.pages->get(address);
    if (word.fetching()) return Served::kDone;
    switch (word.fault_action()) {
        case FaultAction::kFillZeros:
            // What a MOVE has taken out is still "inside" until its reply: zeros must not take its place.
            if (process.target->is_moving()) return Served::kAgain;
            return fill_zeros(process, address);
        case FaultAction::kFromParent:
            return fill_from_parent(process, address, word);
        case FaultAction::kFromStaging:
            return bring_from_staging(process, address, word);
        case FaultAction::kFromSlot:
            return bring_from_slot(process, address, word);
    }
    return Served::kDone;
}

/// Whether a page may come in now. The cap holds everybody up but the agent: it may itself wait for a page
/// that it was asked to unshare, and nothing leaves the process before it has got it.
bool Pager::may_fill(const Process& process, std::uint64_t address) const {
    if (budget_.has_room(kPageSize)) return true;
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
}

Pager::Served Pager::fill_zeros(Process& process, std::uint64_t address) {
    if (!may_fill(process, address)) return Served::kNoRoom;
    // A program that walks through fresh memory gets it in runs; the width grows while it goes on.
    process.fresh_window = address == process.next_fresh ? std::min(process.fresh_window * 2, kWindowMax) : 1;
    const target::AddressRange* range = process->registered().find(address);
    const std::uint64_t end = range == nullptr ? address + kPageSize : range->end;
    std::uint64_t pages = 1;
    while (pages < process.fresh_window && address + pages * kPageSize < end &&
           budget_.has_room((pages + 1) * kPageSize) &&
           process.pages->get(address + pages * kPageSize).is_default()) {
        pages++;
    }
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
    arrived(process, filled.bytes / kPageSize);
    process.next_fresh = address + filled.bytes;
    stats_.faults_first++;
    const PageWord word = process.pages->get(address);
    if (!word.is_default()) process.pages->set(address, word.brought_back(false));
    return Served::kDone;
}

Pager::Served Pager::bring_from_staging(Process& process, std::uint64_t address, PageWord word) {
    alignas(kPageSize) std::byte content[kPageSize];
    const std::uint64_t staged_at = process->agent().staging + std::uint64_t{word.value()} * kPageSize;
    if (process->read_memory(staged_at, content, kPageSize) != kPageSize)
        return Served::kDone;  // it is dying
    const auto filled = process->uffd().copy(address, content, kPageSize);
    if (filled.bytes == 0) {
        if (!settles_the_fault(filled.error)) return Served::kAgain;
        if (filled.error == EEXIST)
            log::warning("page {:x} of process {} is present and staged", address, process->process());
        process->uffd().wake(address, kPageSize);
        if (filled.error != EEXIST) return Served::kDone;
    }
    arrived(process, 1);
    stats_.faults_staged++;
    process.staging.vacate(word.value());
    process.pages->set(address, word.brought_back(true));
    return Served::kDone;
}

Pager::Served Pager::fill_from_parent(Process& process, std::uint64_t address, PageWord word) {
    FARSWAP_ASSERT(word.value() < process.inherited.size());
    InheritedPage& page = process.inherited[word.value()];
    FARSWAP_ASSERT(page.address == address);
    const auto filled = process->uffd().copy(address, page.content->data(), kPageSize);
    if (filled.bytes == 0) {
        if (!settles_the_fault(filled.error)) return Served::kAgain;
        process->uffd().wake(address, kPageSize);
        if (filled.error == ESRCH) return Served::kDone;
    }
    arrived(process, 1);
    page = {};
    process.pages->set(address, word.brought_back(false));
    return Served::kDone;
}

Pager::Served Pager::bring_from_slot(Process& process, std::uint64_t address, PageWord word) {
    if (!may_fill(process, address)) return Served::kNoRoom;
    const bool sequential =
        address >= process.next_address && address - process.next_address < 16 * kPageSize;
    process.window = sequential ? std::min(process.window * 2, kWindowMax) : std::max(process.window / 2, 1u);
    if (const std::byte* content = area_.lookup(word.value())) {
        stats_.faults_cached++;
        return fill_from_slot(process, address, word, content);
    }
    if (free_fetches_.empty()) return Served::kAgain;
    stats_.faults_stored++;
    start_fetch(process, address, word);
    return Served::kDone;
}

Pager::Served Pager::fill_from_slot(Process& process, std::uint64_t address, PageWord word,
                                    const std::byte* content) {
    const auto filled = process->uffd().copy(address, content, kPageSize);
    if (filled.bytes == 0) {
        if (!settles_the_fault(filled.error)) return Served::kAgain;
        if (filled.error == EEXIST)
            log::warning("page {:x} of process {} is present and far", address, process->process());
        process->uffd().wake(address, kPageSize);
        return Served::kDone;
    }
    arrived(process, 1);
    process.far_pages--;
    process.pages->set(address, word.brought_back(false));
    process.next_address = address + kPageSize;
    map_neighbours(process, address + kPageSize, word.value() + 1);
    area_.put(word.value());
    return Served::kDone;
}

void Pager::map_neighbours(Process& process, std::uint64_t address, SlotId slot) {
    // Pages that were read along, for as long as they follow each other in addresses, slots and frames.
    std::uint32_t count = 0;
    const std::byte* first = nullptr;
    while (count + 1 < process.window && budget_.has_room((count + 1) * kPageSize)) {
        const PageWord word = process.pages->get(address + count * kPageSize);
        if (!word.has_slot() || word.fetching() || word.value() != slot + count) break;
        const std::byte* content = area_.lookup(word.value());
        if (content == nullptr || (first != nullptr && content != first + count * kPageSize)) break;
        if (first == nullptr) first = content;
        count++;
    }
    if (count == 0) return;
    const auto filled = process->uffd().copy(address, first, count * kPageSize);
    const auto pages = static_cast<std::uint32_t>(filled.bytes / kPageSize);
    for (std::uint32_t i = 0; i < pages; i++) {
        const std::uint64_t at = address + i * kPageSize;
        process.pages->set(at, process.pages->get(at).brought_back(false));
        area_.put(slot + i);
    }
    arrived(process, pages);
    process.far_pages -= pages;
    process.next_address += filled.bytes;
    stats_.prefetched += pages;
}

void Pager::start_fetch(Process& process, std::uint64_t address, PageWord word) {
    std::uint32_t count = 1;
    while (count < process.window) {
        const PageWord next = process.pages->get(address + count * kPageSize);
        if (!next.has_slot() || next.value() != word.value() + count) break;
        count++;
    }
    Fetch& fetch = *free_fetches_.back();
    free_fetches_.pop_back();
    const PageWord started = word.fetch_started();
    process.pages->set(address, started);
    fetch.process = &process;
    fetch.address = address;
    fetch.generation = started.generation();
    fetch.active = true;
    fetch.slot_fetch = {.slot = word.value(),
                        .window = {word.value(), count},
                        .ready =
                            [](SlotFetch& done, const std::byte* content, int error) {
                                auto& self = *static_cast<Fetch*>(done.owner);
                                self.pager->fetch_ready(self, content, error);
                            },
                        .owner = &fetch};
    area_.fetch(fetch.slot_fetch);
}

void Pager::fetch_ready(Fetch& fetch, const std::byte* content, int error) {
    FARSWAP_ASSERT(fetch.active);
    Process& process = *fetch.process;
    const std::uint64_t address = fetch.address;
    fetch.active = false;
    free_fetches_.push_back(&fetch);

    PageWord word = process.pages->get(address);
    FARSWAP_ASSERT(word.fetching() && word.generation() == fetch.generation);
    word = word.fetch_ended();
    process.pages->set(address, word);
    if (error == -ECANCELED) {
        waiting_.push_back({&process, address});
        return;
    }
    if (content == nullptr) {
        if (failed_) return;
        failed_ = true;
        const std::string what = error == -EILSEQ
                                     ? "does not have the content that was written (checksum mismatch)"
                                     : fmt::format("cannot be read: {}", strerror(-error));
        fatal(Error{-error, fmt::format("page {:#x} of process {} {}: {}; the program was stopped", address,
                                        process->process(), what, area_.describe(word.value()))});
        return;
    }
    if (process.gone) return;
    const Served served =
        budget_.has_room(kPageSize) ? fill_from_slot(process, address, word, content) : Served::kNoRoom;
    if (served != Served::kDone) waiting_.push_back({&process, address});
}

void Pager::retry_waiting() {
    bool again = false;
    for (std::size_t left = waiting_.size(); left > 0 && !waiting_.empty(); left--) {
        const WaitingFault fault = waiting_.front();
        waiting_.pop_front();
        if (fault.process->gone) continue;
        Served served = serve(*fault.process, fault.address);
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

void Pager::admit_one_waiting_fault() {
    if (waiting_.empty()) return;
    const WaitingFault fault = waiting_.front();
    waiting_.pop_front();
    if (fault.process->gone) return;
    const std::uint64_t used = budget_.used();
    budget_.measured(0);  // room for this one, whatever the cap says
    const Served served = serve(*fault.process, fault.address);
    budget_.measured(used + kPageSize);
    if (served != Served::kDone) waiting_.push_back(fault);
}

void Pager::arm_retry() {
    if (retry_timer_.index == ~0u) loop_.arm(retry_timer_, io::Clock::now() + kRetryAfter);
}

}  // namespace farswap
