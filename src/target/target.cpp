#include "target/target.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "base/log.h"
#include "base/no_allocation.h"
#include "farswap/request.h"

namespace farswap::target {
namespace {

constexpr std::uint64_t kSmallestMapping = 8 * kPageSize;  // smaller ones are not worth a fault
constexpr std::uint64_t kBssTailMax = 1 << 20;
constexpr int kQuietTries = 16;
constexpr std::chrono::milliseconds kEndPeriodMax{64};

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

/// Whether it has ended, or is about to. False where that cannot be told.
bool has_no_memory(pid_t process) {
    const Fd statm(open(fmt::format("/proc/{}/statm", process).c_str(), O_RDONLY | O_CLOEXEC));
    const auto size = read_memory_size(statm.get());
    return size && size->mapped == 0;
}

}  // namespace

Result<std::unique_ptr<Target>> Target::create(Agent agent, io::Loop& loop, TargetEvents& events) {
    std::unique_ptr<Target> target(new Target(loop, events));
    target->process_ = agent.process;
    target->uffd_ = Uffd(std::move(agent.uffd));
    if (auto opened = target->open_proc(); !opened) return std::unexpected(opened.error());
    target->give_agent(std::move(agent));
    target->watch_uffd();
    return target;
}

std::unique_ptr<Target> Target::create_child(Fd uffd, io::Loop& loop, TargetEvents& events) {
    std::unique_ptr<Target> target(new Target(loop, events));
    target->uffd_ = Uffd(std::move(uffd));
    target->inherits_unseen_ = true;
    target->watch_uffd();
    return target;
}

Target::~Target() {
    loop_.cancel(end_timer_);
    for (io::Watch* watch : {&uffd_watch_, &socket_watch_, &pidfd_watch_}) {
        if (watch->added) loop_.remove(*watch);
    }
    set_moving(false);
    for (const uffd_msg& message : heard_) {
        if (message.event == UFFD_EVENT_FORK) Fd(static_cast<int>(message.arg.fork.ufd)).reset();
    }
}

Status Target::open_proc() {
    pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, process_, 0)));
    pagemap_.reset(open(fmt::format("/proc/{}/pagemap", process_).c_str(), O_RDONLY | O_CLOEXEC));
    status_.reset(open(fmt::format("/proc/{}/status", process_).c_str(), O_RDONLY | O_CLOEXEC));
    maps_.reset(open(fmt::format("/proc/{}/maps", process_).c_str(), O_RDONLY | O_CLOEXEC));
    memory_.reset(open(fmt::format("/proc/{}/mem", process_).c_str(), O_RDONLY | O_CLOEXEC));
    if (!pidfd_ || !pagemap_ || !status_ || !maps_) {
        const int error = errno;
        // Its files in /proc are root's from the moment on in which it gives up its memory (task_dump_owner
        // in fs/proc/base.c), a little before it is a zombie.
        return fail_errno(error == EACCES && has_no_memory(process_) ? ESRCH : error,
                          "cannot watch process {}", process_);
    }
    end_timer_.owner = this;
    end_timer_.fire = [](io::Timer& timer) { static_cast<Target*>(timer.owner)->look_whether_gone(); };
    pidfd_watch_ = {.fd = pidfd_.get(),
                    .ready =
                        [](io::Watch& watch, std::uint32_t) {
                            auto& self = *static_cast<Target*>(watch.owner);
                            self.loop_.remove(watch);
                            self.look_whether_gone();
                        },
                    .owner = this};
    loop_.add(pidfd_watch_);
    return {};
}

Status Target::identify(pid_t process) {
    FARSWAP_ASSERT(process_ == 0);
    process_ = process;
    auto opened = open_proc();
    if (!opened) process_ = 0;  // to be asked again
    return opened;
}

void Target::give_agent(Agent agent) {
    FARSWAP_ASSERT(!has_agent() && !moving_);
    waiting_ = lost_agent_ = sent_away_ =
        false;  // the one before it may have ended with a request outstanding
    agent_ = std::move(agent);
    socket_ = std::move(agent_.socket);
    watch_agent();
}

