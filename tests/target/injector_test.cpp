// The injector: agents for several processes at once, on a thread of its own.
#include "target/injector.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <iterator>
#include <map>
#include <vector>

#include "child.h"
#include "target/agent_protocol.h"
#include "target/attachable.h"
#include "target/proc.h"

namespace farswap::target {
namespace {

class InjectorTest : public ::testing::Test {
  protected:
    void SetUp() override {
        auto loop = io::Loop::create();
        ASSERT_TRUE(loop) << loop.error().message;
        loop_ = std::move(*loop);
        injector_ = std::make_unique<Injector>(*loop_, [this](Injector::Done done) {
            if (auto* injected = std::get_if<InjectDone>(&done))
                done_.emplace(injected->process, std::move(injected->agent));
            else
                ejected_.emplace(std::get<EjectDone>(done).process, std::get<EjectDone>(done).status);
        });
        ASSERT_TRUE(injector_->start());
    }
    void submit(pid_t process) {
        injector_->submit(InjectJob{.process = process, .go = Fd(), .adopt_uffd = Fd(), .staging_pages = 16});
    }
    bool is_done(pid_t process) {
        return wait_until([&] {
            loop_->run_once(std::chrono::milliseconds(1));
            return done_.contains(process);
        });
    }
    std::unique_ptr<io::Loop> loop_;
    std::map<pid_t, Result<Agent>> done_;
    std::map<pid_t, Status> ejected_;
    std::unique_ptr<Injector> injector_;
};

TEST_F(InjectorTest, GivesAgentsToAll) {
    const Child first([] { return pause(); }), second([] { return pause(); }), third([] { return pause(); });
    for (const Child* child : {&first, &second, &third}) submit(child->process());
    for (const Child* child : {&first, &second, &third}) {
        ASSERT_TRUE(is_done(child->process()));
        const Result<Agent>& agent = done_.at(child->process());
        ASSERT_TRUE(agent) << agent.error().message;
        EXPECT_EQ(agent->process, child->process());
        EXPECT_TRUE(wait_until([&] { return read_state(child->process()) == 'S'; })) << "it is let go";
    }
}

// A vfork parent cannot be stopped before its child has executed a program or ended.
TEST_F(InjectorTest, AProcessThatDoesNotStopHoldsUpNoOther) {
    Shared<std::atomic<bool>> may_end;
    const Child sleeper([end = may_end.get()] {
        if (vfork() == 0) {
            while (!*end) usleep(200);
            _exit(0);
        }
        return pause();
    });
    ASSERT_TRUE(wait_until([&] { return read_state(sleeper.process()) == 'D'; }));
    const Child other([] { return pause(); });
    submit(sleeper.process());
    submit(other.process());
    ASSERT_TRUE(is_done(other.process()));
    EXPECT_FALSE(done_.contains(sleeper.process()));
    *may_end.get() = true;
    ASSERT_TRUE(is_done(sleeper.process()));
    EXPECT_TRUE(done_.at(sleeper.process())) << done_.at(sleeper.process()).error().message;
}

TEST_F(InjectorTest, SaysOfAProcessThatHasEndedThatItIsGone) {
    pid_t ended;
    {
        const Child child([] { return pause(); });
        ended = child.process();
    }
    submit(ended);
    ASSERT_TRUE(is_done(ended));
    EXPECT_EQ(done_.at(ended).error().code, ESRCH);
}

// A forked child that was found and then executed a program: its userfaultfd belongs to memory that is gone.
TEST_F(InjectorTest, RefusesTheUserfaultfdOfAnAddressSpaceThatIsGone) {
    const Child before([] { return pause(); });
    submit(before.process());
    ASSERT_TRUE(is_done(before.process()));
    ASSERT_TRUE(done_.at(before.process()));
    Fd stale = std::move(done_.at(before.process())->uffd);
    kill(before.process(), SIGKILL);
    // The main thread may be one while the agent still holds the memory.
    ASSERT_TRUE(wait_until([&] {
        const auto tasks =
            std::filesystem::directory_iterator(fmt::format("/proc/{}/task", before.process()));
        return read_state(before.process()) == 'Z' && std::distance(begin(tasks), end(tasks)) == 1;
    }));
    const Child after([] { return pause(); });
    injector_->submit(InjectJob{
        .process = after.process(), .go = Fd(), .adopt_uffd = std::move(stale), .staging_pages = 16});
    ASSERT_TRUE(is_done(after.process()));
    ASSERT_FALSE(done_.at(after.process()));
    EXPECT_EQ(done_.at(after.process()).error().code, ESTALE);
    EXPECT_TRUE(wait_until([&] { return read_state(after.process()) == 'S'; })) << "it is let go";
}

// All that shows that there was an agent: threads, descriptors, mappings.
TEST_F(InjectorTest, WhatIsTakenOutLeavesNothingBehind) {
    const Child child([] { return pause(); });
    ASSERT_TRUE(wait_until([&] { return is_in_system_call(child.process(), SYS_pause); }));
    const auto mappings = [&] {
        std::string text;
        (void)for_each_mapping(child.process(), [&](const Mapping& mapping) {
            text += fmt::format("{:x}-{:x} {}\n", mapping.start, mapping.end, mapping.name);
        });
        return text;
    };
    const std::string mappings_before = mappings(), descriptors_before = descriptors(child.process());
    submit(child.process());
    ASSERT_TRUE(is_done(child.process()));
    Result<Agent>& agent = done_.at(child.process());
    ASSERT_TRUE(agent) << agent.error().message;
    EXPECT_TRUE(has_agent(child.process()));
    agent_request end{};
    end.op = AGENT_EXIT;
    ASSERT_GT(send(agent->socket.get(), &end, sizeof end, 0), 0);
    agent->uffd.reset();
    injector_->submit(EjectJob{.process = child.process(),
                               .agent = agent->thread,
                               .ranges = {{agent->base, agent->base + agent->length}}});
    ASSERT_TRUE(wait_until([&] {
        loop_->run_once(std::chrono::milliseconds(1));
        return ejected_.contains(child.process());
    }));
    EXPECT_TRUE(ejected_.at(child.process()));
    EXPECT_EQ(mappings(), mappings_before);
    EXPECT_EQ(descriptors(child.process()), descriptors_before);
    EXPECT_FALSE(has_agent(child.process()));
    EXPECT_TRUE(wait_until([&] { return is_in_system_call(child.process(), SYS_pause); }));
}

TEST_F(InjectorTest, NothingIsMappedWhileItIsHeldBack) {
    const Child child([] { return pause(); });
    {
        const auto held_back = injector_->hold_back(child.process());
        ASSERT_TRUE(held_back.owns_lock());
        submit(child.process());
        ASSERT_TRUE(wait_until([&] { return read_state(child.process()) == 't'; }));
        std::vector<pid_t> threads;
        append_threads(child.process(), threads);
        EXPECT_EQ(threads.size(), 1u);
        EXPECT_FALSE(done_.contains(child.process()));
    }
    ASSERT_TRUE(is_done(child.process()));
    EXPECT_TRUE(done_.at(child.process()));
}

// Seen: the agent's stack was registered like the program's memory, before anybody knew where it lies.
TEST_F(InjectorTest, NothingCanBeHeldBackFromTheEndOfAnInjectionUntilItIsToldOf) {
    const Child child([] { return pause(); });
    submit(child.process());
    ASSERT_TRUE(wait_until([&] {
        std::vector<pid_t> threads;
        append_threads(child.process(), threads);
        return threads.size() == 2 && read_state(child.process()) == 'S';
    })) << "the agent runs, and so does the process";
    EXPECT_FALSE(injector_->hold_back(child.process()).owns_lock());
    ASSERT_TRUE(is_done(child.process()));
    EXPECT_TRUE(injector_->hold_back(child.process()).owns_lock());
}

}  // namespace
}  // namespace farswap::target
