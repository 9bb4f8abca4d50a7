// What must outlive an event because another one that came first may still be on its way. Events only.
//
// A fork copies the address space under the kernel's lock and queues its FORK after it has left that, as
// every other change does (decision 0006). What another thread unmaps or moves in between is announced first,
// and the child has it all the same, with what of it is outside. So the words of an unmapped range stay, and
// those of a moved one are remembered, until nothing is on its way.
#include <algorithm>

#include "base/no_allocation.h"
#include "pager/pager.h"
#include "target/proc.h"

namespace farswap {
namespace {

// A thread that forks is not held up for so long between two instructions of the kernel; what is unmapped in
// a program that never stops to change its mappings must be freed some time.
constexpr std::chrono::seconds kForkIsRead{1};
constexpr std::size_t kRangesMax = 1024;  // each one more is put in its place among them
constexpr std::size_t kWordsMax = 1 << 20;

}  // namespace

void Pager::unmap_later(Process& process, std::uint64_t start, std::uint64_t end) {
    if (!process.has_overtaking()) process.overtaking_since = io::Clock::now();
    // Nobody is given these pages any more.
    process.pages->for_each(start, end, [&](std::uint64_t at, PageWord word) {
        if (!word.fetching()) return;
        give_up_fetch(process, at, word);
        process.pages->set(at, word.relocated());
    });
    process.unmapped.add(start, end);
}

/// A range that a mapping has moved to a moment ago is announced as unmapped, and nothing is known to have
/// stepped aside there: it may be that mapping's end, or the late one of a part of another, by which that had
/// grown without an event. Until nothing is on its way, what is known of it stays, and who needs a page there
/// waits.
void Pager::doubt_end(Process& process, std::uint64_t start, std::uint64_t end) {
    process.pages->for_each(start, end, [&](std::uint64_t at, PageWord word) {
        if (!word.fetching()) return;
        give_up_fetch(process, at, word);
        process.pages->set(at, word.relocated());
    });
    process.ends_in_doubt.add(start, end);
    process.target->keep_in(start, end);
}

/// Asks the kernel what became of such ranges: what is still registered has not ended.
void Pager::settle_ends(Process& process) {
    if (process.moved_in.empty() || process.gone || !process->uffd().is_quiet()) return;
    const MayAllocate ranges("what has moved and been unmapped at the same time");
    process.moved_in = {};
    const target::IntervalSet doubtful = std::exchange(process.ends_in_doubt, {});
    for (const target::AddressRange& range : doubtful.ranges()) {
        std::uint64_t step = range.end - range.start;
        for (std::uint64_t at = range.start; at < range.end;) {
            step = std::min(step, range.end - at);
            const std::optional<bool> registered = process->uffd().is_registered(at, step);
            if (!registered) {  // something is on its way again
                process.moved_in.add(at, range.end);
                process.ends_in_doubt.add(at, range.end);
                break;
            }
            if (!*registered && step > kPageSize) {
                step = kPageSize;
                continue;
            }
            if (!*registered) end_mapping(process, at, at + step);
            at += step;
        }
    }
}

/// What has come to the range since the mapping was there that a REMAP takes away from it. That is one
/// mapping: what has stepped aside where all of the range has, what has come where that covers it, and else
/// what was there before all that has come. It may have been larger than what is known to have stepped aside,
/// as nobody tells when a mapping grows.
target::IntervalSet Pager::arrived_since(const Process& process, std::uint64_t from, std::uint64_t bytes) {
    target::IntervalSet newer;
    const bool all_is_owed = process.owed.missing(from, from + bytes).empty();
    if (!all_is_owed && process.moved_in.missing(from, from + bytes).empty()) return newer;
    for (const target::IntervalSet* known : {&process.owed, &process.moved_in}) {
        for (const target::AddressRange& range : known->overlap(from, from + bytes))
            newer.add(range.start, range.end);
    }
    return newer;
}

/// A mapping comes there: what lay there before has ended, and that was announced.
void Pager::end_what_was_in_doubt(Process& process, std::uint64_t start, std::uint64_t end) {
    for (const target::AddressRange& range : process.ends_in_doubt.overlap(start, end))
        end_mapping(process, range.start, range.end);
    process.ends_in_doubt.remove(start, end);
}

/// A mapping moves: where it comes from, what has arrived last leaves, but for what is `newer`.
void Pager::note_arrival(Process& process, std::uint64_t from, std::uint64_t to, std::uint64_t bytes,
                         const target::IntervalSet& newer) {
    for (const target::AddressRange& range : newer.missing(from, from + bytes)) {
        process.ends_in_doubt.remove(range.start, range.end);
        process.moved_in.remove(range.start, range.end);
    }
    process.moved_in.add(to, to + bytes);
}

/// Notes a REMAP, as a FORK that is read later may have come before it. Its number. One that takes away what
/// had stepped aside for another came before that one.
std::uint64_t Pager::note_move(Process& process, std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
    if (!process.has_overtaking()) process.overtaking_since = io::Clock::now();
    const auto came_there = [&](const Process::Move& move) {
        return move.to < from + bytes && from < move.to + move.bytes;
    };
    auto place = process.moves.end();
    if (!process.owed.overlap(from, from + bytes).empty())
        place = std::ranges::find_if(process.moves, came_there);
    return process.moves.insert(place, {++moves_, from, to, bytes})->number;
}

/// That the page lay there until the move.
void Pager::remember(Process& process, std::uint64_t at, PageWord word, std::uint64_t move) {
    if (!word.is_far()) return;  // the child has it by itself
    area_.get(word.value());
    process.moved_away.push_back({at, word, move});
}

/// A mapping has moved to where another one had been, whose words have stayed.
void Pager::remember_unmapped(Process& process, std::uint64_t start, std::uint64_t end, std::uint64_t move) {
    if (process.unmapped.empty()) return;
    for (const target::AddressRange& range : process.unmapped.overlap(start, end)) {
        process.pages->for_each(range.start, range.end,
                                [&](std::uint64_t at, PageWord word) { remember(process, at, word, move); });
    }
    forget_unmapped(process, start, end);
}

/// What stepped aside for a move is gone: it was there before that.
void Pager::remember_displaced(Process& process, std::uint64_t at, PageWord word) {
    if (process.displaced_wiped.find(at) != nullptr) return;
    for (const Process::Move& move : process.moves) {
        if (at >= move.to && at < move.to + move.bytes) return remember(process, at, word, move.number);
    }
}

/// Which moves, of those that were read before its FORK, a child was forked before: it has still got what
/// moved away then. What has come there since, and the child may have, too, says nothing: another mapping
/// that has moved, or one from below that has grown, of which nobody tells.
std::vector<Process::Move> Pager::moves_after(const Process& parent, const Process& child) {
    std::vector<Process::Move> after;
    if (parent.moves.empty()) return after;
    target::IntervalSet arrived, filled;
    for (const Process::Move& move : parent.moves) arrived.add(move.to, move.to + move.bytes);
    (void)target::for_each_mapping(parent->task(), [&](const target::Mapping& mapping) {
        for (const Process::Move& move : parent.moves) {
            if (mapping.start < move.from && move.from < mapping.end && arrived.find(move.from) == nullptr)
                filled.add(move.from, mapping.end);
        }
    });
    for (auto move = parent.moves.rbegin(); move != parent.moves.rend(); ++move) {
        const auto left = filled.missing(move->from, move->from + move->bytes);
        if (!left.empty() && child->had_at_fork(left[0].start, kPageSize).value_or(false))
            after.push_back(*move);
        else
            filled.add(move->to, move->to + move->bytes);
    }
    return after;
}

/// A FORK that was queued already when the REMOVE was read: the kernel drops the pages only after that, so
/// that the child has them. One that is read later may have come later, too.
void Pager::remember_removal(Process& process, std::uint64_t at, PageWord word) {
    if (!word.is_far()) return;
    area_.get(word.value());
    process.removed.emplace_back(at, word);
}

void Pager::leave_behind(Process& parent, Process& child, std::uint64_t at, PageWord word) {
    if (!word.is_far() || parent.unmapped.find(at) != nullptr) return;
    if (!parent.has_overtaking()) parent.overtaking_since = io::Clock::now();
    area_.get(word.value());
    parent.left_behind.push_back({&child, at, word});
}

/// Pages move that a child has not got at their old place: the FORK has overtaken the REMAP.
void Pager::take_along(Process& parent, std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
    for (const auto& [child, address, word] : parent.left_behind) {
        if (address < from || address >= from + bytes) continue;
        const std::uint64_t at = to + (address - from);
        if (child->pages->get(at).has_slot() || !(*child)->had_at_fork(at, kPageSize).value_or(true))
            continue;
        inherit_word(*child, at, word);
    }
}

void Pager::inherit_word(Process& child, std::uint64_t at, PageWord word) {
    area_.get(word.value());
    child.pages->set(at, word.inherited());
    child.far_pages++;
    child.target->note_registered({at, at + kPageSize});
    if (forks_may_wipe_) doubt_that_it_is_whole(child, {at, at + kPageSize});
}

/// Of the process, and for it.
void Pager::forget_left_behind(Process& process) {
    for (const auto& [child, at, word] : process.left_behind) area_.put(word.value());
    process.left_behind.clear();
    for (const auto& parent : processes_) {
        std::erase_if(parent->left_behind, [&](const Process::LeftBehind& left) {
            if (left.child != &process) return false;
            area_.put(left.word.value());
            return true;
        });
    }
}

/// Something else has come to lie in the range, or nothing that could need its words is on its way.
void Pager::forget_unmapped(Process& process, std::uint64_t start, std::uint64_t end) {
    if (process.unmapped.empty()) return;
    const MayAllocate parts("what an UNMAP has left behind until no FORK can need it");
    for (const target::AddressRange& range : process.unmapped.overlap(start, end)) {
        process.pages->for_each(range.start, range.end, [&](std::uint64_t at, PageWord word) {
            let_go(process, at, word);
            process.pages->set(at, word.unmapped());
        });
    }
    process.unmapped.remove(start, end);
}

/// What was just registered has nothing outside. If it was quiet then, nor has what lay there before.
void Pager::on_fresh(target::Target& target, const target::AddressRange& range, bool certain) {
    Process& process = process_of(target);
    forget_unmapped(process, range.start, range.end);
    // The advice may have been given before, or what is wiped have grown by it, of which nobody tells.
    if (forks_wipe_) process.wiped_is_whole = false;
    if (!certain) return;
    forget_what_was_overtaken(process);
    process.pages->for_each(range.start, range.end, [&](std::uint64_t at, PageWord word) {
        if (!word.has_slot()) return;
        let_go(process, at, word);
        process.pages->set(at, word.unmapped());
    });
}

void Pager::forget(std::vector<std::pair<std::uint64_t, PageWord>>& words) {
    for (const auto& [at, word] : words) area_.put(word.value());
    words.clear();
}

void Pager::forget_what_was_overtaken(Process& process) {
    if (!process.has_overtaking() || process.gone) return;
    const bool is_little = process.unmapped.ranges().size() < kRangesMax &&
                           process.moves.size() < kRangesMax &&
                           process.moved_away.size() + process.left_behind.size() < kWordsMax;
    const bool is_soon = io::Clock::now() - process.overtaking_since < kForkIsRead;
    if (is_little && is_soon && !process->uffd().is_quiet()) return;
    forget_unmapped(process, 0, PageTable::kAddressEnd);
    forget_moves(process);
    for (const auto& [child, at, word] : process.left_behind) area_.put(word.value());
    process.left_behind.clear();
}

void Pager::forget_moves(Process& process) {
    for (const Process::Moved& moved : process.moved_away) area_.put(moved.word.value());
    process.moved_away.clear();
    process.moves.clear();
}

/// A mapping that has grown again since it was announced as gone has come before the FORK, rather than after
/// it.
void Pager::forget_what_is_mapped_again(Process& parent) {
    if (parent.unmapped.empty()) return;
    (void)target::for_each_mapping(parent->task(), [&](const target::Mapping& mapping) {
        forget_unmapped(parent, mapping.start, mapping.end);
    });
}

/// The child of a fork that was overtaken has pages where its parent has them no more.
void Pager::inherit_overtaken(Process& parent, Process& child, const std::vector<Process::Move>& after) {
    for (const Process::Moved& moved : parent.moved_away) {
        if (std::ranges::find(after, moved.move, &Process::Move::number) != after.end())
            inherit_remembered(child, moved.address, moved.word);
    }
    for (const auto& [at, word] : parent.displaced) {
        const auto has_come_there = [&](const Process::Move& move) {
            return at >= move.to && at < move.to + move.bytes;
        };
        const bool is_given = word.is_far() && parent.displaced_wiped.find(at) == nullptr;
        if (is_given && std::ranges::any_of(after, has_come_there)) inherit_remembered(child, at, word);
    }
    for (const auto& [at, word] : parent.removed) inherit_remembered(child, at, word);
    for (const target::AddressRange& range : parent.unmapped.ranges()) {
        child.pages->for_each(range.start, range.end, [&](std::uint64_t at, PageWord) {
            child.target->note_registered({at, at + kPageSize});
        });
    }
}

/// As in ForkedPages: one that runs already and changes its mappings gets it.
void Pager::inherit_remembered(Process& child, std::uint64_t at, PageWord word) {
    if (child.pages->get(at).has_slot() || !child->had_at_fork(at, kPageSize).value_or(true)) return;
    inherit_word(child, at, word);
}

}  // namespace farswap
