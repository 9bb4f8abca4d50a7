// farswap bench; see bench.h.
#include "cli/bench.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "cli/bench_report.h"
#include "cli/job_name.h"
#include "cli/setup_signals.h"
#include "cli/stats_file.h"
#include "page/pool.h"
#include "store/open.h"

namespace farswap::cli {
namespace {

using io::Clock;

constexpr std::array<std::uint32_t, 5> kSizes{4096, 16384, 65536, 262144, 1048576};
constexpr std::array<std::uint32_t, 6> kDepths{1, 2, 4, 8, 16, 32};
constexpr std::uint32_t kPagesMax = kSizes.back() / kPageSize;
constexpr std::size_t kCells = 2 * kSizes.size() * kDepths.size();
constexpr std::chrono::seconds kTimeout{30};

/// What is drawn of the bar is gone before another line is written, and at the end.
class BarLine {
  public:
    BarLine() : drawn_(isatty(STDERR_FILENO) == 1) {
        if (drawn_) log::set_before_line(wipe);
    }
    ~BarLine() {
        if (!drawn_) return;
        log::set_before_line(nullptr);
        wipe();
    }
    BarLine(const BarLine&) = delete;
    BarLine& operator=(const BarLine&) = delete;

    bool drawn() const noexcept { return drawn_; }

  private:
    static void wipe() {
        constexpr std::string_view kWipe = "\r\x1b[K";
        [[maybe_unused]] const auto written = write(STDERR_FILENO, kWipe.data(), kWipe.size());
    }

    const bool drawn_;  ///< standard error is a terminal
};

/// Transfers from and into pinned pages of a pool, as the pager makes them.
class Bench {
  public:
    Bench(Store& store, io::Loop& loop, Pool& pool, const BenchOptions& options, const SetupSignals& signals)
        : store_(store), loop_(loop), pool_(pool), options_(options), signals_(signals) {}
    ~Bench() {
        for (Slot& slot : slots_)
            for (std::uint32_t i = 0; i < kPagesMax; ++i) pool_.release(slot.frames.first + i);
    }

    Status run(BenchReport& report);

  private:
    struct Slot {
        Request request;
        FrameRun frames;
        std::array<page*, kPagesMax> pins{};
        Clock::time_point sent;
        bool under_way = false;
        Bench* bench = nullptr;
    };

    Status take_memory();
    Status reserve();
    Status fill();
    Status flush();
    Result<BenchCell> measure(bool write, std::uint32_t size, std::uint32_t depth);
    Status transfer(bool write, std::uint32_t size, std::uint32_t depth);
    bool submit_next(Slot& slot);
    void pin(Slot& slot, std::uint32_t op, std::uint32_t size);
    static void unpin(Slot& slot);
    static void completed(Request& request, int result);
    void progress(const BenchCell& cell);

    Store& store_;
    io::Loop& loop_;
    Pool& pool_;
    const BenchOptions& options_;
    const SetupSignals& signals_;
    std::uint64_t bytes_ = 0;  ///< of the store, in use
    std::deque<Slot> slots_;
    std::mt19937_64 random_{1};
    std::size_t cells_done_ = 0;
    const BarLine bar_;

