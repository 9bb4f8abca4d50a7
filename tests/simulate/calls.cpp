// The system calls that src/target and src/pager make, with the simulation behind them: the linker leads each
// call of the product here (ld(1), --wrap). What is not the simulation's goes to the real kernel. At each
// call other threads may run first, as they may on a machine with more than one processor.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstring>

#include "base/assert.h"
#include "base/no_allocation.h"
#include "target/uapi.h"
#include "world.h"

using farswap::kPageSize;
using namespace farswap::simulate;

namespace {

/// Of whatever the kernel does in a call the pager allocates nothing.
struct Simulated : farswap::MayAllocate {
    Simulated() noexcept : MayAllocate("the kernel's own") {}
};

int answer(int error) {
    if (error == 0) return 0;
    errno = error;
    return -1;
}

int copy(Context& uffd, uffdio_copy& request) {
    std::int64_t done = 0;
    // Whom a signal kills meanwhile gets no further than the next page (mfill_atomic() in mm/userfaultfd.c).
    const bool dies = world->death.is_due();
    const std::uint64_t pages = request.len / kPageSize;
    const bool in_part = dies && pages > 1;
    const std::uint64_t bytes =
        in_part ? (1 + world->death.random.below(pages - 1)) * kPageSize : std::uint64_t{request.len};
    int error = uffd.copy(request.dst, reinterpret_cast<const std::byte*>(request.src), bytes, done);
    if (in_part && error == 0) error = EAGAIN;
    if (dies) world->death.die();
    request.copy = done > 0 ? done : -error;
    if (is_tracing() && request.len > 0)
        trace(fmt::format("COPY {:#x}+{}: {}, {} done", request.dst, request.len / kPageSize, error,
                          done / static_cast<std::int64_t>(kPageSize)));
    return answer(error);
}

int uffd_call(Context& uffd, unsigned long request, void* argument) {
    switch (request) {
        case UFFDIO_COPY:
            return copy(uffd, *static_cast<uffdio_copy*>(argument));
        case UFFDIO_ZEROPAGE: {
            const auto& zero = *static_cast<uffdio_zeropage*>(argument);
            return answer(uffd.zero_page(zero.range.start, zero.range.len));
        }
        case UFFDIO_CONTINUE: {
            const auto& more = *static_cast<uffdio_continue*>(argument);
            return answer(uffd.continue_at(more.range.start, more.range.len));
        }
        case UFFDIO_WRITEPROTECT: {
            const auto& wp = *static_cast<uffdio_writeprotect*>(argument);
            return answer(
                uffd.protect(wp.range.start, wp.range.len, (wp.mode & UFFDIO_WRITEPROTECT_MODE_WP) != 0));
        }
        case UFFDIO_REGISTER: {
            const auto& wanted = *static_cast<uffdio_register*>(argument);
            return answer(uffd.register_range(wanted.range.start, wanted.range.len));
        }
        case UFFDIO_WAKE: {
            const auto& range = *static_cast<uffdio_range*>(argument);
            uffd.wake(range.start, range.len);
            return 0;
        }
        default:
            fail_run(fmt::format("an ioctl of userfaultfd that is not simulated: {:#x}", request));
    }
}

/// PAGEMAP_SCAN for what target/pagemap.cpp asks: present pages, or the zero page.
int scan(Memory& memory, pm_scan_arg& request) {
    auto* regions = reinterpret_cast<page_region*>(request.vec);
    const bool zeros = (request.category_inverted & PAGE_IS_PFNZERO) == 0;
    std::uint64_t count = 0, pages = 0;
    request.walk_end = request.end;
    if (memory.gone) return 0;
    for (auto entry = memory.entries.lower_bound(request.start);
         entry != memory.entries.end() && entry->first < request.end; ++entry) {
        if ((entry->second.page == nullptr) != zeros) continue;
        const bool joins = count > 0 && regions[count - 1].end == entry->first;
        if (pages == request.max_pages || (!joins && count == request.vec_len)) {
            request.walk_end = entry->first;
            break;
        }
        if (!joins) regions[count++] = {.start = entry->first, .end = entry->first, .categories = 0};
        regions[count - 1].end = entry->first + kPageSize;
        if (++pages == request.max_pages) {
            request.walk_end = entry->first + kPageSize;
            break;
        }
    }
    return static_cast<int>(count);
}

/// /proc/PID/pagemap: bit 63 present, bit 56 exclusively mapped.
ssize_t read_pagemap(const Memory& memory, void* into, std::size_t bytes, off_t offset) {
    if (memory.gone) return 0;
    auto* words = static_cast<std::uint64_t*>(into);
    const std::size_t count = bytes / sizeof(std::uint64_t);
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t at = (static_cast<std::uint64_t>(offset) / sizeof(std::uint64_t) + i) * kPageSize;
        const auto entry = memory.entries.find(at);
        words[i] = 0;
        if (entry == memory.entries.end()) continue;
        const Page* page = entry->second.page;
        words[i] = std::uint64_t{1} << 63 | (page != nullptr && page->maps == 1 ? std::uint64_t{1} << 56 : 0);
    }
    return static_cast<ssize_t>(count * sizeof(std::uint64_t));
}

