// What the tests of Target share: a record of what it tells, and a managed puppet.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "agent_fixture.h"
#include "base/fd.h"
#include "target/proc.h"
#include "target/target.h"

namespace farswap::target {

struct Seen {
    enum Kind { kFault, kWriteFault, kFork, kRemap, kRemove, kUnmap, kReply, kGone } kind;
    std::uint64_t a = 0, b = 0, c = 0;
    friend bool operator==(const Seen&, const Seen&) = default;
    friend void PrintTo(const Seen& seen, std::ostream* out) {
        static const char* const names[] = {"fault",  "write fault", "fork",  "remap",
                                            "remove", "unmap",       "reply", "gone"};
        *out << names[seen.kind] << std::hex << " " << seen.a << " " << seen.b << " " << seen.c;
    }
};

/// Records events. Faults are answered from `contents`, else by zeros; those outside the arena are not
/// recorded.
class Recorder : public TargetEvents {
  public:
    explicit Recorder(Arena& arena) : arena_(arena) {}
    std::vector<Seen> seen;
    std::map<std::uint64_t, std::vector<unsigned char>> contents;
    std::unique_ptr<Target> child;
    io::Loop* loop = nullptr;
    agent_reply reply{};
    int batches = 0;

    bool has(Seen::Kind kind) const {
        return std::ranges::any_of(seen, [&](const Seen& event) { return event.kind == kind; });
    }
    void on_fault(Target& target, std::uint64_t address) override {
        record({Seen::kFault, address});
        static const std::vector<unsigned char> zeros(kPageSize);
        const auto found = contents.find(address);
        const auto& page = found == contents.end() ? zeros : found->second;
        // EAGAIN: an event waits to be read, and the fault is answered when it is told again.
        if (target.uffd().copy(address, page.data(), kPageSize).error != 0)
            target.uffd().wake(address, kPageSize);
    }
    void on_write_fault(Target& target, std::uint64_t address) override {
        record({Seen::kWriteFault, address});
        if (target.uffd().unprotect(address, kPageSize) != 0) target.uffd().wake(address, kPageSize);
    }
    void on_fork(Target&, Fd uffd) override {
        seen.push_back({Seen::kFork});
        child = Target::create_child(std::move(uffd), *loop, *this);
        forked(*child);
    }
    std::function<void(Target&)> forked = [](Target&) {};
    void on_remap(Target&, std::uint64_t from, std::uint64_t to, std::uint64_t bytes) override {
        seen.push_back({Seen::kRemap, from, to, bytes});
    }
    void on_remove(Target&, std::uint64_t start, std::uint64_t end, bool) override {
        record({Seen::kRemove, start, end});
    }
    void on_unmap(Target&, std::uint64_t start, std::uint64_t end) override {
        record({Seen::kUnmap, start, end});
    }
    void on_agent_reply(Target& target, const agent_reply& got) override {
        reply = got;
        seen.push_back({Seen::kReply, got.op});
        if (got.op == AGENT_MOVE && settles) target.move_settled();
    }
    bool settles = true;  ///< a MOVE counts as settled when its reply comes
    void on_batch_end(Target&) override { batches++; }
    void on_gone(Target&, bool alive) override { seen.push_back({Seen::kGone, alive}); }
    void on_deaf(Target&, int error) override { ADD_FAILURE() << "errno " << error; }
    std::function<void(const AddressRange&)> fresh = [](const AddressRange&) {};
    void on_fresh(Target&, const AddressRange& range, bool) override { fresh(range); }

  private:
    void record(Seen event) {
        if (event.a >= arena_.page(0) && event.a < arena_.page(kArenaPages)) seen.push_back(event);
    }
    Arena& arena_;
};

inline bool kernel_answers_for_one_mapping() {
    const Fd maps(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
    std::array<char, 32> name;
    const auto found = mapping_at(maps.get(), reinterpret_cast<std::uintptr_t>(&maps), name);
    return found || found.error().code != ENOTTY;
}

class TargetTest : public ::testing::Test {
  protected:
    /// `injected` runs when the agent is in place and the program goes on, before anybody listens to it.
    void start(
        std::vector<Puppet::Step> script, const std::function<void()>& injected = [] {}) {
        puppet_ = std::make_unique<Puppet>(std::move(script));
        auto loop = io::Loop::create();
        ASSERT_TRUE(loop) << loop.error().message;
        loop_ = std::move(*loop);
        events_ = std::make_unique<Recorder>(puppet_->arena());
        events_->loop = loop_.get();
        auto task = RemoteTask::seize(puppet_->process(), 30'000);
        ASSERT_TRUE(task) << task.error().message;
        auto agent = inject(*task, {.staging_pages = 32});
        ASSERT_TRUE(agent) << agent.error().message;
        { const RemoteTask done = std::move(*task); }  // detaches
        injected();
        auto target = Target::create(std::move(*agent), *loop_, *events_);
        ASSERT_TRUE(target) << target.error().message;
        target_ = std::move(*target);
        auto refreshed = target_->refresh_mappings();
        ASSERT_TRUE(refreshed) << refreshed.error().message;
    }
    void TearDown() override {
        puppet_.reset();  // before its userfaultfd is closed
        if (events_) events_->child.reset();
        target_.reset();
    }
    /// Runs the loop until `holds()`; false when it does not within a minute.
    bool run_until(const std::function<bool()>& holds) {
        return wait_until([&] {
            if (holds()) return true;
            loop_->run_once(std::chrono::milliseconds(1));
            return holds();
        });
    }
    void step() {
        const int before = puppet_->done();
        puppet_->go();
        ASSERT_TRUE(run_until([&] { return puppet_->done() > before; }));
    }
    std::uint64_t page(std::uint64_t number) const { return puppet_->arena().page(number); }
    bool ask(agent_op op, std::uint64_t from, std::uint64_t pages) {
        agent_request request{};
        request.op = op;
        request.count = 1;
        request.range[0] = {from, target_->agent().staging, pages * kPageSize};
        return target_->ask_agent(request);
    }
    /// Moves pages of the arena out and keeps their content for the faults to come.
    void move_out(std::uint64_t first, std::uint64_t pages) {
        ASSERT_TRUE(ask(AGENT_MOVE, page(first), pages));
        EXPECT_TRUE(target_->is_moving());
        ASSERT_TRUE(run_until([&] { return target_->agent_idle(); }));
        ASSERT_EQ(events_->reply.result[0].moved, pages * kPageSize) << events_->reply.result[0].error;
        for (std::uint64_t i = 0; i < pages; i++) {
            std::vector<unsigned char> content(kPageSize);
            ASSERT_EQ(
                target_->read_memory(target_->agent().staging + i * kPageSize, content.data(), kPageSize),
                kPageSize);
            events_->contents[page(first + i)] = content;
        }
        events_->seen.clear();
    }

    std::unique_ptr<Puppet> puppet_;
    std::unique_ptr<io::Loop> loop_;
    std::unique_ptr<Recorder> events_;
    std::unique_ptr<Target> target_;
};

}  // namespace farswap::target
