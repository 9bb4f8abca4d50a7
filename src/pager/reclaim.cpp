// The reclaim path: choose victims, move them to staging, copy them out of there into the swap area, zap
// staging.
#include <algorithm>
#include <array>
#include <cerrno>

#include "base/assert.h"
#include "base/log.h"
#include "pager/pager.h"

namespace farswap {
namespace {

constexpr std::uint32_t kBatchPages = 256;  // in one request to the agent
constexpr std::uint32_t kRunPages = 64;     // in one range of it
constexpr std::uint32_t kZapPages = 512;
constexpr std::uint64_t kScanPagesMax = 65536;  // looked at for one batch
constexpr std::uint64_t kUnsharePages = 16;
constexpr std::size_t kSharedMax = 512;
constexpr std::uint32_t kDoubtTenths =
    100;  // 10 s: no madvise(2) takes that long unless its process is stopped

}  // namespace

void Pager::pump() {
    if (failed_) return;
    for (std::size_t i = 0; i < processes_.size(); i++) {
        if (!processes_[i]->inherited.empty()) hand_over_inherited(*processes_[i]);
    }
    if (!waiting_.empty()) retry_waiting();
    if (!budget_.wants_reclaim() && waiting_.empty()) {
        stuck_since_ = io::Clock::time_point::max();
        return;
    }
    std::uint64_t largest = 0;
    for (const auto& process : processes_) {
        if (!process->gone && process->target->has_agent()) largest = std::max(largest, process->rss);
    }
    bool stalled = true;
    for (std::size_t i = 0; i < processes_.size(); i++) {
        Process& process = *processes_[i];
        if (process.gone || !process.target->has_agent() || process.rss < largest / 4) continue;
        if (!process.target->agent_idle() || step(process)) stalled = false;
    }
    // What is in the cache must become clean before its frames can serve again.
    if (stalled) area_.kick_writes();
    if (!stalled || area_.counters().frames_dirty > 0) {
        stuck_since_ = io::Clock::time_point::max();
    } else if (stuck_since_ == io::Clock::time_point::max()) {
        stuck_since_ = io::Clock::now();
    }
}

/// Does the next thing for a process whose agent is idle. Whether there was any.
bool Pager::step(Process& process) {
    const bool staging_is_full = process.staging.free() < kRunPages;
    if (staging_is_full) {
        copy_out(process);
        return zap_tail(process);
    }
    if (!process.shared.empty() && unshare(process)) return true;
    if (move_out(process)) return true;
    // A whole sweep found nothing: what is staged is all there is to give.
    copy_out(process);
    return zap_tail(process);
}

bool Pager::keep_thread_pages(Process& process) {
    const bool all_told =
        process.target->threads().scan(process->process(), process->agent().thread, process.kept_found);
    process.target->threads().held_mutexes(
        process->process(),
        [&](std::uint64_t page) {
            const PageState state = process.pages->get(page).state();
            std::array<target::AddressRange, 1> present;
            if (state == PageState::kKept) return true;
            if (state != PageState::kInside) return false;
            auto scan = process->scan_present(page, page + kPageSize, 1, present);
            return scan && scan->count == 1;
        },
        process.kept_found);
    std::erase_if(process.kept_found, [&](std::uint64_t page) {
        const PageWord word = process.pages->get(page);
        if (word.fault_action() == FaultAction::kFillZeros) {
            process.pages->set(page, word.kept());
            return true;
        }
        // It has left already: back with it, before its thread can end.
        serve(process, page);
        return false;
    });
    return all_told;
}

bool Pager::move_out(Process& process) {
    // A thread that has not said where its control block is could end before the next look.
    if (!keep_thread_pages(process)) {
        arm_retry();
        return false;
    }
    agent_request& request = process.asked;
    request.op = AGENT_MOVE;
    request.count = 0;
    const std::uint32_t pages = choose_victims(process, request);
    if (pages == 0) return false;
    const std::uint32_t first = process.staging.take(pages);
    std::uint64_t to = process->agent().staging + std::uint64_t{first} * kPageSize;
    for (std::uint32_t i = 0; i < request.count; i++) {
        request.range[i].dst = to;
        to += request.range[i].len;
    }
    // A refusal means that the agent is gone: its end will be reported.
    return process.target->ask_agent(request);
}

/// Fills the request with runs of pages that may go, sweeping through the address space. How many pages.
std::uint32_t Pager::choose_victims(Process& process, agent_request& request) {
    const std::uint32_t wanted = std::min(kBatchPages, process.staging.free_in_one_piece());
    const std::uint32_t now = tenths_now();
    std::uint32_t chosen = 0;
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
                    if (word.state() == PageState::kInside) process.pages->set(page, word.cooled());
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
    return chosen;
}

void Pager::on_agent_reply(target::Target& target, const agent_reply& reply) {
    Process& process = process_of(target);
    if (process.gone) return;
    if (reply.op == AGENT_MOVE) {
        moved(process, reply);
    } else if (reply.op == AGENT_ZAP && reply.status == 0) {
        process.staging.release(process.zap_count);
        const std::uint64_t bytes = std::uint64_t{process.zap_count} * kPageSize;
        budget_.zapped(bytes);
        process.rss -= std::min(process.rss, bytes);
    }
    target.drain();
}

void Pager::moved(Process& process, const agent_reply& reply) {
    for (std::uint32_t i = 0; i < reply.count; i++) {
        const agent_range& range = process.asked.range[i];
        const agent_result& result = reply.result[i];
        const auto first = static_cast<std::uint32_t>((range.dst - process->agent().staging) / kPageSize);
        for (std::uint32_t page = 0; page < result.moved / kPageSize; page++) {
            const std::uint64_t at = range.src + page * kPageSize;
            process.pages->set(at, process.pages->get(at).staged(first + page));
            process.staging.fill(first + page, at);
        }
        const std::uint64_t stopped_at = range.src + result.moved;
        switch (-result.error) {
            case 0:
                break;
            case EBUSY:
                if (process.forked && process.shared.size() < kSharedMax)
                    process.shared.push_back(stopped_at);
                if (stopped_at + kPageSize < range.src + range.len)
                    process.hand = std::min(process.hand, stopped_at + kPageSize);
                break;
            case EAGAIN:
                process.hand = std::min(process.hand, stopped_at);
                arm_retry();
                break;
            case EINVAL:
                process->range_unmovable(stopped_at);
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
}

/// Takes staged pages from the tail into the swap area, as many as there are frames for.
bool Pager::copy_out(Process& process) {
    std::uint32_t done = 0;
    const std::uint32_t end = std::min(process.staging.used_in_one_piece(), kBatchPages);
    while (done < end) {
        const std::uint32_t piece = std::min(kRunPages, end - done);
        if (!copy_out_piece(process, process.staging.tail() + done, piece)) break;
        done += piece;
    }
    return done > 0;
}

/// The same for `count` entries from `first`; false when some of them had to stay.
bool Pager::copy_out_piece(Process& process, std::uint32_t first, std::uint32_t count) {
    std::array<std::uint32_t, kRunPages> live;
    std::uint32_t lives = 0;
    for (std::uint32_t i = 0; i < count; i++) {
        const std::uint64_t at = process.staging.address(first + i);
        if (at == 0) continue;
        // Displaced by an event that overtook another: where it belongs is not known yet.
        if (process.pages->get(at).state() != PageState::kStaged || process.displaced.contains(at))
            return false;
        live[lives++] = first + i;
    }
    std::uint32_t done = 0;
    while (done < lives) {
        const FrameRun frames = area_.take_frames(lives - done);
        if (frames.count == 0) return false;
        std::array<target::Target::Piece, kRunPages> pieces;
        for (std::uint32_t i = 0; i < frames.count; i++) {
            pieces[i] = {process->agent().staging + std::uint64_t{live[done + i]} * kPageSize,
                         pool_.address(frames.first + i), kPageSize};
        }
        if (!process->read_pieces({pieces.data(), frames.count})) {
            area_.return_frames(frames);
            return false;
        }
        const std::uint32_t added = add_to_area(process, frames, &live[done]);
        done += added;
        if (added < frames.count) return false;
    }
    return true;
}

std::uint32_t Pager::add_to_area(Process& process, FrameRun frames, const std::uint32_t* entries) {
    std::uint32_t done = 0;
    while (done < frames.count) {
        auto slots = area_.add({frames.first + done, frames.count - done});
        if (!slots) {
            area_.return_frames({frames.first + done, frames.count - done});
            if (slots.error().code == ENOSPC && area_.slots_exhausted() && !std::exchange(failed_, true)) {
                fatal(Error{
                    ENOSPC,
                    fmt::format("swap is full ({} MiB): the program was stopped; give it a larger store "
                                "(?size=) or a second --swap",
                                area_.slots_capacity() * kPageSize >> 20)});
            }
            return done;
        }
        for (std::uint32_t i = 0; i < slots->count; i++) {
            const std::uint32_t entry = entries[done + i];
            const std::uint64_t at = process.staging.address(entry);
            process.pages->set(at, process.pages->get(at).written_out(slots->first + i));
            process.staging.vacate(entry);
        }
        done += slots->count;
        process.far_pages += slots->count;
        stats_.pages_evicted += slots->count;
    }
    return done;
}

/// Has the vacant entries at the tail zapped, which is what frees memory.
bool Pager::zap_tail(Process& process) {
    std::uint32_t count = 0;
    const std::uint32_t end = std::min(process.staging.used_in_one_piece(), kZapPages);
    while (count < end && process.staging.address(process.staging.tail() + count) == 0) count++;
    if (count == 0) return false;
    process.zap_count = count;
    agent_request& request = process.asked;
    request.op = AGENT_ZAP;
    request.count = 1;
    request.range[0] = {0, process->agent().staging + std::uint64_t{process.staging.tail()} * kPageSize,
                        std::uint64_t{count} * kPageSize};
    return process.target->ask_agent(request);
}

/// Makes pages that a fork has shared this process's own, so that they can be moved (kernel facts 2.5).
bool Pager::unshare(Process& process) {
    agent_request& request = process.asked;
    request.op = AGENT_UNSHARE;
    request.count = 0;
    std::sort(process.shared.begin(), process.shared.end());
    std::uint64_t pages = 0;
    while (!process.shared.empty() && request.count < AGENT_RANGES_MAX) {
        const std::uint64_t at = process.shared.back();
        process.shared.pop_back();
        // Its neighbours were shared by the same fork; what is not there is not asked for.
        std::array<target::AddressRange, 1> present;
        auto scan = process->scan_present(at, at + kUnsharePages * kPageSize, kUnsharePages, present);
        if (!scan || scan->count == 0 || present[0].start != at) continue;
        const std::uint64_t end = present[0].end;
        request.range[request.count++] = {at, 0, end - at};
        pages += (end - at) / kPageSize;
        process.hand = std::min(process.hand, at);
    }
    if (request.count == 0) return false;
    budget_.filled(pages * kPageSize);  // each becomes a copy of its own
    return process.target->ask_agent(request);
}

}  // namespace farswap
