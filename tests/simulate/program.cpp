#include "program.h"

#include <fmt/format.h>

#include <algorithm>

#include "world.h"

namespace farswap::simulate {
namespace {

constexpr std::uint64_t kWindow = 0x100'0000'0000;  // where the program maps
constexpr std::uint64_t kControl = 0x50'0000'0000;  // its threads' control blocks
constexpr std::uint64_t kMutexes = 0x60'0000'0000;
constexpr std::uint64_t kControlPages = 16, kMutexPages = 8;

Task<> run_thread(Thread& thread);
Task<> run_child(Thread& thread);

std::uint64_t pages_of_all(const Memory& memory) {
    std::uint64_t bytes = 0;
    for (const auto& [start, vma] : memory.vmas)
        if (!vma.agents) bytes += vma.end - start;
    return bytes / kPageSize;
}

bool is_fixed(const Vma& vma) {
    return vma.agents || vma.start < kWindow;
}

void start(Thread& thread, Task<> main) {
    thread.main = std::move(main);
    thread.at = thread.main.handle();
}

/// A mapping of the program's own, by chance; null: there is none.
Vma* any_mapping(Memory& memory) {
    std::vector<Vma*> own;
    for (auto& [at, vma] : memory.vmas)
        if (!is_fixed(vma)) own.push_back(&vma);
    return own.empty() ? nullptr : own[world->random.below(own.size())];
}

/// A page that the program has, some more often than others.
std::uint64_t any_page(Memory& memory) {
    Vma* vma = any_mapping(memory);
    if (vma == nullptr) return 0;
    std::uint64_t pages = (vma->end - vma->start) / kPageSize;
    if (!world->random.once_in(3)) pages = (pages + 3) / 4;
    return vma->start + world->random.below(pages) * kPageSize;
}

/// Without a gate the pager learns from the mappings of the parent or the child, a moment after a fork or
/// after its own death, what has been wiped: advice that is given in between is taken for older
/// (tests/README.md).
bool must_keep_its_advice(const Memory& memory) {
    const std::uint64_t since = std::max(memory.forked_at, world->death.last_step());
    return memory.is_forking() || (!world->options.is_gated() && world->steps < since + 1000);
}

/// A part of a mapping that nobody else is about to change.
AddressRange any_part(Memory& memory, std::uint64_t pages_max) {
    Vma* vma = any_mapping(memory);
    if (vma == nullptr) return {};
    const std::uint64_t pages = (vma->end - vma->start) / kPageSize;
    const std::uint64_t count = world->random.once_in(3)
                                    ? std::min(pages, pages_max)
                                    : 1 + world->random.below(std::min(pages, pages_max));
    const std::uint64_t first = vma->start + world->random.below(pages - count + 1) * kPageSize;
    const AddressRange range{first, first + count * kPageSize};
    return memory.is_claimed(range.start, range.end) ? AddressRange{} : range;
}

std::uint64_t free_place(const Memory& memory, std::uint64_t pages) {
    const std::uint64_t window = 3 * std::uint64_t{world->options.pages};
    const std::uint64_t again = memory.freed.start;
    if (world->options.has(Feature::kPreempted) && again >= kWindow && again < kWindow + window * kPageSize &&
        world->random.once_in(2) && memory.is_free(again, again + pages * kPageSize) &&
        !memory.is_claimed(again, again + pages * kPageSize))
        return again;
    for (int tries = 0; tries < 12; ++tries) {
        const std::uint64_t at = kWindow + world->random.below(window) * kPageSize;
        if (memory.is_free(at, at + pages * kPageSize) && !memory.is_claimed(at, at + pages * kPageSize))
            return at;
    }
    return 0;
}

void check(const Thread& thread, std::uint64_t address) {
    Memory& memory = *thread.process->memory;
    const auto entry = memory.entries.find(address);
    static const Page kZeros{};
    const Page& page = entry->second.page != nullptr ? *entry->second.page : kZeros;
    ++world->reads_checked;
    const std::uint64_t version = memory.version_at(address);
    if (page_holds(page.bytes.data(), version)) return;
    if (memory.is_removing(address) && page_holds(page.bytes.data(), 0)) {
        memory.expected.erase(address);  // it is gone already
        return;
    }
    fail_run(fmt::format(
        "wrong bytes: page {:#x} of process {} is to hold write {} and holds {}", address, thread.process->id,
        version, page_holds(page.bytes.data(), 0) ? std::string("zeros") : std::string("something else")));
}

Task<bool> read_page(Thread& thread, std::uint64_t address) {
    const bool there = co_await Kernel::access(thread, address, false);
    if (!there) co_return false;
    check(thread, address);
    co_return true;
}

Task<bool> write_page(Thread& thread, std::uint64_t address) {
    const bool there = co_await Kernel::access(thread, address, true);
    if (!there) co_return false;
    Memory& memory = *thread.process->memory;
    // Half of all writes are to a part of the page: the rest must be right.
    if (world->random.once_in(2)) check(thread, address);
    const std::uint64_t version = world->new_version();
    fill_page(Kernel::make_exclusive(*thread.process, memory, address).bytes.data(), version);
    memory.expected[address] = version;
    co_return true;
}

/// Walks through a part of memory, forwards or backwards.
Task<> walk(Thread& thread) {
    const std::uint64_t first = any_page(*thread.process->memory);
    if (first == 0) co_return;
    const bool backwards = world->random.once_in(3), writes = world->random.once_in(3);
    const std::uint64_t stride = (world->random.once_in(5) ? 2 : 1) * kPageSize;
    const std::uint64_t pages = 4 + world->random.below(60);
    for (std::uint64_t i = 0; i < pages; ++i) {
        const std::uint64_t at = backwards ? first - i * stride : first + i * stride;
        bool there = false;
        if (writes)
            there = co_await write_page(thread, at);
        else
            there = co_await read_page(thread, at);
        if (!there) co_return;
        co_await thread.pause();
    }
}

/// A range is on one of the lists of its memory for as long as this lives.
struct Claim {
    Claim(std::shared_ptr<Memory> in, AddressRange what,
          std::vector<AddressRange> Memory::*which = &Memory::claimed)
        : memory(std::move(in)), range(what), list(which) {
        ((*memory).*list).push_back(range);
    }
    ~Claim() { end(); }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    void end() {
        if (memory) remove_range((*memory).*list, range);
        memory.reset();
    }
    std::shared_ptr<Memory> memory;
    AddressRange range;
    std::vector<AddressRange> Memory::*list;
};

void map(Memory& memory) {
    const std::uint64_t pages = 8 + world->random.below(world->options.has(Feature::kHasty) ? 12 : 60);
    const std::uint64_t at = free_place(memory, pages);
    if (at == 0 || pages_of_all(memory) + pages > world->options.pages) return;
    memory.vmas.emplace(at, Vma{.start = at, .end = at + pages * kPageSize});
    memory.newest = at;
    if (is_tracing()) trace(fmt::format("map {:#x}+{}", at, pages));
}

/// mremap(2) of a mapping that has room behind it.
void grow(Memory& memory) {
    Vma* vma = any_mapping(memory);
    if (vma == nullptr || vma->locked) return;
    const std::uint64_t pages = 1 + world->random.below(16);
    const std::uint64_t end = vma->end + pages * kPageSize;
    if (!memory.is_free(vma->end, end) || memory.is_claimed(vma->start, end)) return;
    if (pages_of_all(memory) + pages > world->options.pages) return;
    if (is_tracing()) trace(fmt::format("grow [{:#x}, {:#x}) by {}", vma->start, vma->end, pages));
    vma->end = end;
}

Task<> unmap(Thread& thread) {
    const AddressRange range = any_part(*thread.process->memory, 40);
    if (range.start == range.end) co_return;
    const Claim leaving(thread.process->memory, range, &Memory::leaving);
    if (is_tracing())
        trace(fmt::format("{}: unmap [{:#x}, {:#x})", thread.process->id, range.start, range.end));
    // Others may map there as soon as the pages are gone.
    co_await Kernel::unmap(thread, range.start, range.end);
}

/// Of what lies there, as much as fits where something has just gone.
AddressRange part_that_fits(Memory& memory, std::uint64_t at) {
    const Vma* vma = memory.find(at);
    if (vma == nullptr || is_fixed(*vma) || memory.is_claimed(vma->start, vma->end)) return {};
    const std::uint64_t room = std::max<std::uint64_t>(memory.freed.end - memory.freed.start, kPageSize);
    return {vma->start, std::min(vma->end, vma->start + room)};
}

Task<> remap(Thread& thread) {
    const std::shared_ptr<Memory> memory = thread.process->memory;
    const bool is_hasty = world->options.has(Feature::kHasty) && world->random.once_in(2);
    const bool again = is_hasty && world->options.has(Feature::kAgain) && !world->random.once_in(3);
    const AddressRange from =
        is_hasty ? part_that_fits(*memory, again ? memory->arrived : memory->newest) : any_part(*memory, 24);
    if (from.start == from.end) co_return;
    const std::uint64_t bytes = from.end - from.start;
    std::uint64_t to = free_place(*memory, bytes / kPageSize);
    if (world->random.once_in(4)) {  // over what is there
        const AddressRange over = any_part(*memory, bytes / kPageSize);
        if (over.end - over.start == bytes && (over.end <= from.start || over.start >= from.end))
            to = over.start;
    }
    if (to == 0) co_return;
    // Until it returns, nobody knows that memory lies there.
    const Claim claim(memory, {to, to + bytes});
    const Claim leaving(memory, from, &Memory::leaving);
    if (is_tracing())
        trace(fmt::format("{}: remap {:#x}+{} to {:#x}", thread.process->id, from.start, bytes / kPageSize,
                          to));
    co_await Kernel::remap(thread, from.start, to, bytes);
    memory->arrived = to;
}

Task<> discard(Thread& thread) {
    const std::shared_ptr<Memory> memory = thread.process->memory;
    // The child may get zeros, as if it had been forked later.
    if (memory->is_forking() && !world->options.has(Feature::kCareless)) co_return;
    const AddressRange range = any_part(*memory, 32);
    if (range.start == range.end) co_return;
    const Claim claim(memory, range);
    const bool lazily = world->random.once_in(4);
    if (is_tracing())
        trace(fmt::format("{}: discard [{:#x}, {:#x}){}", thread.process->id, range.start, range.end,
                          lazily ? " lazily" : ""));
    co_await Kernel::discard(thread, range.start, range.end, lazily);
}

/// The kernel needs memory and takes what it may.
void drop_lazy(Memory& memory) {
    for (auto entry = memory.entries.begin(); entry != memory.entries.end();) {
        const auto next = std::next(entry);
        if (entry->second.lazy && world->random.once_in(2)) {
            memory.expected.erase(entry->first);
            memory.drop(entry);
        }
        entry = next;
    }
}

std::size_t processes_alive() {
    return static_cast<std::size_t>(std::ranges::count_if(world->processes, &Process::alive));
}

Task<> fork(Thread& thread) {
    if (processes_alive() >= world->options.processes || thread.process->memory->advising > 0) co_return;
    if (is_tracing()) trace(fmt::format("{}: fork", thread.process->id));
    const std::uint64_t control = thread.control_page;
    auto memory = co_await Kernel::fork(thread);
    Process& child = world->make_process(thread.process->id, std::move(memory));
    Thread& main = world->make_thread(child);
    main.control_page = control;
    const bool is_hasty = world->options.has(Feature::kHasty) && !world->random.once_in(4);
    start(main, is_hasty ? run_child(main) : run_thread(main));
    if (is_tracing()) trace(fmt::format("{} is the child of {}", child.id, thread.process->id));
}

std::size_t threads_of(const Process& process) {
    return static_cast<std::size_t>(
        std::ranges::count_if(process.threads, [](const auto& thread) { return !thread->is_agent; }));
}

void make_threads_control(Thread& thread) {
    for (std::uint64_t i = 0; i < kControlPages; ++i) {
        const std::uint64_t at = kControl + i * kPageSize;
        const auto uses = [at](const auto& other) { return other->control_page == at; };
        if (std::ranges::any_of(thread.process->threads, uses)) continue;
        thread.control_page = at;
        return;
    }
}

void start_thread(Process& process) {
    if (threads_of(process) >= world->options.threads) return;
    Thread& thread = world->make_thread(process);
    make_threads_control(thread);
    start(thread, run_thread(thread));
    if (is_tracing()) trace(fmt::format("{}: thread {} begins", process.id, thread.id));
}

/// What the kernel does when a thread ends alone.
void end_thread(Thread& thread) {
    if (is_tracing()) trace(fmt::format("thread {} ends", thread.id));
    Kernel::write_at_exit(thread, thread.control_page, "its clear_child_tid word", thread.since);
    if (thread.held_mutex != 0 && thread.has_robust_list)
        Kernel::write_at_exit(thread, thread.held_mutex, "a mutex that it held", thread.held_since);
}

Task<> lock_mutex(Thread& thread) {
    if (thread.held_mutex != 0) {
        thread.held_mutex = 0;
        co_return;
    }
    const std::uint64_t page = kMutexes + world->random.below(kMutexPages) * kPageSize;
    const bool there = co_await write_page(thread, page);
    if (!there) co_return;
    thread.held_mutex = page;
    thread.held_since = world->steps;
}

/// A device reads and writes a page for a while, whatever the page tables say.
Task<> pin(Thread& thread) {
    const std::shared_ptr<Memory> memory = thread.process->memory;
    const std::uint64_t address = any_page(*memory);
    if (address == 0 || memory->is_claimed(address, address + kPageSize)) co_return;
    const Claim claim(memory, {address, address + kPageSize});
    const bool there = co_await write_page(thread, address);
    if (!there) co_return;
    struct Pin {
        explicit Pin(Page* pinned) : page(pinned) { ++page->pins; }
        ~Pin() {
            --page->pins;
            release(page);
        }
        Page* page;
    } pinned(memory->entries.at(address).page);
    for (std::uint64_t left = 1 + world->random.below(40); left > 0; --left) {
        co_await thread.pause();
        if (!world->random.once_in(8)) continue;
        const std::uint64_t version = world->new_version();
        fill_page(pinned.page->bytes.data(), version);
        memory->expected[address] = version;
    }
}

/// mlock(2) brings all pages in, then locks them; munlock(2).
Task<> lock(Thread& thread) {
    const std::shared_ptr<Memory> memory = thread.process->memory;
    Vma* vma = any_mapping(*memory);
    if (vma == nullptr || memory->is_claimed(vma->start, vma->end)) co_return;
    if (vma->locked) {
        vma->locked = false;
        co_return;
    }
    const AddressRange range{vma->start, vma->end};
    if (range.end - range.start > 32 * kPageSize) co_return;
    const Claim claim(memory, range);
    vma->locked = true;
    for (std::uint64_t at = range.start; at < range.end; at += kPageSize)
        co_await Kernel::access(thread, at, true);
    for (std::uint64_t left = world->random.below(200); left > 0; --left) co_await thread.pause();
    if (Vma* now = memory->find(range.start)) now->locked = false;
}

/// Waits until the job has heard of it, where there is a gate.
Task<> pass_the_gate(Thread& thread, AddressRange range, bool wipes) {
    const std::shared_ptr<Memory> memory = thread.process->memory;
    if (!world->options.is_gated()) co_return;
    const auto call = std::make_shared<GateCall>();
    *call = {.process = thread.process->id, .memory = memory, .range = range, .wipes = wipes};
    world->gate.push_back(call);
    while (!call->is_let_go) co_await thread.pause();
}

/// MADV_DONTFORK, MADV_WIPEONFORK and what takes them back.
Task<> advise_about_forks(Thread& thread) {
    const std::shared_ptr<Memory> memory = thread.process->memory;
    if (must_keep_its_advice(*memory)) co_return;
    const Vma* vma = any_mapping(*memory);
    if (vma == nullptr) co_return;
    const AddressRange range{vma->start, vma->end};
    if (memory->is_claimed(range.start, range.end) || memory->is_leaving(range.start, range.end)) co_return;
    const bool leaves_out = world->random.once_in(2), wipes = !leaves_out && world->random.once_in(2);
    if (is_tracing())
        trace(fmt::format("{}: forks {} [{:#x}, {:#x})", thread.process->id,
                          leaves_out ? "leave out"
                          : wipes    ? "wipe"
                                     : "copy",
                          range.start, range.end));
    const Claim claim(memory, range);
    if (wipes != vma->wipe_on_fork) {
        struct Advising {
            explicit Advising(std::shared_ptr<Memory> in) : memory(std::move(in)) { ++memory->advising; }
            ~Advising() { --memory->advising; }
            Advising(const Advising&) = delete;
            Advising& operator=(const Advising&) = delete;
            std::shared_ptr<Memory> memory;
        } const advising(memory);
        co_await pass_the_gate(thread, range, wipes);
        if (Vma* now = memory->find(range.start)) now->wipe_on_fork = wipes;
    }
    if (Vma* now = memory->find(range.start)) now->dont_fork = leaves_out;
}

std::shared_ptr<Memory> new_memory() {
    auto memory = std::make_shared<Memory>();
    for (auto [start, pages] : {std::pair{kControl, kControlPages}, std::pair{kMutexes, kMutexPages}})
        memory->vmas.emplace(start, Vma{.start = start, .end = start + pages * kPageSize});
    for (int i = 0; i < 12; ++i) map(*memory);
    return memory;
}

void execute(Thread& thread) {
    Process& process = *thread.process;
    if (is_tracing()) trace(fmt::format("{}: exec", process.id));
    ++process.programs;
    std::erase_if(process.threads, [&](const auto& other) { return other.get() != &thread; });
    if (process.channel) process.channel->agent_ended = true;
    process.channel.reset();
    Kernel::end_memory(*process.memory);
    process.memory = new_memory();
    thread.id = process.id;
    thread.held_mutex = 0;
    thread.has_robust_list = false;
    thread.control_page = kControl;
    process.born = world->now;
}

/// Looks at all that there is, and at some of what was never touched.
Task<> look_at_everything(Thread& thread) {
    const std::shared_ptr<Memory> memory = thread.process->memory;
    std::vector<std::uint64_t> pages;
    for (const auto& [start, vma] : memory->vmas) {
        if (vma.agents) continue;
        for (std::uint64_t at = start; at < vma.end; at += kPageSize)
            if (memory->expected.contains(at) || world->random.once_in(16)) pages.push_back(at);
    }
    for (const std::uint64_t at : pages) {
        co_await read_page(thread, at);
        co_await thread.pause();
    }
}

bool often(Feature feature, std::uint64_t once_in) {
    return world->options.has(feature) && world->random.once_in(once_in);
}

Task<> do_something(Thread& thread) {
    Memory& memory = *thread.process->memory;
    ++world->operations;
    const bool restless = world->options.has(Feature::kRestless), brief = world->options.has(Feature::kBrief);
    if (often(Feature::kUnmap, 30)) {
        co_await unmap(thread);
    } else if (often(Feature::kRemap, restless ? 6 : 30)) {
        co_await remap(thread);
    } else if (often(Feature::kDiscard, 30)) {
        co_await discard(thread);
        drop_lazy(memory);
    } else if (often(Feature::kFork, restless ? 20 : 100)) {
        co_await fork(thread);
    } else if (often(Feature::kThreads, brief ? 10 : 60)) {
        start_thread(*thread.process);
    } else if (often(Feature::kMutexes, brief ? 10 : 60)) {
        co_await lock_mutex(thread);
    } else if (often(Feature::kPin, 100)) {
        co_await pin(thread);
    } else if (often(Feature::kLock, 200)) {
        co_await lock(thread);
    } else if (often(Feature::kForkAdvice, 100)) {
        co_await advise_about_forks(thread);
    } else if (often(Feature::kGrow, 20)) {
        grow(memory);
    } else if (often(Feature::kHasty, 6) || world->random.once_in(20)) {
        map(memory);
    } else if (world->random.once_in(12)) {
        co_await walk(thread);
    } else if (const std::uint64_t page = any_page(memory); page != 0) {
        if (world->random.once_in(2))
            co_await read_page(thread, page);
        else
            co_await write_page(thread, page);
    }
}

Task<> run_thread(Thread& thread) {
    co_await thread.pause();
    // Before it has run its first instructions nobody knows where it will be written to when it ends.
    thread.has_robust_list = co_await write_page(thread, thread.control_page);
    thread.since = world->steps;
    for (;;) {
        co_await thread.pause();
        Process& process = *thread.process;
        if (world->winding_down) break;
        if (often(Feature::kExit, 1500) && processes_alive() > 1) {
            process.doomed = true;
            continue;
        }
        if (often(Feature::kExec, 800)) {
            execute(thread);
            co_await thread.pause();
            thread.has_robust_list = co_await write_page(thread, thread.control_page);
            thread.since = world->steps;
            continue;
        }
        const std::uint64_t life = world->options.has(Feature::kBrief) ? 20 : 150;
        if (often(Feature::kThreads, life) && threads_of(process) > 1) {
            end_thread(thread);
            co_return;
        }
        co_await do_something(thread);
    }
    if (threads_of(*thread.process) > 1) {
        end_thread(thread);
        co_return;
    }
    co_await look_at_everything(thread);
    thread.process->doomed = true;
    co_await thread.pause();
}

/// Looks at all that it has from its parent, and ends.
Task<> run_child(Thread& thread) {
    co_await thread.pause();
    co_await look_at_everything(thread);
    thread.process->doomed = true;
    co_await thread.pause();
}

}  // namespace

Process& start_program() {
    Process& process = world->make_process(1, new_memory());
    Thread& thread = world->make_thread(process);
    thread.control_page = kControl;
    start(thread, run_thread(thread));
    return process;
}

}  // namespace farswap::simulate
