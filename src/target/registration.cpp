// Which of a process's mappings are registered with its userfaultfd, and which of these are noted: that they
// are can be relied on only where no event is on its way (decision 0006).
#include <algorithm>
#include <array>

#include "base/no_allocation.h"
#include "target/target.h"

namespace farswap::target {
namespace {

constexpr std::uint64_t kSmallestMapping = 8 * kPageSize;  // smaller ones are not worth a fault
constexpr std::uint64_t kBssTailMax = 1 << 20;
constexpr int kQuietTries = 16;

/// Private anonymous memory that a program may have paged (kernel facts 2, "Never manage").
bool is_candidate(const Mapping& mapping, const Mapping& before) {
    if (std::string_view(mapping.permissions, 4) != "rw-p" || mapping.end > kAddressEnd) return false;
    if (mapping.inode != 0 || mapping.has_device) return false;
    if (!mapping.name.empty() && mapping.name != "[heap]" && !mapping.name.starts_with("[anon:"))
        return false;
    const std::uint64_t bytes = mapping.end - mapping.start;
    if (bytes < kSmallestMapping) return false;
    const bool follows_file = before.end == mapping.start && before.inode != 0;
    return !(follows_file && mapping.name.empty() && bytes < kBssTailMax);
}

}  // namespace

Status Target::refresh_mappings(std::uint64_t unregistered_max) {
    refresh_due_ = false;
    IntervalSet evictable, mapped;
    std::vector<AddressRange> fresh, inherited;
    std::uint64_t fresh_bytes = 0;
    Mapping before;
    auto visited = for_each_mapping(task(), [&](const Mapping& mapping) {
        const bool ours = mapping.start < agent_.base + agent_.length && agent_.base < mapping.end;
        mapped.add_apart(mapping.start, mapping.end);
        if (!ours && inherits_unseen_) {
            for (const AddressRange& range : registered_.missing(mapping.start, mapping.end))
                inherited.push_back(range);
        }
        if (!ours && is_candidate(mapping, before)) {
            for (const AddressRange& range : registered_.missing(mapping.start, mapping.end)) {
                if (refused_.find(range.start) != nullptr) continue;
                fresh.push_back(range);
                fresh_bytes += range.end - range.start;
            }
            evictable.add_apart(mapping.start, mapping.end);
        }
        before = mapping;
        before.name = {};
    });
    if (!visited) return visited;
    evictable_ = std::move(evictable);
    note_what_is_certain_now();
    inherits_unseen_ = inherits_unseen_ && std::ranges::count_if(inherited, [&](const AddressRange& range) {
                                               return !look_for_unnoted(range, mapped);
                                           }) > 0;
    if (fresh_bytes > unregistered_max) {
        for (const AddressRange& range : fresh) {
            if (!register_fresh(range)) evictable_.remove(range.start, range.end);
        }
    } else {
        for (const AddressRange& range : fresh) {
            evictable_.remove(range.start, range.end);
            (void)look_for_unnoted(range, mapped);  // since what it is a part of has grown
        }
    }
    for (const AddressRange& range : unmovable_.ranges()) evictable_.remove(range.start, range.end);
    keep_unregistered_in();
    return {};
}

/// Where the kernel tells of no fault, a page that has left comes back as zeros.
void Target::keep_unregistered_in() {
    std::vector<AddressRange> unregistered;
    for (const AddressRange& range : evictable_.ranges()) {
        for (const AddressRange& part : registered_.missing(range.start, range.end))
            unregistered.push_back(part);
    }
    for (const AddressRange& part : unregistered) evictable_.remove(part.start, part.end);
}

/// Whether it could be told.
bool Target::look_for_unnoted(const AddressRange& range, const IntervalSet& mapped) {
    const auto registered = uffd_.is_registered(range.start, range.end - range.start);
    if (registered.value_or(false)) leave_unnoted(range, mapped);
    return registered.has_value();
}

void Target::leave_unnoted(const AddressRange& range, const IntervalSet& mapped) {
    IntervalSet first_seen;
    first_seen.add(range.start, range.end);
    for (const Unnoted& before : unnoted_) {
        for (const AddressRange& known : before.ranges.overlap(range.start, range.end))
            first_seen.remove(known.start, known.end);
    }
    if (!first_seen.empty()) unnoted_.push_back({std::move(first_seen), mapped});
}

/// What was seen may have left in part since, and what is left of it may be too small to be looked at again.
void Target::leave_mapped_parts_unnoted(const AddressRange& range) {
    IntervalSet mapped;
    if (!for_each_mapping(task(),
                          [&](const Mapping& mapping) { mapped.add_apart(mapping.start, mapping.end); }))
        return;
    for (const AddressRange& part : mapped.overlap(range.start, range.end)) leave_unnoted(part, mapped);
}

/// Where nothing waits to be announced, what is registered is what is there.
void Target::note_what_is_certain_now() {
    if (unnoted_.empty() || !uffd_.is_quiet()) return;
    const MayAllocate ranges("notes of mappings, as many as the program makes");
    std::vector<AddressRange> certain;
    for (const Unnoted& unnoted : unnoted_) {
        for (const AddressRange& range : unnoted.ranges.ranges()) {
            for (const AddressRange& part : registered_.missing(range.start, range.end)) {
                if (is_registered_throughout(part) && uffd_.is_quiet()) certain.push_back(part);
            }
        }
    }
    for (const AddressRange& range : certain) {
        registered_.add(range.start, range.end);
        forget_unnoted(range.start, range.end);
        events_.on_fresh(*this, range, true);
    }
}

void Target::forget_unnoted(std::uint64_t start, std::uint64_t end) {
    std::erase_if(unnoted_, [&](Unnoted& unnoted) {
        unnoted.ranges.remove(start, end);
        return unnoted.ranges.empty();
    });
}

IntervalSet Target::unnoted_before(std::uint64_t from, std::uint64_t to, std::uint64_t bytes) const {
    IntervalSet before;
    for (const Unnoted& unnoted : unnoted_) {
        if (!unnoted.mapped.missing(from, from + bytes).empty()) continue;
        for (const AddressRange& range : unnoted.ranges.overlap(to, to + bytes))
            before.add(range.start, range.end);
    }
    return before;
}

/// Reads what is announced until nothing is, or the program does not stop. Not during a MOVE.
bool Target::be_quiet() {
    for (int tries = 0; tries < kQuietTries; tries++) {
        if (uffd_.is_quiet()) return true;
        if (moving_ || gone_) return false;
        drain();
    }
    return false;
}

/// Registers a mapping that seems to be new; false if it is not to be used yet.
///
/// What was seen of it may be ahead of the events, so that registered_ cannot take it over as it is: a
/// mapping that has just moved here, and is registered already, would seem to be an old one when its REMAP is
/// read. And one that is registered and not noted would not seem to be there when the next one moves to its
/// place and that one's REMAP is read first. So nothing may be announced when it begins, nor when it is done.
bool Target::register_fresh(const AddressRange& seen) {
    const bool quiet = be_quiet();
    if (!quiet && moving_) {
        refresh_due_ = true;
        return false;
    }
    bool all = true;
    // Not what has been announced meanwhile.
    for (AddressRange range : registered_.missing(seen.start, seen.end)) {
        const std::uint64_t seen_end = range.end;
        const bool is_there = bring_up_to_date(range);
        refresh_due_ = refresh_due_ || !is_there || range.end < seen_end;
        all = all && is_there && range.end >= seen_end;
        if (!is_there || !register_mapping(range)) {
            all = false;
            continue;
        }
        protect_zero_pages(range);
        // Else it is looked at again, and nothing moves out of it before.
        const bool is_whole = is_registered_throughout(range);
        const bool certain = uffd_.is_quiet();
        if (is_whole && certain) {
            registered_.add(range.start, range.end);
            forget_unnoted(range.start, range.end);
        } else {
            leave_mapped_parts_unnoted(range);
            if (certain) note_what_is_certain_now();
            refresh_due_ = true;
        }
        all = all && is_whole && certain;
        events_.on_fresh(*this, range, certain);
    }
    return all;
}

/// Makes of a range that was seen to be new what is new at its start now; false if nothing is. A part of a
/// mapping must not be registered: the kernel would cut it in two.
bool Target::bring_up_to_date(AddressRange& range) const {
    auto now = candidate_at(range.start);
    if (!now) return now.error().code == ENOTTY;  // before Linux 6.11: as it was seen
    for (const AddressRange& fresh : registered_.missing(now->start, now->end)) {
        if (range.start < fresh.start || range.start >= fresh.end) continue;
        range = fresh;
        return true;
    }
    return false;
}

/// Whether all of the range is mapped, and registered with us. UFFDIO_REGISTER says so of a range with a hole
/// in it, too, where something was mapped, unregistered, until a moment ago and has left without an event. If
/// that were noted, the next mapping that moves there would seem to meet an old one.
bool Target::is_registered_throughout(const AddressRange& range) const {
    for (std::uint64_t at = range.start; at < range.end;) {
        std::array<char, 32> name;
        const auto mapping = mapping_at(maps_.get(), at, name);
        if (!mapping && mapping.error().code != ENOTTY) return false;
        const std::uint64_t end = mapping ? std::min(mapping->end, range.end) : range.end;
        if (!uffd_.is_registered(at, end - at).value_or(false)) return false;
        at = end;
    }
    return true;
}

/// Registers a range, and what of its mapping lies beyond it, which `range` is made to include: what the
/// range was seen in may have grown where it is, or been replaced by something larger. Registered in part, it
/// is two mappings to the kernel, and mremap(2) of both at once fails (EFAULT), in a program that knows but
/// one.
bool Target::register_mapping(AddressRange& range) {
    const int code = uffd_.register_range(range.start, range.end - range.start);
    if (code == EBUSY || code == EINVAL) refused_.add(range.start, range.end);
    if (code != 0) return false;
    for (const std::uint64_t beyond : {range.end, range.start - kPageSize}) {
        const auto rest = cut_off(range, beyond);
        if (!rest || uffd_.register_range(rest->start, rest->end - rest->start) != 0) continue;
        range = {std::min(range.start, rest->start), std::max(range.end, rest->end)};
    }
    return true;
}

/// The mapping at an address, if it and what it was cut off from are to be paged: else ENOENT, or ENOTTY if
/// the kernel cannot tell.
Result<AddressRange> Target::candidate_at(std::uint64_t address, const AddressRange* cut_from) const {
    std::array<char, 32> name, name_before;
    auto mapping = mapping_at(maps_.get(), address, name);
    if (!mapping) return std::unexpected(mapping.error());
    const AddressRange found{mapping->start, mapping->end};
    const bool ours = found.start < agent_.base + agent_.length && agent_.base < found.end;
    if (cut_from != nullptr) {
        mapping->start = std::min(found.start, cut_from->start);
        mapping->end = std::max(found.end, cut_from->end);
    }
    const auto before = mapping_at(maps_.get(), mapping->start - kPageSize, name_before);
    if (ours || !is_candidate(*mapping, before ? *before : Mapping{}))
        return fail(ENOENT, "the mapping at {:#x} is not paged", address);
    return found;
}

/// The mapping at `beyond`, next to a range that has just been registered, if both may have been one before.
std::optional<AddressRange> Target::cut_off(const AddressRange& range, std::uint64_t beyond) const {
    const auto rest = candidate_at(beyond, &range);
    if (!rest || (rest->start != range.end && rest->end != range.start)) return std::nullopt;
    // In part: it was there before, and is looked at as what it is by the next refresh_mappings().
    const auto missing = registered_.missing(rest->start, rest->end);
    if (missing.size() != 1 || missing[0].start != rest->start || missing[0].end != rest->end)
        return std::nullopt;
    return *rest;
}

/// Where memory was read before it was ever written, the kernel's zero page is mapped, and a write gets
/// memory of its own without an event, unless the page is protected. A change of the address space in between
/// is not quiet, so that the whole range will be looked at again.
void Target::protect_zero_pages(const AddressRange& range) const {
    std::array<AddressRange, 64> zeros;
    for (std::uint64_t at = range.start; at < range.end;) {
        auto scan = scan_pages(pagemap_.get(), PageKind::kZeroPage, at, range.end,
                               (range.end - at) / kPageSize, zeros);
        if (!scan) return;
        for (std::size_t i = 0; i < scan->count; i++)
            (void)uffd_.protect(zeros[i].start, zeros[i].end - zeros[i].start);
        if (scan->walk_end <= at) return;
        at = scan->walk_end;
    }
}

void Target::range_unmapped(std::uint64_t start, std::uint64_t end) {
    registered_.remove(start, end);
    forget_unnoted(start, end);
    evictable_.remove(start, end);
    refused_.remove(start, end);
}

void Target::range_moved(std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
    registered_.add(to, to + bytes);
    forget_unnoted(to, to + bytes);
    // Whether it was noted there or not (register_fresh()): the end of what lay there is still to come.
    registered_.add(from, from + bytes);
    evictable_.add_apart(to, to + bytes);
    evictable_.remove(from, from + bytes);
}

void Target::note_filled(std::uint64_t start, std::uint64_t end) {
    const AddressRange* known = registered_.find(start);
    if (has_undelivered() || (known != nullptr && known->end >= end)) return;
    const MayAllocate ranges("notes of mappings, as many as the program makes");
    registered_.add(start, end);
    forget_unnoted(start, end);
}

void Target::range_unmovable(std::uint64_t address) {
    if (const AddressRange* range = evictable_.find(address)) {
        const AddressRange whole = *range;
        unmovable_.add(whole.start, whole.end);
        evictable_.remove(whole.start, whole.end);
    }
}

}  // namespace farswap::target
