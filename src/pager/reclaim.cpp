// The reclaim path: choose victims, have them moved to staging, copy them from there into the swap area
// before anything else happens to their process, zap staging.
#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>

#include "base/append.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/no_allocation.h"
#include "base/step.h"
#include "pager/pager.h"
#include "target/moved_bytes.h"

namespace farswap {
namespace {

constexpr std::uint32_t kRunPages = 64;         // in one range of a request
constexpr std::uint64_t kScanPagesMax = 65536;  // looked at for one batch
constexpr std::uint64_t kUnsharePages = 16;     // in one range
constexpr std::uint64_t kUnshareMin = 16;       // in one request, even without room for the copies
constexpr std::size_t kSharedMax = 512;
// A process whose agent is so late is stopped: what was set aside for it serves others.
constexpr std::chrono::milliseconds kAgentIsStopped{100};
// Compressed pages make room when nothing else has for so long.
constexpr std::chrono::milliseconds kStuckBeforeReleasing{10};

/// Whether the reply can be that of the request.
bool answers(const agent_request& request, const agent_reply& reply) {
    if (reply.op != request.op || reply.count > request.count) return false;
    for (std::uint32_t i = 0; i < reply.count; i++) {
        const std::uint64_t moved = reply.result[i].moved;
        if (moved > request.range[i].len || moved % kPageSize != 0) return false;
    }
    return true;
}

}  // namespace

void Pager::pump() {
    if (failed_) return;
    for (std::size_t i = 0; i < processes_.size(); i++) {
        Process& process = *processes_[i];
        if (process.target->is_moved()) settle(process);
        start_guard(process);
        settle_ends(process);
        forget_what_is_not_owed(process);
        forget_what_was_overtaken(process);
        if (process.leaving) bring_back(process);
    }
    keep_up_tables();
    return_frames_of_the_stopped();
    give_up_slots_in_time();
    if (full_) trade_places();
    if (!waiting_.empty()) retry_waiting();
    if (!budget_.wants_reclaim() && waiting_.empty()) {
        stuck_since_ = io::Clock::time_point::max();
        crowded_ = false;
        return;
    }
    // The large ones first; when nothing moves there, a small one may make the room that it needs itself.
    short_of_frames_ = held_by_threads_ = false;
    const bool stalled = !step_all(largest_rss() / 4) && !step_all(0);
    // What is in the cache must become clean before its frames can serve again; and with no slot left in what
    // the store has reserved, none are lent until it has reserved more. Either is the store's time.
    if (stalled) area_.kick_writes();
    if (!stalled || area_.counters().frames_dirty > 0 || (short_of_frames_ && !full_)) {
        if (stuck_since_ != io::Clock::time_point::max()) stuck_before_ = stuck_since_;
        stuck_since_ = io::Clock::time_point::max();
    } else if (stuck_since_ == io::Clock::time_point::max()) {
        stuck_since_ = io::Clock::now();
    } else if (io::Clock::now() - stuck_since_ > kStuckBeforeReleasing) {
        area_.release_memory();
    }
    crowded_ = stalled && (budget_.used() > budget_.soft_limit() || !waiting_.empty()) && !is_held_up();
}

bool Pager::is_held_up() const {
    return area_.counters().frames_dirty > 0 || short_of_frames_ || held_by_threads_ ||
           std::ranges::any_of(processes_, [this](const auto& process) {
               return process->holds > 0 || is_stopped(*process);
           });
}

bool Pager::agents_work() const noexcept {
    return std::ranges::any_of(processes_, [](const auto& process) {
        return !process->gone && process->target->has_agent() && !process->target->agent_idle();
    });
}

/// Whether its agent owes an answer for so long that it cannot be running. An unshare may wait for a read.
bool Pager::is_stopped(const Process& process) const {
    if (process.target->agent_idle() || io::Clock::now() - process->asked_at() < kAgentIsStopped)
        return false;
    if (process.asked.op != AGENT_UNSHARE) return true;
    const char state = target::read_state(process->task());
    return state == 'T' || state == 't';
}

/// The most that a process which can be reclaimed from has in memory.
std::uint64_t Pager::largest_rss() const {
    std::uint64_t largest = 0;
    for (const auto& process : processes_) {
        if (!process->gone && process->target->has_agent() && !is_stopped(*process))
            largest = std::max(largest, process->rss);
    }
    return largest;
}

/// Does the next thing for each process of at least so many bytes; whether anything is on its way. One that
/// is stopped holds nobody up: whoever is to continue it may be waiting for memory.
bool Pager::step_all(std::uint64_t rss_min) {
    bool any = false;
    for (std::size_t i = 0; i < processes_.size(); i++) {
        Process& process = *processes_[i];
        if (process.gone || process.leaving || process.holds > 0 || !process.target->has_agent() ||
            process.rss < rss_min)
            continue;
        if (process.target->agent_idle() ? step(process) : !is_stopped(process)) any = true;
    }
    return any;
}

/// Does the next thing for a process whose agent is idle. Whether there was any.
bool Pager::step(Process& process) {
    if (!process.shared.empty() && unshare(process)) return true;
    return move_out(process);
}

/// What a page is known by to who follows it. A fork has the addresses of its parent.
std::uint64_t Pager::name_of(const Process& process, std::uint64_t address) noexcept {
    return (address / kPageSize) ^ std::uint64_t{static_cast<std::uint32_t>(process->process())} << 40;
}

/// Whether a page of a thread's list of mutexes can be read without waiting for ourselves. If it is only
/// away, and what it tells of not known before it is back, it is fetched, and `all_told` is false; so it is
/// for one that could be dropped while it is read, and is kept from now on.
bool Pager::can_read_list(Process& process, std::uint64_t page, bool of_mutex, bool& all_told) {
    if (page >= PageTable::kAddressEnd) return false;
    const PageWord word = process.pages->get(page);
    const bool is_kept = word.state() == PageState::kKept;
    if (is_kept && !of_mutex) return true;  // without a system call for each thread
    // In doubt, it is kept first, so that nothing comes between.
    const bool is_in_doubt = word.state() == PageState::kDoubtful;
    if (word.is_far() || is_in_doubt || process.is_being_moved(page)) {
        all_told = false;
        if (std::ranges::find(process.kept_found, page) == process.kept_found.end())
            append(process.kept_found, page);
        return false;
    }
    std::array<target::AddressRange, 1> present;
    const auto scan = process->scan_present(page, page + kPageSize, 1, present);
    return scan && scan->count == 1;
}

/// Looks where the kernel writes to when a thread ends, and keeps it inside. False if that is not all:
/// nothing may leave, nor be protected, before another look. Pages that a MOVE may have taken wait for its
/// reply.
bool Pager::keep_thread_pages(Process& process) {
    const bool some_wait = free_fetches_.size() < fetches_.size() || !waiting_.empty();
    bool all_told = process.target->threads().scan(process->process(), process->agent().thread, some_wait,
                                                   process.kept_found);
    const auto may_read = [&](std::uint64_t page, bool of_mutex) {
        return can_read_list(process, page, of_mutex, all_told);
    };
    // By reference: std::function allocates for what is larger than two pointers.
    all_told &=
        process.target->threads().held_mutexes(process->task(), std::cref(may_read), process.kept_found);
    std::erase_if(process.kept_found, [&](std::uint64_t page) {
        // It is the program that says where they lie, and it may say anything.
        if (page >= PageTable::kAddressEnd) return true;
        if (process.is_being_moved(page)) {
            all_told = false;
            return false;
        }
        const PageWord word = process.pages->get(page);
        if (word.fault_action() == FaultAction::kFillZeros) {
            let_go(process, page, word);
            process.pages->set(page, word.kept());
            return true;
        }
        // It has left already: back with it, before its thread can end.
        serve(process, page);
        return false;
    });
    return all_told;
}

bool Pager::move_out(Process& process, std::uint32_t pages_max) {
    if (!is_within_reach(process)) return false;
    // A thread that has not said where its control block is could end before the next look.
    if (!keep_thread_pages(process)) {
        held_by_threads_ = true;
        arm_retry();
        return false;
    }
    // What it has written itself must not be taken for what it has from its parent.
    if (!learn_what_was_wiped(process)) {
        arm_retry();
        return false;
    }
    const std::uint32_t frames = borrow_frames(process, pages_max);
    if (frames == 0) {
        short_of_frames_ = true;
        return false;
    }
    agent_request& request = process.asked;
    request.op = AGENT_MOVE;
    request.count = 0;
    std::uint64_t to = process->agent().staging;
    if (choose_victims(process, request, frames) > 0) {
        for (std::uint32_t i = 0; i < request.count; i++) {
            request.range[i].dst = to;
            to += request.range[i].len;
        }
        // A refusal means that the agent is gone: its end will be reported.
        if (process.target->ask_agent(request)) return true;
    }
    return_frames(process);
    return false;
}

/// Sets frames aside for a batch: what is moved must be copied before the next event is read. How many.
std::uint32_t Pager::borrow_frames(Process& process, std::uint32_t frames_max) {
    FARSWAP_ASSERT(process.lent.empty());
    std::uint32_t frames = 0;
    while (frames < frames_max) {
        // With some there is something to do: to be told of more, when all that is tried turns out to be
        // unmovable and they are given back, would have it tried again at once, and for ever.
        const FrameRun run = area_.take_frames(frames_max - frames, frames > 0);
        if (run.count == 0) break;
        process.lent.push_back(run);
        frames += run.count;
    }
    full_ = false;
    if (frames == 0 && area_.slots_exhausted()) swap_is_full();
    return frames;
}

void Pager::return_frames(Process& process) {
    for (const FrameRun& run : process.lent) area_.return_frames(run);
    process.lent.clear();
}

void Pager::return_frames_of_the_stopped() {
    const auto now = io::Clock::now();
    for (const auto& process : processes_) {
        if (!process->lent.empty() && now - process->target->asked_at() > kAgentIsStopped)
            return_frames(*process);
    }
}

/// Fills the request with runs of pages that may go, `wanted` at most, sweeping through the address space.
/// How many pages.
std::uint32_t Pager::choose_victims(Process& process, agent_request& request, std::uint32_t wanted) {
    const std::uint32_t now = tenths_now();
    std::uint32_t chosen = 0, passed = 0;
    std::uint64_t looked_at = 0;
    const std::uint64_t began = process.hand;
    bool wrapped = false;
    std::array<target::AddressRange, 64> present;
    while (chosen < wanted && request.count < AGENT_RANGES_MAX && looked_at < kScanPagesMax) {
        const auto& ranges = process->evictable().ranges();
        const auto range =
            std::find_if(ranges.begin(), ranges.end(), [&](const auto& r) { return r.end > process.hand; });
        if (range == ranges.end() || (wrapped && process.hand >= began)) {
            if (wrapped || ranges.empty()) break;
            wrapped = true;
            process.hand = 0;
            continue;
        }
        const std::uint64_t from = std::max(process.hand, range->start);
        // No page may be chosen twice: the second probe would find it moved out and put a zero page in its
        // place.
        const std::uint64_t to = wrapped ? std::min(range->end, began) : range->end;
        if (from >= to) break;
        auto scan = process->scan_present(from, to, wanted - chosen, present);
        if (!scan) break;
        looked_at += (scan->walk_end - from) / kPageSize + 1;
        process.hand = std::max(scan->walk_end, from + kPageSize);
        for (std::size_t i = 0; i < scan->count; i++) {
            std::uint64_t page = present[i].start;
            while (page < present[i].end && chosen < wanted && request.count < AGENT_RANGES_MAX) {
                PageWord word = process.pages->get(page);
                if (word.state() == PageState::kDoubtful && now - word.value() > kDoubtTenths) {
                    word = word.doubt_expired();
                    process.pages->set(page, word);
                }
                if (!word.evictable()) {
                    if (word.is_inside())
                        process.pages->set(page, word.passed_by(working_set_.turns_at_once()));
                    passed += word.is_inside();
                    page += kPageSize;
                    continue;
                }
                std::uint64_t end = page + kPageSize;
                const std::uint64_t run_max = std::min(kRunPages, wanted - chosen);
                while (end < present[i].end && (end - page) / kPageSize < run_max &&
                       process.pages->get(end).evictable()) {
                    end += kPageSize;
                }
                request.range[request.count++] = {page, 0, end - page};
                chosen += static_cast<std::uint32_t>((end - page) / kPageSize);
                page = end;
            }
            // The request is full: the sweep goes on where it ended.
            if (page < present[i].end) {
                process.hand = page;
                break;
            }
        }
    }
    working_set_.swept(chosen, passed);
    return chosen;
}

void Pager::on_agent_reply(target::Target& target, const agent_reply& reply) {
    Process& process = process_of(target);
    if (process.gone) return;
    if (!answers(process.asked, reply)) {
        // It lives in the program's memory, which may have overwritten it: nothing that it says can be used.
        stop_for(EPROTO,
                 "the agent in process {} answers what it was not asked; the program was stopped, as it has "
                 "overwritten farswap's part of its memory",
                 process->process());
        return;
    }
    if (reply.op == AGENT_MOVE) {
        moved(process, reply);
    } else if (reply.op == AGENT_ZAP && reply.status == 0) {
        const auto took = process.moving_took + (io::Clock::now() - target.asked_at());
        cost_.moved_out(took, process.staged);
        area_.note_fault_cost(cost_.without_read());
        const std::uint64_t bytes = std::uint64_t{std::exchange(process.staged, 0)} * kPageSize;
        budget_.zapped(bytes);
        process.rss -= std::min(process.rss, bytes);
    } else if (reply.op == AGENT_GUARD) {
        guard_installed(process, -reply.status);
    }
    target.drain();
}

void Pager::moved(Process& process, const agent_reply& reply) {
    FARSWAP_ASSERT(process.moved.empty());
    for (std::uint32_t i = 0; i < reply.count; i++)
        note_moved(process, process.asked.range[i], reply.result[i]);
    process.staged = static_cast<std::uint32_t>(process.moved.size());
    const auto before = std::exchange(stuck_before_, io::Clock::time_point::max());
    process.put_back = 0;
    const std::size_t taken = process.moved.size();
    settle(process);
    // Locked memory, and what does not compress, is tried again and again: to be refused it each time is no
    // progress.
    if (process.put_back == taken) stuck_since_ = std::min(stuck_since_, before);
}

/// Notes what was moved of one range, and what the reason for its end says about the rest.
void Pager::note_moved(Process& process, const agent_range& range, const agent_result& result) {
    const auto first = static_cast<std::uint32_t>((range.dst - process->agent().staging) / kPageSize);
    const std::uint64_t moved =
        moved_bytes(range, result, [&](std::uint64_t page) { return process->count_absent(page, 1) == 0; });
    for (std::uint32_t page = 0; page < moved / kPageSize; page++)
        process.moved.push_back({range.src + page * kPageSize, first + page});
    const std::uint64_t stopped_at = range.src + moved;
    if (moved > result.moved) {
        log::debug("process {}: a MOVE has taken {} pages more than it says", process->process(),
                   (moved - result.moved) / kPageSize);
        process.hand = std::min(process.hand, stopped_at);
        return;
    }
    switch (-result.error) {
        case 0:
            break;
        case EBUSY:
            note_busy(process, stopped_at, range.src + range.len);
            break;
        case EAGAIN:
            process.hand = std::min(process.hand, stopped_at);
            arm_retry();
            break;
        case EINVAL:
            process->range_unmovable(stopped_at);
            [[fallthrough]];  // or staging is locked
        case EEXIST:
            process.staging_unfit = true;
            break;
        case ENOENT:
            if (result.probed) process->range_unmapped(range.src, range.src + range.len);
            break;
        default:
            log::debug("moving {:#x} of process {} failed: errno {}", stopped_at, process->process(),
                       -result.error);
            break;
    }
}

/// A MOVE was refused the page at `start`: a fork has shared it, or it is pinned. The latter would be refused
/// each time that it came first in a run, and nothing behind it would ever leave.
void Pager::note_busy(Process& process, std::uint64_t start, std::uint64_t end) {
    std::uint64_t behind = start + kPageSize;
    const target::AddressRange* unshared = process.unshared.find(start);
    if (process.forked && unshared == nullptr) {
        if (process.shared.size() < kSharedMax) append(process.shared, start);
    } else {
        // Buffers are pinned as a whole; what was unshared along with it is spared the trial.
        if (unshared != nullptr) behind = std::min(unshared->end, end);
        const std::uint32_t now = tenths_now();
        process.has_doubts = true;
        for (std::uint64_t page = start; page < behind; page += kPageSize) {
            const PageWord word = process.pages->get(page);
            if (!word.is_inside()) continue;
            let_go(process, page, word);
            process.pages->set(page, word.pinned(now));
        }
    }
    if (behind < end) process.hand = std::min(process.hand, behind);
}

/// Ends a MOVE: when all that it took is in the swap area, events may be read again and staging is zapped.
/// Until then the process waits; it is tried again by pump().
void Pager::settle(Process& process) {
    if (process.gone || failed_) return;
    if (!copy_moved(process)) {
        arm_retry();
        return;
    }
    return_frames(process);
    note_packed();
    process.moving_took = io::Clock::now() - process.target->asked_at();
    process.target->move_settled();
    if (process.staged > 0 || process.staging_unfit) zap(process);
    process.target->drain();
}

/// What has come to lie compressed in the pager's memory counts before it is measured.
void Pager::note_packed() {
    const std::uint64_t packed = area_.bytes_packed();
    if (packed > packed_seen_) budget_.filled(packed - packed_seen_);
    packed_seen_ = packed;
}

/// Copies what was moved into frames and from there into the swap area; true when nothing is left. Frames are
/// missing only if they were taken back from a stopped process; memory cannot be read only while a process
/// ends or executes another program.
bool Pager::copy_moved(Process& process) {
    const During staged(Step::kStaged);
    std::uint32_t done = 0;
    const auto all = static_cast<std::uint32_t>(process.moved.size());
    while (done < all) {
        if (process.lent.empty()) {
            const FrameRun more = area_.take_frames(all - done);
            if (more.count == 0) break;
            process.lent.push_back(more);
        }
        FrameRun& run = process.lent.back();
        const std::uint32_t count = std::min({run.count, all - done, kRunPages});
        const std::uint32_t copied = copy_into(process, {run.first, count}, &process.moved[done]);
        done += copied;
        run = {run.first + copied, run.count - copied};
        if (run.count == 0) process.lent.pop_back();
        if (copied < count) break;
    }
    process.moved.erase(process.moved.begin(), process.moved.begin() + done);
    return process.moved.empty();
}

/// The same for as many pages as `frames` holds. How many it was done for.
std::uint32_t Pager::copy_into(Process& process, FrameRun frames, const MovedPage* pages) {
    std::array<target::Target::Piece, kRunPages> pieces;
    for (std::uint32_t i = 0; i < frames.count; i++) {
        pieces[i] = {process->agent().staging + std::uint64_t{pages[i].staging_index} * kPageSize,
                     pool_.address(frames.first + i), kPageSize};
    }
    if (!process->read_pieces({pieces.data(), frames.count})) {
        const MayAllocate message("a process ends, or the job does");
        if (process->has_lost_staging()) stop_as_mapped_over(*process.target);
        return 0;
    }
    std::uint32_t done = 0;
    while (done < frames.count) {
        const std::uint32_t before = done;
        const std::uint32_t changed =
            changed_pages(process, {frames.first + done, frames.count - done}, pages + done);
        if (changed > 0) done += add_pages(process, {frames.first + done, changed}, pages + done);
        if (done < before + changed) break;
        if (done == frames.count) break;
        // The one that ended them is on the store already.
        const std::uint64_t at = pages[done].address;
        const PageWord word = process.pages->get(at);
        area_.add_unchanged(word.value(), frames.first + done);
        process.pages->set(at, word.evicted(word.value(), working_set_.now()));
        process.kept_slots--;
        process.far_pages++;
        stats_.pages_clean++;
        done++;
    }
    stats_.pages_evicted += done;
    working_set_.left(done, budget_.cap() / kPageSize);
    for (std::uint32_t i = 0; misses_ != nullptr && i < done; i++) {
        const std::uint64_t at = pages[i].address;
        if (process.pages->get(at).is_far()) misses_->left(name_of(process, at));
    }
    return done;
}

/// Gives pages slots of their own, or back to the program those that would get no smaller outside. How many
/// of them.
std::uint32_t Pager::add_pages(Process& process, FrameRun frames, const MovedPage* pages) {
    std::uint32_t done = 0;
    while (done < frames.count) {
        auto slots = area_.add({frames.first + done, frames.count - done});
        if (!slots && slots.error().code == EFBIG) {
            if (put_back(process, frames.first + done, pages[done].address)) {
                done++;
                continue;
            }
            slots = area_.add({frames.first + done, 1}, true);
        }
        if (!slots) break;
        for (std::uint32_t i = 0; i < slots->count; i++) {
            const std::uint64_t at = pages[done + i].address;
            const PageWord word = process.pages->get(at);
            let_go(process, at, word);
            process.pages->set(at, word.evicted(slots->first + i, working_set_.now()));
        }
        done += slots->count;
        process.far_pages += slots->count;
    }
    return done;
}

/// Returns a page that was moved out to the program, which keeps it for a while. False: its place has
/// changed.
bool Pager::put_back(Process& process, FrameIndex frame, std::uint64_t address) {
    if (process->uffd().copy(address, pool_.address(frame), kPageSize).bytes == 0) return false;
    const PageWord word = process.pages->get(address);
    let_go(process, address, word);
    process.pages->set(address, word.pinned(tenths_now()));
    process.has_doubts = true;
    area_.return_frames({frame, 1});
    arrived(process, 1);
    process.put_back++;
    stats_.pages_evicted--;  // it will be counted
    stats_.pages_too_large++;
    return true;
}

/// Has staging emptied, which is what frees memory: all of it, since the program may have filled the rest by
/// an mlockall(2), and in one piece, since to unlock a part would split the mapping.
void Pager::zap(Process& process) {
    process.staging_unfit = false;
    // It may have ended after its MOVE, by an exec: staging goes with the address space.
    if (!process.target->agent_idle()) return;
    agent_request& request = process.asked;
    request.op = AGENT_ZAP;
    request.count = 1;
    request.range[0] = {0, process->agent().staging, kBatchPages * kPageSize};
    process.target->ask_agent(request);
}

/// Makes pages that a fork has shared this process's own, so that they can be moved (kernel facts 2.5).
bool Pager::unshare(Process& process) {
    agent_request& request = process.asked;
    request.op = AGENT_UNSHARE;
    request.count = 0;
    process.unshared.clear();
    std::sort(process.shared.begin(), process.shared.end());
    // Each becomes a copy of its own; they are few when there is no room, since they can leave only
    // afterwards.
    const std::uint64_t pages_max = std::max(budget_.room() / kPageSize / 2, kUnshareMin);
    std::uint64_t pages = 0;
    while (!process.shared.empty() && request.count < AGENT_RANGES_MAX && pages < pages_max) {
        const std::uint64_t at = process.shared.back();
        process.shared.pop_back();
        // Its neighbours were shared by the same fork; what is not there is not asked for.
        std::array<target::AddressRange, 1> present;
        auto scan = process->scan_present(at, at + kUnsharePages * kPageSize, kUnsharePages, present);
        if (!scan || scan->count == 0 || present[0].start != at) continue;
        const std::uint64_t end = present[0].end;
        request.range[request.count++] = {at, 0, end - at};
        process.unshared.add(at, end);
        pages += (end - at) / kPageSize;
        process.hand = std::min(process.hand, at);
    }
    if (request.count == 0) return false;
    budget_.filled(pages * kPageSize);
    return process.target->ask_agent(request);
}

}  // namespace farswap