    // Of the transfers that are under way.
    std::uint64_t next_ = 0, last_ = ~std::uint64_t{0};  ///< places in order up to the last; else at random
    Clock::time_point end_;
    std::uint32_t under_way_ = 0;
    int error_ = 0;
    std::vector<std::chrono::nanoseconds> took_;
};

Status Bench::take_memory() {
    for (std::uint32_t i = 0; i < kDepths.back(); ++i) {
        Slot& slot = slots_.emplace_back();
        slot.bench = this;
        slot.frames = pool_.allocate_run(kPagesMax);
        if (slot.frames.count < kPagesMax) {
            for (std::uint32_t f = 0; f < slot.frames.count; ++f) pool_.release(slot.frames.first + f);
            slots_.pop_back();
            return fail(ENOMEM, "no memory for {} transfers of 1 MiB", kDepths.back());
        }
    }
    return {};
}

template <typename Operation>
void note_end(Operation& operation, int result) {
    *static_cast<int*>(operation.owner) = result;
}

Status Bench::reserve() {
    bytes_ = std::min(options_.size, store_.capacity()) / kSizes.back() * kSizes.back();
    if (bytes_ == 0) return fail(ENOSPC, "holds less than 1 MiB");
    int answer = 1;
    ReserveRequest request{.bytes = bytes_, .complete = note_end<ReserveRequest>, .owner = &answer};
    store_.reserve(request);
    while (answer == 1) loop_.run_once(std::chrono::milliseconds(100));
    if (answer < 0) return fail_errno(-answer, "cannot reserve {} MiB; try --size", bytes_ >> 20);
    return {};
}

Status Bench::flush() {
    int answer = 1;
    FlushRequest request{.timeout = kTimeout, .complete = note_end<FlushRequest>, .owner = &answer};
    store_.flush(request);
    while (answer == 1) loop_.run_once(std::chrono::milliseconds(100));
    if (answer < 0) return fail_errno(-answer, "cannot flush");
    return {};
}

void Bench::pin(Slot& slot, std::uint32_t op, std::uint32_t size) {
    const std::uint32_t count = size / kPageSize;
    std::array<kvec, kPagesMax> segments;
    for (std::uint32_t i = 0; i < count; ++i) segments[i] = {pool_.address(slot.frames.first + i), kPageSize};
    const int pinned =
        get_kernel_pages(segments.data(), static_cast<int>(count), (op & WRITE) == 0, slot.pins.data());
    FARSWAP_ASSERT(pinned == static_cast<int>(count));
    slot.request = {.op = op,
                    .data = pool_.address(slot.frames.first),
                    .length = size,
                    .pages = slot.pins.data(),
                    .page_count = count,
                    .timeout = kTimeout,
                    .complete = completed,
                    .owner = &slot};
}

void Bench::unpin(Slot& slot) {
    for (std::uint32_t i = 0; i < slot.request.page_count; ++i) put_page(slot.pins[i]);
}

/// False when there is nothing more to do.
bool Bench::submit_next(Slot& slot) {
    const std::uint64_t places = bytes_ / slot.request.length;
    const bool in_order = last_ != ~std::uint64_t{0};
    // One is made however late it is: on a busy machine a hundredth of a second is over before it has begun.
    const bool first = under_way_ == 0 && took_.empty();
    if (error_ != 0 || signals_.taken() != 0 || (in_order ? next_ >= last_ : !first && Clock::now() >= end_))
        return false;
    slot.request.offset = (in_order ? next_++ : random_() % places) * slot.request.length;
    slot.sent = Clock::now();
    slot.under_way = true;
    ++under_way_;
    store_.submit(slot.request);
    return true;
}

void Bench::completed(Request& request, int result) {
    Slot& slot = *static_cast<Slot*>(request.owner);
    Bench& bench = *slot.bench;
    slot.under_way = false;
    --bench.under_way_;
    if (result < 0 && bench.error_ == 0) bench.error_ = -result;
    bench.took_.push_back(Clock::now() - slot.sent);
    bench.submit_next(slot);
}

Status Bench::transfer(bool write, std::uint32_t size, std::uint32_t depth) {
    took_.clear();
    error_ = 0;
    for (std::uint32_t i = 0; i < depth; ++i) pin(slots_[i], write ? KERNEL_WRITE : KERNEL_READ, size);
    for (std::uint32_t i = 0; i < depth; ++i) submit_next(slots_[i]);
    bool cancelled = false;
    while (under_way_ > 0) {
        loop_.run_once(std::chrono::milliseconds(100));
        if (signals_.taken() == 0 || std::exchange(cancelled, true)) continue;
        // A server that is away would be waited for.
        for (std::uint32_t i = 0; i < depth; ++i)
            if (slots_[i].under_way) store_.cancel(slots_[i].request);
    }
    for (std::uint32_t i = 0; i < depth; ++i) unpin(slots_[i]);
    if (signals_.taken() != 0) return fail(EINTR, "interrupted");
    if (error_ != 0) return fail_errno(error_, "{}", write ? "cannot write" : "cannot read");
    return {};
}

/// So that reads find what a job would: blocks of a disk that have been written.
Status Bench::fill() {
    for (Slot& slot : slots_)
        for (std::uint32_t i = 0; i < kSizes.back() / 8; ++i) {
            const std::uint64_t word = random_();
            std::memcpy(pool_.address(slot.frames.first) + 8 * std::size_t{i}, &word, 8);
        }
    next_ = 0;
    last_ = bytes_ / kSizes.back();
    auto filled = transfer(true, kSizes.back(), 8);
    last_ = ~std::uint64_t{0};
    return filled ? flush() : filled;
}

Result<BenchCell> Bench::measure(bool write, std::uint32_t size, std::uint32_t depth) {
    BenchCell cell{.write = write, .size = size, .depth = depth};
    progress(cell);
    const auto began = Clock::now();
    end_ =
        began + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.seconds));
    if (auto moved = transfer(write, size, depth); !moved) return std::unexpected(moved.error());
    if (auto safe = write ? flush() : Status{}; !safe) return std::unexpected(safe.error());
    cell.seconds = std::chrono::duration<double>(Clock::now() - began).count();
    cell.transfers = took_.size();
    cell.latency = latency_of(took_);
    ++cells_done_;
    return cell;
}

