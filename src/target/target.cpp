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

constexpr std::chrono::milliseconds kEndPeriodMax{64};

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
    note_what_is_certain_now();
    events_.on_batch_end(*this);
    return true;
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
