#include "world.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/no_allocation.h"

namespace farswap::simulate {

World* world = nullptr;

namespace {

constexpr std::size_t kTraceLines = 160;
constexpr std::int64_t kWaitMax =
    300'000'000'000;  // ns: longer than any outage and than any patience of the pager

std::array<std::string, kTraceLines> trace_lines;
std::size_t traced = 0;

}  // namespace

std::int64_t virtual_time() {
    return world->now;
}

World::World(const Options& chosen) : options(chosen), random(chosen.seed), death(chosen) {
    world = this;
}

World::~World() {
    for (const auto& process : processes)
        if (process->alive) kill(*process);
    world = nullptr;
}

Process& World::make_process(pid_t parent, std::shared_ptr<Memory> memory) {
    auto process = std::make_unique<Process>();
    process->id = new_number();
    process->parent = parent;
    process->memory = std::move(memory);
    process->born = now;
    return *processes.emplace_back(std::move(process));
}

Thread& World::make_thread(Process& process) {
    auto thread = std::make_unique<Thread>();
    thread->id = process.threads.empty() && process.programs == 0 ? process.id : new_number();
    thread->process = &process;
    return *process.threads.emplace_back(std::move(thread));
}

Context& World::make_context(Memory& memory) {
    auto context = std::make_unique<Context>();
    context->memory = &memory;
    return *contexts.emplace_back(std::move(context));
}

Process* World::find(pid_t number) {
    for (const auto& process : processes)
        if (process->id == number) return process.get();
    return nullptr;
}

Process* World::find_by_thread(pid_t number) {
    if (Process* process = find(number)) return process;
    for (const auto& process : processes) {
        for (const auto& thread : process->threads)
            if (thread->id == number) return process.get();
    }
    return nullptr;
}

bool World::step() {
    std::size_t runnable = 0;
    for (const auto& process : processes) {
        if (!process->alive) continue;
        for (const auto& thread : process->threads) runnable += !thread->blocked;
    }
    if (runnable == 0) return false;
    std::size_t chosen = random.below(runnable);
    Thread* next = nullptr;
    for (const auto& process : processes) {
        if (!process->alive || next != nullptr) continue;
        for (const auto& thread : process->threads) {
            if (thread->blocked || chosen-- != 0) continue;
            next = thread.get();
            break;
        }
    }
    ++steps;
    const auto cost = static_cast<std::int64_t>(200 + random.below(3000));
    now += cost;
    next->run_time += cost;
    Process& process = *next->process;
    next->at.resume();
    if (process.doomed) {
        kill(process);
    } else if (next->main.done()) {
        if (next->is_agent && process.channel) process.channel->agent_ended = true;
        std::erase_if(process.threads, [next](const auto& thread) { return thread.get() == next; });
        const bool only_agent =
            std::ranges::all_of(process.threads, [](const auto& thread) { return thread->is_agent; });
        if (only_agent) kill(process);
    }
    return true;
}

void World::interrupt() {
    death.may_come();
    if (!random.once_in(3)) return;
    for (std::uint64_t left = 1 + random.below(4); left > 0; --left) step();
}

void World::kill(Process& process) {
    if (!std::exchange(process.alive, false)) return;
    if (is_tracing()) trace(fmt::format("process {} ends", process.id));
    process.threads.clear();
    if (process.channel) process.channel->agent_ended = true;
    if (process.memory) Kernel::end_memory(*process.memory);
    process.memory.reset();
}

void World::kill_all() {
    for (const auto& process : processes) kill(*process);
}

bool World::any_alive() const {
    return std::ranges::any_of(processes, &Process::alive);
}

std::uint64_t World::pages_in_use() const {
    double pages = 0;
    for (const auto& process : processes)
        if (process->alive) pages += process->memory->pages_used();
    return static_cast<std::uint64_t>(pages + 0.999);
}

void World::check_that_all_are_served() const {
    for (const auto& process : processes) {
        if (!process->alive) continue;
        for (const auto& thread : process->threads) {
            if (!thread->blocked || thread->is_agent || now - thread->blocked_since < kWaitMax) continue;
            fail_run(fmt::format("thread {} of process {} waits for ever for {} at {:#x}", thread->id,
                                 process->id, thread->waits_for, thread->waits_at));
        }
    }
}

bool is_tracing() {
    return world != nullptr && world->options.trace;
}

void trace(const std::string& line) {
    if (world == nullptr) return;
    const MayAllocate simulated("what is told");
    std::string& last = trace_lines[traced++ % kTraceLines];
    last = fmt::format("{:>8} {:>14.6f} {}", world->steps, world->now / 1e9, line);
    if (world->options.trace) fmt::print(stderr, "{}\n", last);
}

void print_trace() {
    for (std::size_t i = traced > kTraceLines ? traced - kTraceLines : 0; i < traced; ++i) {
        const std::string& line = trace_lines[i % kTraceLines];
        [[maybe_unused]] auto written = ::write(STDERR_FILENO, line.data(), line.size());
        written = ::write(STDERR_FILENO, "\n", 1);
    }
}

}  // namespace farswap::simulate