void Bench::progress(const BenchCell& cell) {
    if (!bar_.drawn()) return;
    constexpr std::size_t kBar = 30;
    const std::size_t full = cells_done_ * kBar / kCells;
    fmt::print(stderr, "\r\x1b[K[{:#<{}}{:.<{}}] {} {} KiB, {} at a time", "", full, "", kBar - full,
               cell.write ? "write" : "read", cell.size >> 10, cell.depth);
    std::fflush(stderr);
}

Status Bench::run(BenchReport& report) {
    for (const auto step : {&Bench::take_memory, &Bench::reserve, &Bench::fill})
        if (auto done = (this->*step)(); !done) return done;
    report.bytes = bytes_;
    for (const bool write : {false, true}) {
        for (const std::uint32_t size : kSizes) {
            for (const std::uint32_t depth : kDepths) {
                auto cell = measure(write, size, depth);
                if (!cell) return std::unexpected(cell.error());
                report.cells.push_back(*cell);
            }
        }
    }
    return {};
}

Status measure_store(const std::string& url, const BenchOptions& options, const SetupSignals& signals,
                     BenchReport& report) {
    auto loop = io::Loop::create();
    if (!loop) return std::unexpected(loop.error());
    auto pool = Pool::create({.frames = std::size_t{kDepths.back()} * kPagesMax});
    if (!pool) return std::unexpected(pool.error());
    // Registered where the limit on locked memory allows it, as for a job.
    (void)(*loop)->register_memory((*pool)->memory());
    auto store = open_store(url, {.job = make_job_name()}, **loop);
    if (!store) return std::unexpected(store.error());
    report.store = (*store)->name();
    Status done;
    {
        Bench bench(**store, **loop, **pool, options, signals);
        done = bench.run(report);
    }
    (*store)->close();
    if (!done) return fail(done.error().code, "{}: {}", report.store, done.error().message);
    constexpr std::chrono::milliseconds kNullSpan{500};
    auto null = time_null_calls(url, kNullSpan);
    if (null) report.null = latency_of(*null);
    if (!null && null.error().code != EOPNOTSUPP) log::warning("{}", null.error().message);
    return {};
}

}  // namespace

int bench_command(const BenchOptions& options) {
    auto file = StatsFile::open(options.json);
    if (!file) {
        log::write_line(file.error().message);
        return 1;
    }
    const SetupSignals signals;
    nlohmann::json all = nlohmann::json::array();
    bool good = true;
    for (const std::string& url : options.urls) {
        if (signals.taken() != 0) break;
        BenchReport report;
        if (auto done = measure_store(url, options, signals, report); !done) {
            log::write_line(done.error().message);
            good = false;
            continue;
        }
        fmt::print("{}{}", all.empty() ? "" : "\n", bench_table(report));
        std::fflush(stdout);
        all.push_back(bench_json(report));
    }
    if (auto written = file->write(all.dump(2) + "\n"); !written) {
        log::write_line(written.error().message);
        good = false;
    }
    return good && signals.taken() == 0 ? 0 : 1;
}

}  // namespace farswap::cli
