// What must outlive an event because a FORK that came first may still be on its way. Events only.
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

void Pager::remember_move(Process& process, std::uint64_t from, PageWord word) {
    if (!word.is_far()) return;  // the child has it by itself
    if (!process.has_overtaking()) process.overtaking_since = io::Clock::now();
    area_.get(word.value());
    process.moved_away.emplace_back(from, word);
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
        if (child->pages->get(at).has_slot() || !(*child)->uffd().is_registered(at, kPageSize).value_or(true))
            continue;
        inherit_word(*child, at, word);
    }
}

void Pager::inherit_word(Process& child, std::uint64_t at, PageWord word) {
    area_.get(word.value());
    child.pages->set(at, word.inherited());
    child.far_pages++;
    child.target->note_registered({at, at + kPageSize});
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
    // What is wiped may have grown by it, of which nobody tells.
    if (!process.wiped.empty()) process.wiped_is_whole = false;
    if (!certain) return;
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
                           process.moved_away.size() + process.left_behind.size() < kWordsMax;
    const bool is_soon = io::Clock::now() - process.overtaking_since < kForkIsRead;
    if (is_little && is_soon && !process->uffd().is_quiet()) return;
    forget_unmapped(process, 0, PageTable::kAddressEnd);
    forget(process.moved_away);
    for (const auto& [child, at, word] : process.left_behind) area_.put(word.value());
    process.left_behind.clear();
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
void Pager::inherit_overtaken(Process& parent, Process& child) {
    for (auto* words : {&parent.moved_away, &parent.removed}) {
        for (const auto& [at, word] : *words) {
            // As in ForkedPages: one that runs already and changes its mappings gets it.
            if (child.pages->get(at).has_slot() || !child->uffd().is_registered(at, kPageSize).value_or(true))
                continue;
            inherit_word(child, at, word);
        }
    }
    for (const target::AddressRange& range : parent.unmapped.ranges()) {
        child.pages->for_each(range.start, range.end, [&](std::uint64_t at, PageWord) {
            child.target->note_registered({at, at + kPageSize});
        });
    }
}

}  // namespace farswap
