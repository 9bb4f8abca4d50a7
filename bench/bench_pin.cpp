// What pinning costs: get_kernel_page(s) + put_page in ns a page, one at a time and 64 at a time, on 1 and 2
// threads, against the two atomic operations that it cannot do without; and what a run of frames costs, from
// a pool that is free and from one that is scattered.
#include <benchmark/benchmark.h>

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "farswap/request.h"
#include "page/pool.h"

namespace farswap {
namespace {

constexpr std::uint32_t kVector = 64;
constexpr std::uint32_t kFrames = 16384;  // 64 MiB

/// Threads share the pool and work on frames of their own, as the pager does.
Pool& pool() {
    static const std::unique_ptr<Pool> shared =
        std::move(Pool::create({.frames = kFrames, .lock = false}).value());
    return *shared;
}

struct Frames {
    Frames() : run(pool().allocate_run(kVector)) {
        for (std::uint32_t i = 0; i < run.count; ++i)
            segments[i] = {pool().address(run.first + i), kPageSize};
    }
    ~Frames() {
        for (std::uint32_t i = 0; i < run.count; ++i) pool().release(run.first + i);
    }
    FrameRun run;
    std::array<kvec, kVector> segments{};
    std::array<page*, kVector> pages{};
};

/// CPU time of one thread: the wall clock of a shared machine tells of the neighbours.
void report_per_page(benchmark::State& state, std::uint32_t pages_per_iteration) {
    using benchmark::Counter;
    state.counters["per_page"] = Counter(static_cast<double>(state.iterations()) * pages_per_iteration,
                                         Counter::kIsRate | Counter::kInvert);
}

/// The floor: one compare-and-swap takes a pin and one puts it, on words that lie as far apart as those of
/// frames.
void two_compare_and_swaps(benchmark::State& state) {
    struct alignas(16) Word {
        std::atomic<std::uint64_t> bits{0};
        void add(std::uint64_t difference) {
            std::uint64_t before = bits.load(std::memory_order_relaxed);
            while (!bits.compare_exchange_weak(before, before + difference)) continue;
        }
    };
    std::array<Word, kVector> words;
    benchmark::DoNotOptimize(words.data());
    for (auto _ : state) {
        for (Word& word : words) word.add(1);
        for (Word& word : words) word.add(~std::uint64_t{0});
    }
    report_per_page(state, kVector);
}
BENCHMARK(two_compare_and_swaps)->Threads(1)->Threads(2);

void pin_put_single(benchmark::State& state) {
    Frames frames;
    const auto write = static_cast<int>(state.range(0));
    std::uint32_t i = 0;
    for (auto _ : state) {
        const auto address = reinterpret_cast<unsigned long>(frames.segments[i++ % kVector].iov_base);
        if (get_kernel_page(address, write, frames.pages.data()) != 1) state.SkipWithError("not pinned");
        put_page(frames.pages[0]);
    }
    report_per_page(state, 1);
}
BENCHMARK(pin_put_single)->ArgName("write")->Arg(0)->Arg(1)->Threads(1)->Threads(2);

void pin_put_vector(benchmark::State& state) {
    Frames frames;
    const auto write = static_cast<int>(state.range(0));
    for (auto _ : state) {
        if (get_kernel_pages(frames.segments.data(), kVector, write, frames.pages.data()) != kVector) {
            state.SkipWithError("not pinned");
        }
        for (page* page : frames.pages) put_page(page);
    }
    report_per_page(state, kVector);
}
BENCHMARK(pin_put_vector)->ArgName("write")->Arg(0)->Arg(1)->Threads(1)->Threads(2);

/// Both threads pin the same frames: the worst case for the state words.
void pin_put_vector_shared(benchmark::State& state) {
    static Frames frames;
    std::array<page*, kVector> pages;
    for (auto _ : state) {
        if (get_kernel_pages(frames.segments.data(), kVector, 0, pages.data()) != kVector) {
            state.SkipWithError("not pinned");
        }
        for (page* page : pages) put_page(page);
    }
    report_per_page(state, kVector);
}
BENCHMARK(pin_put_vector_shared)->Threads(2);

void validate_kernel_request(benchmark::State& state) {
    Frames frames;
    const auto count = get_kernel_pages(frames.segments.data(), kVector, 0, frames.pages.data());
    const Request request{.op = KERNEL_WRITE,
                          .data = pool().address(frames.run.first),
                          .length = kVector * kPageSize,
                          .pages = frames.pages.data(),
                          .page_count = kVector,
                          .complete = [](Request&, int) {}};
    for (auto _ : state) {
        if (validate(request) != 0) state.SkipWithError("not valid");
    }
    for (int i = 0; i < count; ++i) put_page(frames.pages[static_cast<std::size_t>(i)]);
    report_per_page(state, kVector);
}
BENCHMARK(validate_kernel_request);

void allocate_release_run(benchmark::State& state) {
    const auto count_max = static_cast<std::uint32_t>(state.range(0));
    for (auto _ : state) {
        const FrameRun run = pool().allocate_run(count_max);
        for (std::uint32_t i = 0; i < run.count; ++i) pool().release(run.first + i);
    }
    report_per_page(state, count_max);
}
BENCHMARK(allocate_release_run)
    ->ArgName("frames")
    ->Arg(1)
    ->Arg(16)
    ->Arg(64)
    ->Arg(256)
    ->Threads(1)
    ->Threads(2);

/// Every second frame is taken, so that the search for a run of 16 walks the whole pool and finds single
/// frames.
void allocate_run_scattered(benchmark::State& state) {
    const auto scattered = std::move(Pool::create({.frames = kFrames, .lock = false}).value());
    while (scattered->allocate_run(kFrames).count > 0) continue;
    for (FrameIndex frame = 0; frame < kFrames; frame += 2) scattered->release(frame);
    for (auto _ : state) {
        const FrameRun run = scattered->allocate_run(16);
        for (std::uint32_t i = 0; i < run.count; ++i) scattered->release(run.first + i);
    }
}
BENCHMARK(allocate_run_scattered);

}  // namespace
}  // namespace farswap

BENCHMARK_MAIN();
