#include "kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "world.h"

namespace farswap::simulate {

FaultWait::FaultWait(Context& in, Thread& of, std::uint64_t at, bool to_write)
    : context(in), thread(of), address(at), wp(to_write) {
    context.pending.push_back(this);
}

FaultWait::~FaultWait() {
    std::erase(context.pending, this);
    std::erase(context.waiting, this);
}

Event::Event(Context& in, std::uint8_t what, std::uint64_t a, std::uint64_t b, std::uint64_t length)
    : context(in), type(what), from(a), to(b), bytes(length) {
    ++context.changing;
}

Event::~Event() {
    finish();
}

void Event::finish() {
    if (std::exchange(finished, true)) return;
    std::erase(context.events, this);
    --context.changing;
}

void Context::wake(std::uint64_t start, std::uint64_t bytes) {
    for (auto* list : {&pending, &waiting}) {
        for (FaultWait* wait : *list) {
            if (wait->address < start || wait->address - start >= bytes) continue;
            wait->woken = true;
            wait->thread.unblock();
        }
    }
}

Vma* Context::registered(std::uint64_t start, std::uint64_t bytes) const {
    Vma* vma = memory->find(start);
    return vma != nullptr && vma->uffd == this && start + bytes <= vma->end ? vma : nullptr;
}

int Context::copy(std::uint64_t to, const std::byte* from, std::uint64_t bytes, std::int64_t& done) {
    done = 0;
    if (changing > 0) return EAGAIN;
    if (memory == nullptr) return ESRCH;
    if (bytes == 0 || to % kPageSize != 0) return EINVAL;  // Uffd::is_quiet() asks so
    if (registered(to, bytes) == nullptr) return ENOENT;
    const std::uint64_t pages = bytes / kPageSize;
    // Now and then the kernel is interrupted after a part.
    const std::uint64_t most = pages > 1 && world->random.once_in(8) ? 1 + world->random.below(pages) : pages;
    for (std::uint64_t i = 0; i < most; ++i) {
        const std::uint64_t at = to + i * kPageSize;
        if (memory->entries.contains(at)) {
            if (i == 0) return EEXIST;
            break;
        }
        auto* page = new Page{.maps = 1};
        std::memcpy(page->bytes.data(), from + i * kPageSize, kPageSize);
        memory->entries[at] = {.page = page, .exclusive = true};
        done += static_cast<std::int64_t>(kPageSize);
    }
    wake(to, static_cast<std::uint64_t>(done));
    return static_cast<std::uint64_t>(done) == bytes ? 0 : EAGAIN;
}

/// Of one page: 0 or an errno.
namespace {
int move_page(Memory& memory, std::uint64_t to, std::uint64_t from) {
    const auto source = memory.entries.find(from);
    if (source == memory.entries.end()) return ENOENT;
    if (memory.entries.contains(to)) return EEXIST;
    Entry& entry = source->second;
    if (entry.page == nullptr) {  // the zero page is moved, too
        memory.entries[to] = {};
        memory.entries.erase(from);
        return 0;
    }
    if (!entry.exclusive || entry.page->pins > 0) return EBUSY;
    memory.entries[to] = {.page = entry.page, .exclusive = true};
    memory.entries.erase(from);
    return 0;
}
}  // namespace

int Context::move(std::uint64_t to, std::uint64_t from, std::uint64_t bytes, std::int64_t& done) {
    done = 0;
    if (changing > 0) return EAGAIN;
    if (memory == nullptr) return ESRCH;
    const Vma* source = memory->find(from);
    const Vma* staging = registered(to, bytes);
    // That its source is registered is not looked at.
    if (source == nullptr || staging == nullptr || from + bytes > source->end) return EINVAL;
    if (source->locked != staging->locked) return EINVAL;
    for (std::uint64_t at = 0; at < bytes; at += kPageSize) {
        if (at > 0 && world->random.once_in(64)) return EAGAIN;  // somebody holds a lock: after a part
        const int error = move_page(*memory, to + at, from + at);
        if (is_tracing()) trace(fmt::format("MOVE {:#x} to {:#x}: {}", from + at, to + at, error));
        if (error == 0) memory->taken[from + at] = memory->looked_before_move;
        if (error != 0) return done > 0 ? EAGAIN : error;
        // Tried again after it was done, it finds itself at the destination (target/moved_bytes.h).
        if (world->random.once_in(512)) return done > 0 ? EAGAIN : EEXIST;
        done += static_cast<std::int64_t>(kPageSize);
    }
    return 0;
}

int Context::zero_page(std::uint64_t start, std::uint64_t bytes) {
    if (changing > 0) return EAGAIN;
    if (memory == nullptr) return ESRCH;
    if (registered(start, bytes) == nullptr) return ENOENT;
    if (memory->entries.contains(start)) return EEXIST;
    memory->entries[start] = {};
    return 0;
}

int Context::continue_at(std::uint64_t start, std::uint64_t bytes) {
    if (changing > 0) return EAGAIN;
    if (memory == nullptr) return ESRCH;
    return registered(start, bytes) != nullptr ? EINVAL : ENOENT;
}

int Context::protect(std::uint64_t start, std::uint64_t bytes, bool wp) {
    if (changing > 0) return EAGAIN;
    if (memory == nullptr) return ESRCH;
    int error = ENOENT;
    for (std::uint64_t at = start; at < start + bytes;) {
        auto next = memory->vmas.upper_bound(at);
        const Vma* vma = memory->find(at);
        if (vma == nullptr) {
            if (next == memory->vmas.end() || next->second.start >= start + bytes) break;
            vma = &next->second;
        }
        if (vma->uffd != this) {
            error = ENOENT;
            break;
        }
        const std::uint64_t end = std::min(vma->end, start + bytes);
        for (auto entry = memory->entries.lower_bound(std::max(at, vma->start));
             entry != memory->entries.end() && entry->first < end; ++entry) {
            entry->second.wp = wp;
            entry->second.wp_look = memory->looked;
        }
        error = 0;
        at = end;
    }
    if (error == 0 && !wp) wake(start, bytes);
    return error;
}

int Context::register_range(std::uint64_t start, std::uint64_t bytes) {
    if (memory == nullptr) return ENOMEM;
    const std::uint64_t end = start + bytes;
    bool any = false;
    for (auto& [at, vma] : memory->vmas) {
        if (vma.end <= start || at >= end) continue;
        if (vma.uffd != nullptr && vma.uffd != this) return EBUSY;
        any = true;
    }
    if (!any) return EINVAL;
    memory->split(start);
    memory->split(end);
    for (auto& [at, vma] : memory->vmas)
        if (at >= start && at < end) vma.uffd = this;
    memory->uffd = this;
    return 0;
}

void Context::shut() {
    released = true;
    if (memory != nullptr) {
        for (auto& [at, vma] : memory->vmas)
            if (vma.uffd == this) vma.uffd = nullptr;
        for (auto& [at, entry] : memory->entries) entry.wp = false;
        memory->uffd = nullptr;
    }
    wake(0, ~std::uint64_t{0});
    for (Event* event : std::deque<Event*>(events)) {
        event->read = true;
        if (event->child != nullptr) event->child->shut();
        std::erase(events, event);
        if (event->waiter != nullptr) event->waiter->unblock();
    }
}

namespace {

Task<> wait_for_page(Thread& thread, Context& context, std::uint64_t address, bool wp) {
    FaultWait wait(context, thread, address, wp);
    while (!wait.woken && !context.released)
        co_await thread.block(wp ? "to write to a protected page" : "a page", address);
}

Task<> deliver(Thread& thread, Event& event) {
    event.waiter = &thread;
    if (event.context.released) {  // userfaultfd_event_wait_completion(): nobody will read it
        event.read = true;
        if (event.child != nullptr) event.child->shut();
    } else {
        event.context.events.push_back(&event);
    }
    while (!event.read) co_await thread.block("an event to be read", event.from);
    event.finish();
}

/// A claim or a removal that is over when its coroutine ends, however it ends.
struct Noted {
    Noted(std::vector<AddressRange>& in, AddressRange what) : ranges(in), range(what) {
        ranges.push_back(range);
    }
    ~Noted() { end(); }
    Noted(const Noted&) = delete;
    Noted& operator=(const Noted&) = delete;
    void end() {
        if (!std::exchange(ended, true)) remove_range(ranges, range);
    }
    std::vector<AddressRange>& ranges;
    AddressRange range;
    bool ended = false;
};

/// Takes the mappings of a range away, and returns the event that is to be sent for it.
std::unique_ptr<Event> take_mappings(Memory& memory, std::uint64_t start, std::uint64_t end) {
    memory.split(start);
    memory.split(end);
    Context* context = nullptr;
    for (auto vma = memory.vmas.lower_bound(start); vma != memory.vmas.end() && vma->first < end;) {
        if (vma->second.uffd != nullptr) context = vma->second.uffd;
        vma = memory.vmas.erase(vma);
    }
    auto event = context == nullptr
                     ? nullptr
                     : std::make_unique<Event>(*context, UFFD_EVENT_UNMAP, start, end, end - start);
    memory.drop_range(start, end);
    memory.expected.erase(memory.expected.lower_bound(start), memory.expected.lower_bound(end));
    memory.freed = {start, end};
    return event;
}

/// Between two steps of a system call: others go on, sometimes for long.
Task<> be_preempted(Thread& thread) {
    co_await thread.pause();
    if (!world->options.has(Feature::kPreempted) || !world->random.once_in(3)) co_return;
    for (std::uint64_t left = world->random.below(60); left > 0; --left) co_await thread.pause();
}

}  // namespace

Page& Kernel::make_exclusive(Process& process, Memory& memory, std::uint64_t address) {
    Entry& entry = memory.entries.at(address);
    entry.lazy = false;
    if (entry.exclusive) return *entry.page;
    entry.exclusive = true;
    if (entry.page->maps == 1) return *entry.page;
    auto* copy = new Page{.maps = 1};
    copy->bytes = entry.page->bytes;
    --entry.page->maps;
    release(entry.page);
    entry.page = copy;
    ++process.minor_faults;
    return *copy;
}

Task<bool> Kernel::access(Thread& thread, std::uint64_t address, bool write) {
    const std::uint64_t at = address / kPageSize * kPageSize;
    for (;;) {
        Process& process = *thread.process;
        Memory& memory = *process.memory;
        Vma* vma = memory.find(at);
        if (vma == nullptr) co_return false;
        auto entry = memory.entries.find(at);
        if (entry == memory.entries.end()) {
            if (vma->uffd != nullptr) {
                co_await wait_for_page(thread, *vma->uffd, at, false);
                continue;
            }
            ++process.minor_faults;
            memory.entries[at] = write ? Entry{.page = new Page{.maps = 1}, .exclusive = true} : Entry{};
            co_return true;
        }
        if (!write) co_return true;
        if (entry->second.wp && vma->uffd != nullptr) {
            co_await wait_for_page(thread, *vma->uffd, at, true);
            continue;
        }
        if (entry->second.page == nullptr) {
            ++process.minor_faults;
            entry->second = {.page = new Page{.maps = 1}, .exclusive = true};
        }
        make_exclusive(process, memory, at);
        co_return true;
    }
}

Task<> Kernel::unmap(Thread& thread, std::uint64_t start, std::uint64_t end) {
    Memory& memory = *thread.process->memory;
    const std::unique_ptr<Event> event = take_mappings(memory, start, end);
    if (event == nullptr) co_return;
    co_await be_preempted(thread);  // the lock was left: others map here before anybody hears of it
    co_await deliver(thread, *event);
}

Task<> Kernel::remap(Thread& thread, std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
    Memory& memory = *thread.process->memory;
    const std::unique_ptr<Event> early = take_mappings(memory, to, to + bytes);
    memory.split(from);
    memory.split(from + bytes);
    Vma moved = memory.vmas.at(from);
    std::unique_ptr<Event> remapped, unmapped;
    if (moved.uffd != nullptr)
        remapped = std::make_unique<Event>(*moved.uffd, UFFD_EVENT_REMAP, from, to, bytes);
    moved.start = to;
    moved.end = to + bytes;
    memory.vmas.emplace(to, moved);
    for (std::uint64_t at = 0; at < bytes; at += kPageSize) {
        const auto entry = memory.entries.find(from + at);
        if (entry != memory.entries.end()) {
            memory.entries[to + at] = entry->second;
            memory.entries.erase(entry);
        }
        const auto version = memory.expected.find(from + at);
        if (version != memory.expected.end()) {
            memory.expected[to + at] = version->second;
            memory.expected.erase(version);
        }
        // In a child of a fork that came in the middle of it.
        if (memory.is_removing(from + at)) memory.removing.push_back({to + at, to + at + kPageSize});
    }
    unmapped = take_mappings(memory, from, from + bytes);
    co_await be_preempted(thread);
    if (early) co_await deliver(thread, *early);
    if (remapped) co_await deliver(thread, *remapped);
    // Both are told without a lock, one after the other.
    if (unmapped && world->options.has(Feature::kAgain)) co_await be_preempted(thread);
    if (unmapped) co_await deliver(thread, *unmapped);
}

Task<> Kernel::discard(Thread& thread, std::uint64_t start, std::uint64_t end, bool lazily) {
    const std::shared_ptr<Memory> kept = thread.process->memory;
    Memory& memory = *kept;
    Vma* vma = memory.find(start);
    if (vma == nullptr) co_return;
    Noted removing(memory.removing, {start, end});
    const std::uint64_t began = world->new_version();
    if (vma->uffd != nullptr) {
        Event event(*vma->uffd, UFFD_EVENT_REMOVE, start, end, end - start);
        co_await deliver(thread, event);
        co_await be_preempted(thread);  // read, and not yet done
    }
    for (std::uint64_t at = start; at < end; at += kPageSize) {
        const auto entry = memory.entries.find(at);
        if (lazily && entry != memory.entries.end() && entry->second.page != nullptr) {
            // It may have come back since the event was read, as what it is now.
            if (page_holds(entry->second.page->bytes.data(), 0)) memory.expected.erase(at);
            if (entry->second.exclusive && entry->second.page->pins == 0) entry->second.lazy = true;
            continue;
        }
        if (entry != memory.entries.end()) {
            memory.drop(entry);
        } else if (memory.version_at(at) > began) {
            // Written to meanwhile, and moved out since: as if that had come after this.
            memory.removing.push_back({at, at + kPageSize});
            continue;
        }
        memory.expected.erase(at);
    }
}

Task<std::shared_ptr<Memory>> Kernel::fork(Thread& thread) {
    Memory& parent = *thread.process->memory;
    auto child = std::make_shared<Memory>();
    // A child that never runs is taken down again.
    struct Unborn {
        ~Unborn() {
            if (memory) end_memory(*memory);
        }
        std::shared_ptr<Memory> memory;
    } unborn{child};
    std::unique_ptr<Event> event;
    parent.forked_at = Memory::kForking;
    for (const auto& [start, vma] : parent.vmas) {
        if (vma.uffd == nullptr || event != nullptr) continue;
        event = std::make_unique<Event>(*vma.uffd, UFFD_EVENT_FORK, 0, 0, 0);
        event->child = &world->make_context(*child);
        child->uffd = event->child;
    }
    for (const auto& [start, vma] : parent.vmas) {
        if (vma.dont_fork) continue;
        Vma copy = vma;
        if (copy.uffd != nullptr) copy.uffd = event->child;
        copy.locked = false;
        copy.is_unknown |= vma.agents && thread.process->agent_is_new;
        child->vmas.emplace(start, copy);
        if (vma.wipe_on_fork) continue;
        for (auto entry = parent.entries.lower_bound(start);
             entry != parent.entries.end() && entry->first < vma.end; ++entry) {
            Entry& page = entry->second;
            if (page.page != nullptr && page.page->pins > 0) {  // a device's stays the parent's
                auto* own = new Page{.maps = 1};
                own->bytes = page.page->bytes;
                child->entries[entry->first] = {.page = own, .exclusive = true, .wp = page.wp};
                continue;
            }
            page.exclusive = page.lazy = false;
            if (page.page != nullptr) ++page.page->maps;
            child->entries[entry->first] = page;
        }
        for (auto version = parent.expected.lower_bound(start);
             version != parent.expected.end() && version->first < vma.end; ++version)
            child->expected.insert(*version);
    }
    for (const AddressRange& range : parent.removing) child->removing.push_back(range);
    co_await be_preempted(thread);
    if (event != nullptr) co_await deliver(thread, *event);
    parent.forked_at = child->forked_at = world->steps;
    co_await thread.pause();
    unborn.memory.reset();
    co_return child;
}

Task<> Kernel::unshare(Thread& thread, std::uint64_t address) {
    for (;;) {
        Memory& memory = *thread.process->memory;
        Vma* vma = memory.find(address);
        if (vma == nullptr) co_return;
        const auto entry = memory.entries.find(address);
        if (entry == memory.entries.end()) {
            if (vma->uffd == nullptr) {
                memory.entries[address] = {};
                co_return;
            }
            co_await wait_for_page(thread, *vma->uffd, address, false);
            continue;
        }
        if (entry->second.page != nullptr) make_exclusive(*thread.process, memory, address);
        co_return;
    }
}

void Kernel::write_at_exit(Thread& thread, std::uint64_t address, const char* what, std::uint64_t since) {
    Process& process = *thread.process;
    Memory& memory = *process.memory;
    Vma* vma = memory.find(address);
    if (vma == nullptr) return;
    auto entry = memory.entries.find(address);
    if (vma->uffd != nullptr && (entry == memory.entries.end() || entry->second.wp)) {
        const bool outside = entry == memory.entries.end();
        const std::uint64_t look = outside ? memory.taken[address] : entry->second.wp_look;
        if (look < since) return;
        fail_run(fmt::format(
            "thread {} of process {} ends and the kernel cannot write to {} at {:#x}: the page is {}",
            thread.id, process.id, what, address, outside ? "outside" : "protected"));
    }
    if (entry == memory.entries.end() || entry->second.page == nullptr)
        memory.entries[address] = {.page = new Page{.maps = 1}, .exclusive = true};
    const std::uint64_t version = world->new_version();
    fill_page(make_exclusive(process, memory, address).bytes.data(), version);
    memory.expected[address] = version;
}

void Kernel::end_memory(Memory& memory) {
    if (std::exchange(memory.gone, true)) return;
    for (const auto& context : world->contexts) {
        if (context->memory != &memory) continue;
        context->memory = nullptr;
    }
    while (!memory.entries.empty()) memory.drop(memory.entries.begin());
    memory.vmas.clear();
    memory.expected.clear();
}

}  // namespace farswap::simulate
