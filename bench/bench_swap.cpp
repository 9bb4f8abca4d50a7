// What the swap area itself costs a page, on a store that answers at once: the checksum, add with write-out
// and flush, a hit, and a read with its verification. Compare add with checksum: the rest is bookkeeping.
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <vector>

#include "io/loop.h"
#include "page/pool.h"
#include "swap/checksum.h"
#include "swap/swap_area.h"

namespace farswap {
namespace {

constexpr std::uint32_t kRun = 64;
constexpr std::byte kContent{0x5a};

/// Takes everything and answers when told. Every page that it gives back is filled with kContent.
class InstantStore final : public Store {
  public:
    const std::string& name() const noexcept override { return name_; }
    std::uint64_t capacity() const noexcept override { return std::uint64_t{1} << 32; }
    std::uint64_t reserved() const noexcept override { return capacity(); }
    std::uint32_t alignment() const noexcept override { return kPageSize; }
    std::uint32_t transfer_max() const noexcept override { return 1 << 20; }
    Counters counters() const noexcept override { return {}; }
    void submit(Request& request) noexcept override {
        request.next = nullptr;
        *tail_ = &request;
        tail_ = &request.next;
    }
    void flush(FlushRequest& flush) noexcept override { flush_ = &flush; }
    void reserve(ReserveRequest&) noexcept override {}
    void cancel(Request&) noexcept override {}
    void close() noexcept override {}

    void answer() {
        while (head_ || flush_) {
            while (Request* request = head_) {
                head_ = request->next;
                if (!head_) tail_ = &head_;
                if ((request->op & WRITE) == 0)
                    std::memset(request->data, static_cast<int>(kContent), request->length);
                request->complete(*request, static_cast<int>(request->length));
            }
            if (FlushRequest* flush = std::exchange(flush_, nullptr)) flush->complete(*flush, 0);
        }
    }

  private:
    std::string name_ = "instant:";
    Request* head_ = nullptr;
    Request** tail_ = &head_;
    FlushRequest* flush_ = nullptr;
};

struct Area {
    Area() {
        loop = io::Loop::create().value();
        pool = Pool::create({.frames = 4096, .lock = false}).value();
        std::vector<std::unique_ptr<Store>> stores;
        stores.push_back(std::make_unique<InstantStore>());
        store = static_cast<InstantStore*>(stores.front().get());
        area = SwapArea::create(*pool, *loop, std::move(stores)).value();
        std::memset(pool->memory().data(), static_cast<int>(kContent), pool->memory().size());
    }
    ~Area() { area->shutdown(std::chrono::seconds(1)); }

    /// One run of pages into the cache and to the store.
    SlotId add_run() {
        FrameRun frames = area->take_frames(kRun);
        while (frames.count < kRun) {
            if (frames.count > 0) area->return_frames(frames);
            store->answer();
            frames = area->take_frames(kRun);
        }
        return area->add(frames).value().first;
    }
    void put_run(SlotId first) {
        for (std::uint32_t i = 0; i < kRun; ++i) area->put(first + i);
    }

    std::unique_ptr<io::Loop> loop;
    std::unique_ptr<Pool> pool;
    InstantStore* store = nullptr;
    std::unique_ptr<SwapArea> area;
};

/// CPU time, as in bench_pin.cpp.
void report_per_page(benchmark::State& state) {
    using benchmark::Counter;
    state.counters["per_page"] =
        Counter(static_cast<double>(state.iterations()) * kRun, Counter::kIsRate | Counter::kInvert);
}

void checksum_run(benchmark::State& state) {
    Area area;
    const FrameRun frames = area.area->take_frames(kRun);
    for (auto _ : state)
        for (std::uint32_t i = 0; i < kRun; ++i)
            benchmark::DoNotOptimize(page_checksum(area.pool->address(frames.first + i), 1));
    area.area->return_frames(frames);
    report_per_page(state);
}
BENCHMARK(checksum_run);

/// The whole way out: frames, slots, checksum, write, flush, release.
void add_write_put(benchmark::State& state) {
    Area area;
    for (auto _ : state) {
        const SlotId first = area.add_run();
        area.store->answer();
        area.put_run(first);
    }
    report_per_page(state);
}
BENCHMARK(add_write_put);

void lookup_hit(benchmark::State& state) {
    Area area;
    const SlotId first = area.add_run();
    for (auto _ : state)
        for (std::uint32_t i = 0; i < kRun; ++i) benchmark::DoNotOptimize(area.area->lookup(first + i));
    area.store->answer();
    area.put_run(first);
    report_per_page(state);
}
BENCHMARK(lookup_hit);

/// A window of 64 pages, all of them used at once as after a fault; the store's memset included.
void fetch_run(benchmark::State& state) {
    Area area;
    std::vector<SlotId> runs;
    for (int i = 0; i < 256; ++i) {  // four times the pool: the first half is outside, and stays there
        runs.push_back(area.add_run());
        area.store->answer();
    }
    SlotFetch fetch;
    fetch.owner = area.area.get();
    fetch.ready = [](SlotFetch& self, const std::byte*, int) {
        for (std::uint32_t i = 0; i < kRun; ++i)
            benchmark::DoNotOptimize(static_cast<SwapArea*>(self.owner)->lookup(self.slot + i));
    };
    std::size_t next = 0;
    for (auto _ : state) {
        fetch.slot = runs[next++ % (runs.size() / 2)];
        fetch.window = {fetch.slot, kRun};
        area.area->fetch(fetch);
        area.store->answer();
    }
    report_per_page(state);
}
BENCHMARK(fetch_run);

}  // namespace
}  // namespace farswap

BENCHMARK_MAIN();