uffd_msg message_of(const FaultWait& wait) {
    uffd_msg message{};
    message.event = UFFD_EVENT_PAGEFAULT;
    message.arg.pagefault.address = wait.address + world->random.below(kPageSize);
    if (wait.wp) message.arg.pagefault.flags = UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_WRITE;
    return message;
}

uffd_msg take_event(Context& uffd) {
    Event& event = *uffd.events.front();
    uffd.events.pop_front();
    uffd_msg message{};
    message.event = event.type;
    if (event.type == UFFD_EVENT_FORK) {
        File child{.kind = File::Kind::kUffd, .uffd = event.child};
        message.arg.fork.ufd = static_cast<std::uint32_t>(world->files.add(std::move(child)));
    } else if (event.type == UFFD_EVENT_REMAP) {
        message.arg.remap = {.from = event.from, .to = event.to, .len = event.bytes};
    } else {
        message.arg.remove = {.start = event.from, .end = event.to};
    }
    if (is_tracing())
        trace(fmt::format("event {:#x} [{:#x}, {:#x}) +{} read", event.type, event.from, event.to,
                          event.bytes / kPageSize));
    event.read = true;
    event.waiter->unblock();
    return message;
}

/// Faults first, as userfaultfd_ctx_read() has it.
ssize_t read_uffd(Context& uffd, void* into, std::size_t bytes) {
    auto* messages = static_cast<uffd_msg*>(into);
    std::size_t count = 0;
    while (count < bytes / sizeof(uffd_msg)) {
        if (!uffd.pending.empty()) {
            FaultWait* wait = uffd.pending.front();
            uffd.pending.erase(uffd.pending.begin());
            uffd.waiting.push_back(wait);
            messages[count++] = message_of(*wait);
            if (is_tracing())
                trace(fmt::format("fault {:#x}{} read", wait->address, wait->wp ? " (write)" : ""));
        } else if (!uffd.events.empty()) {
            messages[count++] = take_event(uffd);
        } else {
            break;
        }
        // Reading is the acknowledgement: whoever waited for it runs already.
        if (world->random.once_in(4)) world->step();
    }
    if (count == 0) return answer(EAGAIN);
    return static_cast<ssize_t>(count * sizeof(uffd_msg));
}

/// One piece of process_vm_readv(2): false if it cannot be read.
bool read_piece(Process& process, std::uint64_t from, std::byte* into, std::size_t bytes) {
    Memory& memory = *process.memory;
    for (const auto& thread : process.threads) {
        if (bytes != sizeof(std::uint64_t) || !thread->has_robust_list) continue;
        // A robust list: it leads to the mutex that the thread holds, and from there back.
        const std::uint64_t head = thread->control_page + 0x300, entry = thread->held_mutex + 0x28;
        if (from != head && (thread->held_mutex == 0 || from != entry)) continue;
        if (!memory.entries.contains(from / kPageSize * kPageSize) && memory.find(from) != nullptr &&
            memory.find(from)->uffd != nullptr)
            break;  // below
        const std::uint64_t next = from == head && thread->held_mutex != 0 ? entry : head;
        std::memcpy(into, &next, sizeof next);
        return true;
    }
    while (bytes > 0) {
        const std::uint64_t at = from / kPageSize * kPageSize;
        const std::size_t part = std::min<std::size_t>(bytes, at + kPageSize - from);
        const Vma* vma = memory.find(at);
        if (vma == nullptr) return false;
        const auto entry = memory.entries.find(at);
        if (entry == memory.entries.end() && vma->uffd != nullptr)
            fail_run(fmt::format(
                "the pager reads the page at {:#x} of process {}, which is outside: it waits for itself", at,
                process.id));
        if (entry == memory.entries.end() || entry->second.page == nullptr)
            std::memset(into, 0, part);
        else
            std::memcpy(into, entry->second.page->bytes.data() + (from - at), part);
        into += part;
        from += part;
        bytes -= part;
    }
    return true;
}