void Target::watch_uffd() {
    uffd_watch_ = {
        .fd = uffd_.fd(),
        .ready = [](io::Watch& watch, std::uint32_t) { static_cast<Target*>(watch.owner)->drain(); },
        .owner = this};
    loop_.add(uffd_watch_);
}

void Target::watch_agent() {
    socket_watch_ = {
        .fd = socket_.get(),
        .ready = [](io::Watch& watch, std::uint32_t) { static_cast<Target*>(watch.owner)->agent_ready(); },
        .owner = this};
    loop_.add(socket_watch_);
}

bool Target::ask_agent(agent_request& request) noexcept {
    FARSWAP_ASSERT(agent_idle());
    FARSWAP_ASSERT(request.count <= AGENT_RANGES_MAX);
    request.sequence = ++sequence_;
    const std::size_t bytes = offsetof(agent_request, range) + request.count * sizeof(agent_range);
    if (send(socket_.get(), &request, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) != static_cast<ssize_t>(bytes))
        return false;
    waiting_ = true;
    set_moving(request.op == AGENT_MOVE);
    asked_at_ = io::Clock::now();
    return true;
}

void Target::send_agent_away(std::uint32_t status) noexcept {
    FARSWAP_ASSERT(agent_idle());
    agent_request request{};
    request.op = AGENT_EXIT;
    request.count = status;
    (void)send(socket_.get(), &request, offsetof(agent_request, range), MSG_NOSIGNAL | MSG_DONTWAIT);
    sent_away_ = true;
}

void Target::end_agent() noexcept {
    send_agent_away(0);
    loop_.remove(socket_watch_);
    socket_.reset();
}

void Target::agent_ready() {
    agent_reply reply{};
    const ssize_t got = recv(socket_.get(), &reply, sizeof reply, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        agent_lost();
        return;
    }
    if (!waiting_ || reply.sequence != sequence_) return;
    waiting_ = false;
    events_.on_agent_reply(*this, reply);
}

/// The agent is a thread of the program: it ends with the program or by an exec. The address space follows in
/// a moment, unless another process shares it.
void Target::agent_lost() {
    loop_.remove(socket_watch_);
    socket_.reset();
    lost_agent_ = true;
    look_whether_gone();
}

void Target::look_whether_gone() {
    if (gone_) return;
    if (!uffd_.is_gone()) {
        loop_.arm(end_timer_, io::Clock::now() + end_period_);
        end_period_ = std::min(2 * end_period_, kEndPeriodMax);
        return;
    }
    const MayAllocate end("a process has ended");
    gone_ = true;
    waiting_ = false;
    set_moving(false);
    const char state = read_state(process_);
    events_.on_gone(*this, state != 0 && state != 'Z' && state != 'X');
}

void Target::set_moving(bool moves) noexcept {
    if (moves && !moving_) moves_.fetch_add(1, std::memory_order_relaxed);
    if (!moves && moving_) moves_.fetch_sub(1, std::memory_order_relaxed);
    moving_ = moves;
}

void Target::move_settled() noexcept {
    FARSWAP_ASSERT(is_moved());
    set_moving(false);
    if (!uffd_watch_.added && !gone_) loop_.add(uffd_watch_);
}

void Target::drain() noexcept {
    if (gone_) return;
    if (moving_) {
        // Not to be asked again before move_settled().
        if (uffd_watch_.added) loop_.remove(uffd_watch_);
        return;
    }
    deliver_heard();
    std::array<uffd_msg, kMessagesPerRead> messages;
    for (;;) {
        const ssize_t got = read(uffd_.fd(), messages.data(), sizeof messages);
        if (got <= 0) {
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
            const int error = got < 0 ? errno : 0;
            if (uffd_watch_.added) loop_.remove(uffd_watch_);
            if (error == EMFILE || error == ENFILE) events_.on_deaf(*this, error);
            return;
        }
        const auto count = static_cast<std::size_t>(got) / sizeof(uffd_msg);
        deliver({messages.data(), count});
        if (gone_ || moving_ || count < kMessagesPerRead) return;
    }
}

