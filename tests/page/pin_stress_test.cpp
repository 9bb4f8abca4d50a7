// Several threads pin, put, release and allocate at once. Page memory is read and written plainly, so that
// under ThreadSanitizer a frame that is reused too early is a data race as well as a wrong value.
#include <array>
#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "page_fixture.h"

namespace farswap {
namespace {

constexpr std::uint32_t kStressFrames = 96;
constexpr int kWorkers = 4;
constexpr int kSteps = 20000;

/// What the owner writes into a frame, read by holders of pins for reading.
struct Content {
    std::uint64_t tag;
    std::uint64_t inverse;
};
/// Where the holder of the one pin for writing stores, apart from what others read meanwhile.
constexpr std::size_t kStoreOffset = 1024;

/// Pins on their way to the thread that puts them.
class Mailboxes {
  public:
    page* exchange(std::size_t box, page* pin) {
        return boxes_[box % kBoxes].exchange(pin, std::memory_order_acq_rel);
    }
    template <typename F>
    void drain(F&& put) {
        for (auto& box : boxes_) {
            if (page* pin = box.exchange(nullptr, std::memory_order_acq_rel)) put(pin);
        }
    }

  private:
    static constexpr std::size_t kBoxes = 32;
    std::array<std::atomic<page*>, kBoxes> boxes_{};
};

class Stress {
  public:
    explicit Stress(Pool& pool) : pool_(pool) {}

    /// Owner and holder of pins: puts pins that others took, and lets go of its frames before or after their
    /// pins.
    void work(unsigned seed) {
        std::mt19937_64 random(seed);
        for (int step = 0; step < kSteps; ++step) {
            const FrameRun run = pool_.allocate_run(1 + static_cast<std::uint32_t>(random() % 24));
            for (FrameIndex frame = run.first; frame < run.first + run.count; ++frame) fill(frame, random());
            pin_run(run, random);
            for (FrameIndex frame = run.first; frame < run.first + run.count; ++frame) pool_.release(frame);
        }
    }

    /// Pins frames that it has no reference to. It may get those that somebody owns, never a free one.
    void poach(unsigned seed) {
        std::mt19937_64 random(seed);
        while (!stop_.load(std::memory_order_relaxed)) {
            const auto frame = static_cast<FrameIndex>(random() % pool_.frames());
            page* pin = nullptr;
            if (get_kernel_page(address_of(pool_.address(frame)), 0, &pin) != 1) continue;
            if (!page_is_pinned(pin, nullptr) || pool_.pins(frame) == 0) ++errors_;
            put_page(pin);
        }
    }

    /// Lets pools come and go meanwhile.
    void churn() {
        while (!stop_.load(std::memory_order_relaxed)) {
            std::array<std::unique_ptr<Pool>, 3> pools;
            for (auto& pool : pools) pool = make_pool(3);
            for (auto& pool : pools) {
                const FrameRun run = pool->allocate_run(3);
                page* pin = nullptr;
                if (get_kernel_page(address_of(pool->address(run.first + 1)), 1, &pin) != 1) ++errors_;
                if (page_address(pin) != pool->address(run.first + 1)) ++errors_;
                put_page(pin);
                if (pool->close() != 0) ++errors_;
            }
            ++pools_ended_;
        }
    }

    void stop() { stop_ = true; }
    void drain() {
        read_pins_.drain([&](page* pin) { put_read(pin); });
        write_pins_.drain([&](page* pin) { put_write(pin); });
    }
    int errors() const { return errors_; }
    int pools_ended() const { return pools_ended_; }

  private:
    void fill(FrameIndex frame, std::uint64_t tag) {
        const Content content{tag, ~tag};
        std::memcpy(pool_.address(frame), &content, sizeof content);
        std::memset(pool_.address(frame) + kStoreOffset, 0, 8);
    }

    void pin_run(FrameRun run, std::mt19937_64& random) {
        if (run.count == 0) return;
        std::array<kvec, 24> segments;
        std::array<page*, 24> pins;
        for (std::uint32_t i = 0; i < run.count; ++i) segments[i] = {pool_.address(run.first + i), kPageSize};
        const bool for_writing = random() % 4 == 0;
        const auto count = static_cast<int>(run.count);
        if (get_kernel_pages(segments.data(), count, for_writing, pins.data()) != count) ++errors_;
        for (int i = 0; i < count; ++i) {
            Mailboxes& boxes = for_writing ? write_pins_ : read_pins_;
            if (page* pin = boxes.exchange(random(), pins[static_cast<std::size_t>(i)])) {
                for_writing ? put_write(pin) : put_read(pin);
            }
        }
    }

    void put_read(page* pin) {
        Content content;
        std::memcpy(&content, page_address(pin), sizeof content);
        if (content.tag != ~content.inverse) ++errors_;
        put_page(pin);
    }
    void put_write(page* pin) {
        std::memset(static_cast<std::byte*>(page_address(pin)) + kStoreOffset, 1, 8);
        put_page(pin);
    }

    Pool& pool_;
    Mailboxes read_pins_, write_pins_;
    std::atomic<bool> stop_{false};
    std::atomic<int> errors_{0};
    std::atomic<int> pools_ended_{0};
};

TEST(PinStress, FramesAreNeverReusedUnderAPin) {
    const auto pool = make_pool(kStressFrames);
    Stress stress(*pool);
    std::vector<std::thread> workers, others;
    for (unsigned i = 0; i < kWorkers; ++i) workers.emplace_back([&, i] { stress.work(i); });
    others.emplace_back([&] { stress.poach(99); });
    others.emplace_back([&] { stress.churn(); });
    for (std::thread& thread : workers) thread.join();
    stress.stop();
    for (std::thread& thread : others) thread.join();
    stress.drain();

    EXPECT_EQ(stress.errors(), 0);
    EXPECT_GT(stress.pools_ended(), 0);
    EXPECT_EQ(pool->pinned_frames(), 0u);
    EXPECT_EQ(pool->free_frames(), kStressFrames);
    EXPECT_EQ(pool->allocate_run(kStressFrames).count, kStressFrames);
}

// The last put of a thread that is not waited for otherwise: the pool's end must not pull the tables from
// under it.
TEST(PinStress, PoolEndsSafelyWhileTheLastPutReturns) {
    for (int round = 0; round < 300; ++round) {
        auto pool = make_pool(4);
        const FrameIndex frame = pool->allocate_run(1).first;
        page* pin = nullptr;
        ASSERT_EQ(get_kernel_page(address_of(pool->address(frame)), 1, &pin), 1);
        pool->release(frame);
        std::thread putter([pin] { put_page(pin); });
        while (pool->pins(frame) > 0) std::this_thread::yield();
        EXPECT_EQ(pool->close(), 0u);
        putter.join();
    }
}

}  // namespace
}  // namespace farswap
