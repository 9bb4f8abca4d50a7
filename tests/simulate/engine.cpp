// The loop's engine of a simulated run: to wait is to let the world go on until something has happened that
// the pager would be woken for. Takes the place of src/io/engine.cpp when the program is linked; the loop
// itself is the real one.
#include "io/engine.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/no_allocation.h"
#include "store.h"
#include "world.h"

namespace farswap::io {
namespace {

using simulate::world;

class SimulatedEngine final : public Engine {
  public:
    EngineKind kind() const noexcept override { return EngineKind::kEpoll; }

    bool begin(std::uint32_t index, const FileOperation& operation) noexcept override {
        const MayAllocate simulated("the kernel's own");
        for (auto* store : world->stores)
            if (store->begin(index, operation)) return true;
        simulate::fail_run("a request to a file");
    }
    bool cancel(std::uint32_t index) noexcept override {
        for (auto* store : world->stores)
            if (store->cancel(index)) break;
        return true;
    }

    void add(Watch& watch) noexcept override {
        const MayAllocate simulated("the kernel's own");
        watch.added = true;
        watches_.push_back(&watch);
    }
    void modify(Watch& watch, std::uint32_t events) noexcept override { watch.events = events; }
    void remove(Watch& watch) noexcept override {
        watch.added = false;
        std::erase(watches_, &watch);
        std::erase(found_, &watch);
    }

    void wait(std::chrono::nanoseconds timeout) noexcept override {
        const MayAllocate simulated("the kernel's own");
        world->death.may_come();
        // What the pager has done since took its time, too.
        const std::uint64_t before = world->steps;
        const auto cost = static_cast<std::int64_t>(500 + world->random.below(4000));
        world->now +=
            cost * (idle_rounds_ > 64 ? 64 : 1);  // a pager that turns in circles is not to hold time up
        if (world->random.once_in(2)) world->step();
        wait_for_something(timeout);
        idle_rounds_ = world->steps == before ? idle_rounds_ + 1 : 0;
    }
    bool has_news() noexcept override { return is_ready(); }
    void wait_for_something(std::chrono::nanoseconds timeout) {
        const std::int64_t end =
            timeout == std::chrono::nanoseconds::max() ? kNever : world->now + timeout.count();
        for (;;) {
            const bool ready = is_ready();
            // A pager that is slow finds more than one thing.
            if (ready && !world->random.once_in(3)) return;
            if (world->now >= end) return;
            if (world->step()) continue;
            if (ready) return;
            const std::int64_t next = std::min(end, next_due());
            if (next == kNever) simulate::fail_run("nothing will ever happen any more");
            world->now = std::max(world->now, next);
        }
    }

    int collect(Listener& listener) noexcept override {
        find_ready();
        int called = 0;
        while (!found_.empty()) {
            Watch* watch = found_.back();
            found_.pop_back();
            watch->ready(*watch, EPOLLIN);
            ++called;
        }
        for (std::size_t i = 0; i < world->stores.size(); ++i) called += world->stores[i]->run_due(listener);
        return called;
    }

    void drain(Listener&, std::chrono::nanoseconds) noexcept override {}
    Status register_memory(std::span<std::byte>, std::size_t) override { return {}; }
    bool memory_registered() const noexcept override { return false; }
    Status register_file(File&) override { return {}; }
    void unregister_file(File&) noexcept override {}

  private:
    void find_ready() {
        const MayAllocate simulated("the kernel's own");
        found_.clear();
        for (Watch* watch : watches_)
            if (world->files.is_readable(watch->fd)) found_.push_back(watch);
        // In any order.
        for (std::size_t i = found_.size(); i > 1; --i)
            std::swap(found_[i - 1], found_[world->random.below(i)]);
    }

    static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

    static std::int64_t next_due() {
        std::int64_t due = kNever;
        for (const auto* store : world->stores) due = std::min(due, store->next_due());
        return due;
    }
    bool is_ready() const {
        return next_due() <= world->now || std::ranges::any_of(watches_, [](const Watch* watch) {
                   return world->files.is_readable(watch->fd);
               });
    }

    std::uint32_t idle_rounds_ = 0;  ///< in which no thread went on
    std::vector<Watch*> watches_;
    std::vector<Watch*> found_;
};

}  // namespace

Result<std::unique_ptr<Engine>> make_engine(const LoopOptions&) {
    return std::make_unique<SimulatedEngine>();
}

}  // namespace farswap::io