bool Target::deliver(std::span<const uffd_msg> messages) {
    auto forks = std::ranges::count(messages, UFFD_EVENT_FORK, &uffd_msg::event);
    const auto is_of_mappings = [](const uffd_msg& message) {
        return message.event == UFFD_EVENT_REMAP || message.event == UFFD_EVENT_UNMAP;
    };
    changes_ahead_ = std::ranges::count_if(messages, is_of_mappings);
    for (const uffd_msg& message : messages) {
        changes_ahead_ -= is_of_mappings(message) ? 1 : 0;
        if (message.event == UFFD_EVENT_PAGEFAULT) continue;
        const MayAllocate event("a change of the mappings takes as much to note as the program makes of it");
        switch (message.event) {
            case UFFD_EVENT_FORK:
                forks--;
                events_.on_fork(*this, Fd(static_cast<int>(message.arg.fork.ufd)));
                break;
            case UFFD_EVENT_REMAP:
                events_.on_remap(*this, message.arg.remap.from, message.arg.remap.to, message.arg.remap.len);
                break;
            case UFFD_EVENT_REMOVE:
                events_.on_remove(*this, message.arg.remove.start, message.arg.remove.end, forks > 0);
                break;
            case UFFD_EVENT_UNMAP:
                events_.on_unmap(*this, message.arg.remove.start, message.arg.remove.end);
                break;
            default:
                break;
        }
    }
    for (const uffd_msg& message : messages) {
        if (message.event != UFFD_EVENT_PAGEFAULT) continue;
        const std::uint64_t page = message.arg.pagefault.address & ~std::uint64_t{kPageSize - 1};
        if ((message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0)
            events_.on_write_fault(*this, page);
        else
            events_.on_fault(*this, page);
    }
    events_.on_batch_end(*this);
    return true;
}

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

void Target::range_unmovable(std::uint64_t address) {
    if (const AddressRange* range = evictable_.find(address)) {
        const AddressRange whole = *range;
        unmovable_.add(whole.start, whole.end);
        evictable_.remove(whole.start, whole.end);
    }
}

std::size_t Target::read_memory(std::uint64_t address, void* into, std::size_t bytes) const noexcept {
    iovec local{into, bytes};
    iovec remote{reinterpret_cast<void*>(address), bytes};
    const ssize_t got = process_vm_readv(task(), &local, 1, &remote, 1, 0);
    return got > 0 ? static_cast<std::size_t>(got) : 0;
}

bool Target::read_pieces(std::span<const Piece> pieces) const noexcept {
    std::array<iovec, 64> local, remote;
    FARSWAP_ASSERT(pieces.size() <= local.size());
    std::size_t wanted = 0;
    for (std::size_t i = 0; i < pieces.size(); i++) {
        local[i] = {pieces[i].into, pieces[i].bytes};
        remote[i] = {reinterpret_cast<void*>(pieces[i].address), pieces[i].bytes};
        wanted += pieces[i].bytes;
    }
    const ssize_t got =
        process_vm_readv(task(), local.data(), pieces.size(), remote.data(), pieces.size(), 0);
    if (got >= 0 || errno != EPERM) return got == static_cast<ssize_t>(wanted);
    return std::ranges::all_of(pieces, [this](const Piece& piece) {
        return pread(memory_.get(), piece.into, piece.bytes, static_cast<off_t>(piece.address)) ==
               static_cast<ssize_t>(piece.bytes);
    });
}

bool Target::is_readable() const noexcept {
    char byte;
    iovec local{&byte, 1};
    // The gap before the agent's code, which nobody can read: not a page that could wait for ourselves.
    iovec remote{reinterpret_cast<void*>(agent_.base), 1};
    return process_vm_readv(task(), &local, 1, &remote, 1, 0) >= 0 || errno != EPERM;
}

bool Target::has_lost_staging() const {
    std::array<char, 32> name;
    const std::uint64_t end = agent_.staging + std::uint64_t{agent_.staging_pages} * kPageSize;
    for (std::uint64_t at = agent_.staging; at < end;) {
        const auto mapping = mapping_at(maps_.get(), at, name);
        if (!mapping) return mapping.error().code == ENOENT && !uffd_.is_gone();
        if (std::string_view(mapping->permissions, 4) != "rw-p" || mapping->inode != 0) return true;
        at = mapping->end;
    }
    return false;
}

}  // namespace farswap::target