ssize_t read_pieces(Process& process, const iovec* local, const iovec* remote, unsigned long count) {
    ssize_t done = 0;
    for (unsigned long i = 0; i < count; ++i) {
        if (!read_piece(process, reinterpret_cast<std::uint64_t>(remote[i].iov_base),
                        static_cast<std::byte*>(local[i].iov_base), local[i].iov_len))
            return done > 0 ? done : answer(EFAULT);
        done += static_cast<ssize_t>(local[i].iov_len);
    }
    return done;
}

long get_robust_list(pid_t number, robust_list_head** head, std::size_t* length) {
    Process* process = world->find_by_thread(number);
    if (process == nullptr) return answer(ESRCH);
    for (const auto& thread : process->threads) {
        if (thread->id != number) continue;
        *head =
            reinterpret_cast<robust_list_head*>(thread->has_robust_list ? thread->control_page + 0x300 : 0);
        *length = sizeof(robust_list_head);
        return 0;
    }
    return answer(ESRCH);
}

}  // namespace

extern "C" {

int __real_ioctl(int descriptor, unsigned long request, ...);
int __wrap_ioctl(int descriptor, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void* argument = va_arg(arguments, void*);
    va_end(arguments);
    if (!Files::are_ours(descriptor)) {
        if (descriptor == -1) return answer(EBADF);
        return __real_ioctl(descriptor, request, argument);
    }
    const Simulated kernel;
    world->interrupt();
    File* file = world->files.find(descriptor);
    if (file == nullptr) return answer(EBADF);
    if (file->kind == File::Kind::kUffd) return uffd_call(*file->uffd, request, argument);
    if (request == PROCMAP_QUERY) return answer(ENOTTY);  // as before Linux 6.11; nothing here grows in place
    FARSWAP_ASSERT(file->kind == File::Kind::kPagemap && request == PAGEMAP_SCAN);
    if (!file->memory) return answer(ESRCH);
    return scan(*file->memory, *static_cast<pm_scan_arg*>(argument));
}

ssize_t __real_read(int descriptor, void* into, std::size_t bytes);
ssize_t __wrap_read(int descriptor, void* into, std::size_t bytes) {
    if (!Files::are_ours(descriptor)) return __real_read(descriptor, into, bytes);
    const Simulated kernel;
    world->interrupt();
    File* file = world->files.find(descriptor);
    if (file == nullptr) return answer(EBADF);
    if (file->kind == File::Kind::kUffd) return read_uffd(*file->uffd, into, bytes);
    FARSWAP_ASSERT(file->kind == File::Kind::kText);
    const std::size_t part = std::min(bytes, file->text.size() - file->offset);
    std::memcpy(into, file->text.data() + file->offset, part);
    file->offset += part;
    return static_cast<ssize_t>(part);
}

ssize_t __real_pread64(int descriptor, void* into, std::size_t bytes, off_t offset);
ssize_t __wrap_pread64(int descriptor, void* into, std::size_t bytes, off_t offset) {
    if (!Files::are_ours(descriptor)) return __real_pread64(descriptor, into, bytes, offset);
    const Simulated kernel;
    world->interrupt();
    File* file = world->files.find(descriptor);
    if (file == nullptr) return answer(EBADF);
    if (file->kind == File::Kind::kPagemap)
        return file->memory ? read_pagemap(*file->memory, into, bytes, offset) : 0;
    FARSWAP_ASSERT(file->kind == File::Kind::kText);
    const std::string text = proc_text(file->process, file->name);
    const auto from = std::min(static_cast<std::size_t>(offset), text.size());
    const std::size_t part = std::min(bytes, text.size() - from);
    std::memcpy(into, text.data() + from, part);
    return static_cast<ssize_t>(part);
}

int __real_open64(const char* path, int flags, ...);
int __wrap_open64(const char* path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    const auto mode = va_arg(arguments, mode_t);
    va_end(arguments);
    if (!Files::is_ours(path)) return __real_open64(path, flags, mode);
    const Simulated kernel;
    world->interrupt();
    return world->files.open(path);
}

int __real_close(int descriptor);
int __wrap_close(int descriptor) {
    if (!Files::are_ours(descriptor)) return __real_close(descriptor);
    const Simulated kernel;
    if (world != nullptr) world->files.close(descriptor);
    return 0;
}

ssize_t __real_send(int descriptor, const void* data, std::size_t bytes, int flags);
ssize_t __wrap_send(int descriptor, const void* data, std::size_t bytes, int flags) {
    if (!Files::are_ours(descriptor)) return __real_send(descriptor, data, bytes, flags);
    const Simulated kernel;
    world->interrupt();
    Channel& channel = *world->files.find(descriptor)->channel;
    if (channel.agent_ended) return answer(EPIPE);
    agent_request request{};
    std::memcpy(&request, data, std::min(bytes, sizeof request));
    channel.requests.push_back(request);
    for (const auto& process : world->processes) {
        if (process->channel.get() != &channel) continue;
        if (request.op == AGENT_MOVE) process->memory->looked_before_move = process->memory->looked;
        for (const auto& thread : process->threads)
            if (thread->is_agent) thread->unblock();
    }
    if (is_tracing())
        trace(fmt::format("agent is asked for {}, {} ranges from {:#x}", request.op, request.count,
                          request.range[0].src));
    return static_cast<ssize_t>(bytes);
}

ssize_t __real_recv(int descriptor, void* into, std::size_t bytes, int flags);
ssize_t __wrap_recv(int descriptor, void* into, std::size_t bytes, int flags) {
    if (!Files::are_ours(descriptor)) return __real_recv(descriptor, into, bytes, flags);
    const Simulated kernel;
    world->interrupt();
    Channel& channel = *world->files.find(descriptor)->channel;
    if (channel.replies.empty()) return channel.agent_ended ? 0 : answer(EAGAIN);
    std::memcpy(into, &channel.replies.front(), std::min(bytes, sizeof(agent_reply)));
    channel.replies.pop_front();
    return sizeof(agent_reply);
}

ssize_t __real_process_vm_readv(pid_t number, const iovec* local, unsigned long locals, const iovec* remote,
                                unsigned long remotes, unsigned long flags);
ssize_t __wrap_process_vm_readv(pid_t number, const iovec* local, unsigned long locals, const iovec* remote,
                                unsigned long remotes, unsigned long) {
    FARSWAP_ASSERT(locals == remotes);
    const Simulated kernel;
    world->interrupt();
    Process* process = world->find_by_thread(number);
    if (process == nullptr || !process->alive) return answer(ESRCH);
    if (!world->death.is_due()) return read_pieces(*process, local, remote, locals);
    // The keeper has it made once more, whatever it came to (kept_thread.cpp), and the process may be gone.
    (void)read_pieces(*process, local, remote, world->death.random.below(locals + 1));
    world->death.die();
    if (!process->alive) return answer(ESRCH);
    return read_pieces(*process, local, remote, locals);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    va_list arguments;
    va_start(arguments, number);
    long values[6];
    for (long& value : values) value = va_arg(arguments, long);
    va_end(arguments);
    const Simulated kernel;
    if (world != nullptr && number == SYS_pidfd_open) {
        const auto process = static_cast<pid_t>(values[0]);
        if (world->find(process) == nullptr) return answer(ESRCH);
        return world->files.add({.kind = File::Kind::kPidfd, .process = process});
    }
    if (world != nullptr && number == SYS_get_robust_list)
        return get_robust_list(static_cast<pid_t>(values[0]), reinterpret_cast<robust_list_head**>(values[1]),
                               reinterpret_cast<std::size_t*>(values[2]));
    return __real_syscall(number, values[0], values[1], values[2], values[3], values[4], values[5]);
}

ssize_t __real_getdents64(int descriptor, void* into, std::size_t bytes);
ssize_t __wrap_getdents64(int descriptor, void* into, std::size_t bytes) {
    if (!Files::are_ours(descriptor)) return __real_getdents64(descriptor, into, bytes);
    const Simulated kernel;
    File* file = world->files.find(descriptor);
    if (file == nullptr) return answer(EBADF);
    FARSWAP_ASSERT(file->kind == File::Kind::kDirectory);
    std::size_t done = 0;
    for (; file->offset < file->threads.size(); ++file->offset) {
        dirent64 entry{};
        if (bytes - done < sizeof entry) break;
        entry.d_reclen = sizeof entry;
        std::snprintf(entry.d_name, sizeof entry.d_name, "%d", file->threads[file->offset]);
        std::memcpy(static_cast<char*>(into) + done, &entry, sizeof entry);
        done += sizeof entry;
    }
    return static_cast<ssize_t>(done);
}

}  // extern "C"
