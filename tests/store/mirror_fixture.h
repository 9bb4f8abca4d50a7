// A mirror over two memory stores, with the few steps that every test of it needs.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "io/loop.h"
#include "memory_store.h"
#include "store/mirror_store.h"

namespace farswap::test {

/// Page-aligned memory of whole pages.
class Pages {
  public:
    explicit Pages(std::uint64_t count) : table_(ZeroTable<std::byte>::create(count * kPageSize).value()) {}
    std::byte* data() { return &table_[0]; }
    /// Makes page `index` say `value` at every 8th byte.
    void fill(std::uint64_t index, std::uint64_t value) {
        for (std::uint64_t i = 0; i < kPageSize / 8; ++i) {
            const std::uint64_t word = value * 0x9e3779b97f4a7c15u + i;
            std::memcpy(data() + index * kPageSize + i * 8, &word, 8);
        }
    }
    bool holds(std::uint64_t index, std::uint64_t value) {
        Pages expected(1);
        expected.fill(0, value);
        return std::memcmp(data() + index * kPageSize, expected.data(), kPageSize) == 0;
    }

  private:
    ZeroTable<std::byte> table_;
};

/// A read or write of the test's that remembers its answer.
struct Transfer {
    Transfer(std::uint32_t op, std::uint64_t page, std::uint64_t count) : pages(count) {
        request.op = op;
        request.offset = page * kPageSize;
        request.data = pages.data();
        request.length = static_cast<std::uint32_t>(count * kPageSize);
        request.timeout = std::chrono::hours(1);
        request.owner = this;
        request.complete = [](Request& ended, int outcome) {
            Transfer& self = *static_cast<Transfer*>(ended.owner);
            EXPECT_FALSE(self.result) << "completed twice";
            self.result = outcome;
            if (self.then) self.then();
        };
    }
    bool good() const { return result == static_cast<int>(request.length); }

    Pages pages;
    Request request;
    std::optional<int> result;
    std::function<void()> then;
};

struct Flush {
    Flush() {
        request.owner = this;
        request.complete = [](FlushRequest& ended, int outcome) {
            static_cast<Flush*>(ended.owner)->result = outcome;
        };
    }
    FlushRequest request;
    std::optional<int> result;
};

class MirrorTest : public ::testing::Test {
  protected:
    using Kind = MemoryStore::Kind;

    /// No test waits for time to pass: what is due later is due at once.
    static MirrorOptions quick() {
        using std::chrono::milliseconds;
        MirrorOptions options;
        options.outage_max = std::chrono::hours(1);
        options.write_attempts_max = 1;
        options.retry_delay = options.probe_delay = options.probe_delay_max = milliseconds(0);
        options.resync.rest_max = options.resync.retry_delay = milliseconds(0);
        return options;
    }

    MirrorTest() { open({}); }
    ~MirrorTest() override { close(); }

    void open(const MemoryStoreOptions& store, const MirrorOptions& options = quick()) {
        close();
        loop_ = io::Loop::create().value();
        std::array<std::unique_ptr<Store>, 2> halves;
        for (std::size_t i = 0; i < 2; ++i) {
            MemoryStoreOptions its = store;
            its.name = i == 0 ? "a" : "b";
            auto half = std::make_unique<MemoryStore>(its);
            halves_[i] = half.get();
            halves[i] = std::move(half);
        }
        a_ = halves_[0];
        b_ = halves_[1];
        mirror_ = MirrorStore::create(std::move(halves[0]), std::move(halves[1]), *loop_, options).value();
    }

    void close() {
        if (!mirror_) return;
        io::Timer pump{.fire = pump_stores, .owner = this};
        loop_->arm(pump, io::Clock::now());
        mirror_->close();
        loop_->cancel(pump);
        for (MemoryStore* half : halves_) EXPECT_TRUE(half->closed);
        mirror_.reset();
    }

    static void pump_stores(io::Timer& timer) {
        MirrorTest& self = *static_cast<MirrorTest*>(timer.owner);
        for (MemoryStore* half : self.halves_) half->complete_all();
        self.loop_->arm(timer, io::Clock::now());
    }

    /// Bounded: what is due at once may come due again at once.
    void run_loop() {
        for (int i = 0; i < 20 && loop_->run_once(std::chrono::nanoseconds(0)) > 0;) ++i;
    }

    /// Completes I/O, one operation after the other, and runs the loop until the condition holds.
    [[nodiscard]] bool drive(const std::function<bool()>& condition) {
        for (int round = 0; round < 100'000; ++round) {
            run_loop();
            if (condition()) return true;
            MemoryStore& half = *halves_[static_cast<std::size_t>(round % 2)];
            if (half.pending() > 0) half.complete(0);
        }
        return false;
    }

    /// What a reservation of that many bytes ends with.
    int reserve(std::uint64_t bytes) {
        std::optional<int> result;
        ReserveRequest request{
            .bytes = bytes,
            .complete = [](ReserveRequest& ended,
                           int outcome) { *static_cast<std::optional<int>*>(ended.owner) = outcome; },
            .owner = &result};
        mirror_->reserve(request);
        EXPECT_TRUE(drive([&] { return result.has_value(); }));
        return result.value_or(1);
    }

    int write(std::uint64_t page, std::uint64_t value, std::uint64_t count = 1) {
        Transfer transfer(WRITE, page, count);
        for (std::uint64_t i = 0; i < count; ++i) transfer.pages.fill(i, value + i);
        mirror_->submit(transfer.request);
        EXPECT_TRUE(drive([&] { return transfer.result.has_value(); }));
        return transfer.result.value_or(-1);
    }
    bool wrote(std::uint64_t page, std::uint64_t value, std::uint64_t count = 1) {
        return write(page, value, count) == static_cast<int>(count * kPageSize);
    }
    int flush() {
        Flush flush;
        mirror_->flush(flush.request);
        EXPECT_TRUE(drive([&] { return flush.result.has_value(); }));
        return flush.result.value_or(-1);
    }
    /// Reads one page. `avoid` as in Request.
    bool reads(std::uint64_t page, std::uint64_t value, std::uint8_t avoid = 0) {
        Transfer transfer(READ, page, 1);
        transfer.request.avoid = avoid;
        mirror_->submit(transfer.request);
        EXPECT_TRUE(drive([&] { return transfer.result.has_value(); }));
        source_ = transfer.request.source;
        return transfer.good() && transfer.pages.holds(0, value);
    }
    bool both_hold(std::uint64_t page, std::uint64_t value) {
        return reads(page, value, 0b01) && reads(page, value, 0b10);
    }
    /// Half a is lost at a write of the page.
    void lose_a(std::uint64_t page, std::uint64_t value) {
        a_->set_down(EROFS);
        ASSERT_TRUE(wrote(page, value));
        ASSERT_FALSE(mirror_->complete());
    }
    [[nodiscard]] bool until_complete() {
        return drive([&] { return mirror_->complete(); });
    }

    std::unique_ptr<io::Loop> loop_;
    std::array<MemoryStore*, 2> halves_{};
    MemoryStore* a_ = nullptr;
    MemoryStore* b_ = nullptr;
    std::unique_ptr<MirrorStore> mirror_;
    std::uint8_t source_ = 0;
};

}  // namespace farswap::test
