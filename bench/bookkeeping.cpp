// How much memory the tables take for each page that is inside or outside: page table, slot map and block map
// are filled as if that many pages had left; of the pages there is no byte. Prints a Markdown table of the
// anonymous memory that each adds (proc_pid_smaps(5), smaps_rollup).
#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/assert.h"
#include "base/units.h"
#include "page/pool.h"
#include "pager/page_table.h"
#include "swap/slots.h"

namespace farswap {
namespace {

constexpr std::uint64_t kAddress = 0x5555'0000'0000;
constexpr std::uint32_t kRun = 64;  // pages that leave together

/// A store that is never asked for anything.
class NoStore final : public Store {
  public:
    explicit NoStore(std::uint64_t capacity) : capacity_(capacity) {}
    const std::string& name() const noexcept override { return name_; }
    std::uint64_t capacity() const noexcept override { return capacity_; }
    std::uint64_t reserved() const noexcept override { return capacity_; }
    std::uint32_t alignment() const noexcept override { return kPageSize; }
    std::uint32_t transfer_max() const noexcept override { return 1 << 20; }
    Counters counters() const noexcept override { return {}; }
    void submit(Request&) noexcept override {}
    void flush(FlushRequest&) noexcept override {}
    void reserve(ReserveRequest&) noexcept override {}
    void cancel(Request&) noexcept override {}
    void close() noexcept override {}

  private:
    std::string name_ = "none:";
    std::uint64_t capacity_;
};

std::uint64_t anonymous_bytes() {
    std::ifstream file("/proc/self/smaps_rollup");
    for (std::string line; std::getline(file, line);) {
        unsigned long long kib = 0;
        if (std::sscanf(line.c_str(), "Anonymous: %llu kB", &kib) == 1) return kib << 10;
    }
    return 0;
}

/// The tables of one job with one process, and a pool that is only large enough to pass pages through.
struct Tables {
    explicit Tables(std::uint64_t store_bytes) {
        stores.push_back(std::make_unique<NoStore>(store_bytes));
        slots =
            Slots::create(*pool, stores, PageRecords::create({.outside = false}, Compression::kOff).value())
                .value();
        StorePart& part = slots->parts().front();
        part.blocks.extend(part.blocks.capacity());
    }

    /// So many bytes of pages leave and are safe on the store, a block each.
    void send_out(std::uint64_t bytes) {
        StorePart& part = slots->parts().front();
        for (std::uint64_t page = 0; page < bytes / kPageSize; page += kRun) {
            const SlotRun run = slots->allocate(part, kRun);
            const SlotAllocator::Run blocks = part.blocks.allocate(run.count);
            const FrameRun frames = pool->allocate_run(run.count);
            FARSWAP_ASSERT(run.count == kRun && blocks.count == kRun && frames.count == kRun);
            for (std::uint32_t i = 0; i < run.count; ++i) {
                const SlotId slot = run.first + i;
                slots->cache().set_lent(frames.first + i, true);
                slots->add(slot, frames.first + i);
                slots->apply(slot, SlotEvent::kWriteStarted);
                slots->take_whole(slot);
                slots->put_at(slot, (blocks.first + i) * kUnitsPerBlock);
                for (const SlotEvent event :
                     {SlotEvent::kWriteDone, SlotEvent::kFlushed, SlotEvent::kDropped})
                    slots->apply(slot, event);
                pages.set(kAddress + (page + i) * kPageSize, PageWord().evicted(slot));
            }
        }
    }
    /// So many bytes of pages that were outside once are inside.
    void keep_inside(std::uint64_t bytes) {
        for (std::uint64_t page = 0; page < bytes / kPageSize; ++page)
            pages.set(kAddress + page * kPageSize, PageWord().evicted(0).brought_back({1, 1}));
    }

    /// So many stretches of 2 MiB have a page outside, one after the other, and are unmapped but for the last
    /// of them.
    void come_and_go(std::uint64_t stretches, std::uint64_t kept) {
        constexpr std::uint64_t kStretch = std::uint64_t{2} << 20;
        for (std::uint64_t i = 0; i < stretches; ++i) {
            pages.set(kAddress + i * kStretch, PageWord().evicted(0));
            if (i >= kept) pages.set(kAddress + (i - kept) * kStretch, PageWord());
            table_memory->keep_up();
        }
    }

    std::unique_ptr<Pool> pool =
        Pool::create({.frames = 4 * kRun, .lock = false, .huge_pages = false}).value();
    std::vector<std::unique_ptr<Store>> stores;
    std::unique_ptr<Slots> slots;
    std::unique_ptr<TableMemory> table_memory = TableMemory::create().value();
    PageTable pages{*table_memory};
};

struct Case {
    const char* what;
    std::uint64_t store_bytes, inside, outside;
};

void print(const Case& one) {
    const std::uint64_t before = anonymous_bytes();
    Tables tables(one.store_bytes);
    tables.keep_inside(one.inside);
    tables.send_out(one.outside);
    const std::uint64_t used = anonymous_bytes() - before;
    const std::uint64_t pages = (one.inside + one.outside) / kPageSize;
    fmt::print("| {} | {} | {:.1f} | {} |\n", one.what, pages, static_cast<double>(used) / (1 << 20),
               pages == 0 ? std::string()
                          : fmt::format("{:.2f}", static_cast<double>(used) / static_cast<double>(pages)));
}

void print_what_is_kept(std::uint64_t stretches, std::uint64_t kept) {
    const std::uint64_t before = anonymous_bytes();
    Tables tables(kGiB);
    tables.come_and_go(stretches, kept);
    const std::uint64_t used = anonymous_bytes() - before;
    fmt::print("| a page in each of {} stretches of 2 MiB, {} at a time | {} | {:.1f} | {:.0f} |\n",
               stretches, kept, kept, static_cast<double>(used) / (1 << 20),
               static_cast<double>(used) / static_cast<double>(kept));
}

}  // namespace
}  // namespace farswap

int main() {
    using farswap::kGiB;
    fmt::print("| | pages | MiB in use | bytes a page |\n|---|---:|---:|---:|\n");
    for (const farswap::Case& one : std::initializer_list<farswap::Case>{
             {"a store of 1 GiB, nothing outside", kGiB, 0, 0},
             {"1 GiB inside, which came back", kGiB, kGiB, 0},
             {"1 GiB outside, all of its store", kGiB, 0, kGiB},
             {"10 GiB inside, which came back", kGiB, 10 * kGiB, 0},
             {"10 GiB outside, all of its store", 10 * kGiB, 0, 10 * kGiB},
             {"a store of 1000 GiB, reserved, untouched", 1000 * kGiB, 0, 0},
             {"10 GiB outside, on a store of 1000 GiB", 1000 * kGiB, 0, 10 * kGiB}})
        farswap::print(one);
    for (const std::uint64_t stretches : {800, 100'000}) farswap::print_what_is_kept(stretches, 800);
}
