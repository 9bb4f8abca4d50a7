// The agent in running programs and in new ones: it moves pages and brings them back whole, and the program's
// own descriptors, signals and threads are as before.
#include "target/inject.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <fstream>
#include <string>

#include "agent_fixture.h"
#include "target/agent_protocol.h"
#include "target/pagemap.h"
#include "target/proc.h"
#include "target/spawn.h"
#include "target/uffd.h"

namespace farswap::target {
namespace {

constexpr int kSeizeLimitMs = 30'000;
constexpr InjectOptions kOptions{.staging_pages = 32};

Result<Agent> inject_into(pid_t process) {
    auto task = RemoteTask::seize(process, kSeizeLimitMs);
    if (!task) return std::unexpected(task.error());
    return inject(*task, kOptions);
}

/// Its sequence number.
std::uint64_t send_request(const Agent& agent, agent_op op, std::initializer_list<agent_range> ranges) {
    static std::uint64_t sequence = 0;
    agent_request request{};
    request.op = op;
    request.sequence = ++sequence;
    for (const agent_range& range : ranges) request.range[request.count++] = range;
    EXPECT_EQ(send(agent.socket.get(), &request, sizeof request, MSG_NOSIGNAL), ssize_t{sizeof request});
    return sequence;
}

agent_reply ask(const Agent& agent, agent_op op, std::initializer_list<agent_range> ranges) {
    const std::uint64_t sequence = send_request(agent, op, ranges);
    agent_reply reply{};
    pollfd waiting{agent.socket.get(), POLLIN, 0};
    EXPECT_EQ(poll(&waiting, 1, 60'000), 1) << "the agent does not answer";
    EXPECT_GT(recv(agent.socket.get(), &reply, sizeof reply, MSG_DONTWAIT), 0);
    EXPECT_EQ(reply.sequence, sequence);
    EXPECT_EQ(reply.op, static_cast<unsigned>(op));
    return reply;
}

std::uint32_t threads_of(pid_t process) {
    const Fd status(open(("/proc/" + std::to_string(process) + "/status").c_str(), O_RDONLY | O_CLOEXEC));
    return read_memory_use(status.get()).value_or(MemoryUse{}).threads;
}

std::uint64_t pages_present(pid_t process, std::uint64_t start, std::uint64_t bytes) {
    const Fd pagemap(open(("/proc/" + std::to_string(process) + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC));
    AddressRange ranges[64];
    auto scan = scan_pages(pagemap.get(), PageKind::kAnonymous, start, start + bytes, 1024, ranges);
    EXPECT_TRUE(scan) << scan.error().message;
    std::uint64_t pages = 0;
    for (std::size_t i = 0; scan && i < scan->count; i++)
        pages += (ranges[i].end - ranges[i].start) / kPageSize;
    return pages;
}

/// A puppet with an agent, its arena and staging registered.
class InjectTest : public ::testing::Test {
  protected:
    void start(std::vector<Puppet::Step> script) {
        puppet_ = std::make_unique<Puppet>(std::move(script));
        auto made = inject_into(puppet_->process());
        ASSERT_TRUE(made) << made.error().message;
        agent_ = std::move(*made);
        uffd_ = Uffd(std::move(agent_.uffd));
        ASSERT_EQ(uffd_.register_range(page(0), kArenaBytes), 0);
        ASSERT_EQ(uffd_.register_range(agent_.staging, kOptions.staging_pages * kPageSize), 0);
    }
    std::uint64_t page(std::uint64_t number) const { return puppet_->arena().page(number); }
    /// Closes all that a pager that is killed leaves.
    void expect_end_without_pager() {
        uffd_ = Uffd();
        agent_.socket.reset();
        agent_.life.reset();
        EXPECT_TRUE(wait_until([&] { return read_state(puppet_->process()) == 'Z'; }));
        EXPECT_EQ(puppet_->child().join(), -1);
    }
    agent_reply move(std::uint64_t first, std::uint64_t pages) {
        return ask(agent_, AGENT_MOVE, {{page(first), agent_.staging, pages * kPageSize}});
    }

    std::unique_ptr<Puppet> puppet_;
    Agent agent_;
    Uffd uffd_;
};

TEST_F(InjectTest, LeavesTheProgramsDescriptorsAndAddsOneThread) {
    Puppet puppet({check_pages(0, 4)});
    const std::string before = descriptors(puppet.process());
    ASSERT_EQ(threads_of(puppet.process()), 1u);
    auto agent = inject_into(puppet.process());
    ASSERT_TRUE(agent) << agent.error().message;
    EXPECT_EQ(descriptors(puppet.process()), before);
    EXPECT_EQ(threads_of(puppet.process()), 2u);
    std::vector<pid_t> threads;
    append_threads(puppet.process(), threads);
    EXPECT_THAT(threads, ::testing::UnorderedElementsAre(puppet.process(), agent->thread));
    // The agent holds nothing of the program's open, or a pipe would never reach its end of file.
    const std::string its = descriptors(agent->thread);
    const auto pipe = its.find("pipe:");
    ASSERT_NE(pipe, std::string::npos) << its;
    EXPECT_EQ(its.rfind("pipe:"), pipe) << its;
    EXPECT_EQ(before.find(its.substr(pipe, its.find(']', pipe) - pipe)), std::string::npos) << its;
    puppet.go();
    EXPECT_TRUE(wait_until([&] { return puppet.done() == 1; }));
    EXPECT_EQ(puppet.result(), 4);
}

// Red when the kernel chooses: it takes the highest hole that is large enough. The hole may be one that the
// program has made for a moment, and what it maps there next (MAP_FIXED) would replace the agent's memory; so
// may be what is right below its lowest mapping.
TEST_F(InjectTest, TheAgentLiesInNoHoleOfTheProgram) {
    constexpr std::size_t kHole = 64 << 20;
    Puppet puppet({[](Arena&) {
        auto* all = static_cast<std::byte*>(
            mmap(nullptr, 4 * kHole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        return munmap(all, kHole) == 0 && munmap(all + 2 * kHole, kHole) == 0 ? 1 : 0;
    }});
    puppet.go();
    ASSERT_TRUE(wait_until([&] { return puppet.done() == 1; }));
    ASSERT_EQ(puppet.result(), 1);
    auto agent = inject_into(puppet.process());
    ASSERT_TRUE(agent) << agent.error().message;
    AddressRange below, above{~0ULL, ~0ULL};
    ASSERT_TRUE(for_each_mapping(puppet.process(), [&](const Mapping& mapping) {
        if (mapping.end <= agent->base) below = {mapping.start, mapping.end};
        if (mapping.start >= agent->base + agent->length && above.start == ~0ULL)
            above = {mapping.start, mapping.end};
    }));
    EXPECT_GT(agent->base - below.end, std::uint64_t{4} << 30);
    EXPECT_GT(above.start - (agent->base + agent->length), std::uint64_t{4} << 30);
}

// Kernel fact 1: what MOVE took out and COPY brought back is what the program wrote.
std::string status_line(const std::string& task, const std::string& label) {
    std::ifstream file("/proc/" + task + "/status");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with(label)) return line;
    }
    return {};
}

// Root's program: its agent is nobody, and the program is as before.
TEST_F(InjectTest, TheAgentHasNoneOfTheProgramsPrivileges) {
    start({check_pages(0, 4)});
    const std::string process = std::to_string(puppet_->process());
    const std::string agent = process + "/task/" + std::to_string(agent_.thread);
    EXPECT_EQ(status_line(agent, "Uid:"), "Uid:\t65534\t65534\t65534\t65534");
    EXPECT_EQ(status_line(agent, "Gid:"), "Gid:\t65534\t65534\t65534\t65534");
    EXPECT_EQ(status_line(agent, "CapPrm:"), "CapPrm:\t0000000000000000");
    EXPECT_EQ(status_line(agent, "CapEff:"), "CapEff:\t0000000000000000");
    EXPECT_EQ(status_line(process, "Uid:"), "Uid:\t0\t0\t0\t0");
    struct stat info {};
    ASSERT_EQ(stat(("/proc/" + process + "/mem").c_str(), &info), 0);
    EXPECT_EQ(info.st_uid, 0u);
}

TEST_F(InjectTest, PagesMoveToStagingAndComeBackWhole) {
    start({check_pages(0, 8)});
    const agent_reply reply = move(2, 4);
    EXPECT_EQ(reply.count, 1u);
    EXPECT_EQ(reply.result[0].error, 0);
    EXPECT_EQ(reply.result[0].moved, 4 * kPageSize);
    EXPECT_EQ(pages_present(puppet_->process(), page(0), 8 * kPageSize), 4u);
    const auto staged = read_pages(puppet_->process(), agent_.staging, 4);
    ASSERT_EQ(staged.size(), 4 * kPageSize);
    for (std::uint64_t i = 0; i < 4; i++)
        EXPECT_TRUE(is_arena_page(staged.data() + i * kPageSize, 2 + i)) << i;

    const FillResult filled = uffd_.copy(page(2), staged.data(), staged.size());
    EXPECT_EQ(filled.error, 0);
    EXPECT_EQ(filled.bytes, staged.size());
    EXPECT_EQ(uffd_.copy(page(2), staged.data(), kPageSize).error, EEXIST) << "never over what is there";
    puppet_->go();
    EXPECT_TRUE(wait_until([&] { return puppet_->done() == 1; }));
    EXPECT_EQ(puppet_->result(), 8);
}

// Kernel fact 2.1: MOVE does not check that its source is registered, so the agent asks first.
TEST_F(InjectTest, ProbesBeforeItMoves) {
    start({});
    const agent_reply hole = move(kArenaPages - 2, 1);
    EXPECT_EQ(hole.result[0].moved, 0u);
    EXPECT_EQ(hole.result[0].probed, 1u);
    EXPECT_EQ(hole.result[0].error, -ENODATA);

    const agent_reply unregistered =
        ask(agent_, AGENT_MOVE, {{agent_.base + kPageSize, agent_.staging, kPageSize}});
    EXPECT_EQ(unregistered.result[0].moved, 0u);
    EXPECT_EQ(unregistered.result[0].probed, 1u);
    EXPECT_EQ(unregistered.result[0].error, -ENOENT);
}

TEST_F(InjectTest, AMoveEndsAtAHoleAndSaysHowFarItCame) {
    start({});
    const std::uint64_t filled = kArenaPages / 2;
    const agent_reply reply = move(filled - 3, 6);
    EXPECT_EQ(reply.result[0].moved, 3 * kPageSize);
    EXPECT_EQ(reply.result[0].probed, 0u);
    EXPECT_EQ(reply.result[0].error, -ENOENT);
    const auto staged = read_pages(puppet_->process(), agent_.staging, 3);
    ASSERT_EQ(staged.size(), 3 * kPageSize);
    EXPECT_TRUE(is_arena_page(staged.data() + 2 * kPageSize, filled - 1));
}

TEST_F(InjectTest, SeveralRangesHaveAResultEach) {
    start({});
    const agent_reply reply = ask(agent_, AGENT_MOVE,
                                  {{page(0), agent_.staging, 2 * kPageSize},
                                   {page(kArenaPages - 1), agent_.staging + 2 * kPageSize, kPageSize},
                                   {page(5), agent_.staging + 3 * kPageSize, kPageSize}});
    EXPECT_EQ(reply.count, 3u);
    EXPECT_EQ(reply.result[0].moved, 2 * kPageSize);
    EXPECT_EQ(reply.result[1].error, -ENODATA);
    EXPECT_EQ(reply.result[2].moved, kPageSize);
    EXPECT_TRUE(is_arena_page(read_pages(puppet_->process(), agent_.staging + 3 * kPageSize, 1).data(), 5));
}

// Kernel fact 2.8: without any reference to the userfaultfd an evicted page would read as zeros.
TEST_F(InjectTest, WithoutAnybodyWhoPagesTheProgramIsEnded) {
    start({check_pages(2, 1)});
    ASSERT_EQ(move(2, 1).result[0].moved, kPageSize);
    uffd_ = Uffd();
    puppet_->go();
    EXPECT_TRUE(wait_until([&] { return waits_for_userfaultfd(puppet_->process()) || puppet_->done() > 0; }));
    EXPECT_EQ(puppet_->done(), 0) << "it went on with " << puppet_->result() << " right pages of 1";
    agent_.socket.reset();  // the last holder of which has ended
    EXPECT_TRUE(wait_until([&] { return read_state(puppet_->process()) == 'Z'; }));
    EXPECT_EQ(puppet_->done(), 0) << "it went on with " << puppet_->result() << " right pages of 1";
}

// The agent waits inside the kernel then, where no end of its socket wakes it: nobody reads the event of what
// it empties, and its own userfaultfd keeps that event alive.
TEST_F(InjectTest, TheProgramIsEndedAlsoWhereItsAgentWaitsForTheEvent) {
    start({check_pages(2, 1)});
    ASSERT_EQ(move(2, 1).result[0].moved, kPageSize);
    send_request(agent_, AGENT_ZAP, {{0, agent_.staging, kPageSize}});
    ASSERT_TRUE(wait_until([&] { return is_in_system_call(agent_.thread, SYS_madvise); }));
    expect_end_without_pager();
}

// As above, in a fault on a page that nobody brings back.
TEST_F(InjectTest, TheProgramIsEndedAlsoWhereItsAgentWaitsForAPage) {
    start({check_pages(2, 1)});
    ASSERT_EQ(move(2, 1).result[0].moved, kPageSize);
    send_request(agent_, AGENT_UNSHARE, {{page(2), 0, kPageSize}});
    ASSERT_TRUE(wait_until([&] { return waits_for_userfaultfd(agent_.thread); }));
    expect_end_without_pager();
}

// While it is waited for, the pager's end is told by a signal; requests are not.
TEST_F(InjectTest, RequestsAfterOneThatWaitsForThePagerRaiseNoSignal) {
    start({check_pages(0, 1)});
    for (std::uint64_t number = 1; number < kArenaPages / 2; number++) {
        EXPECT_EQ(ask(agent_, AGENT_UNSHARE, {{page(0), 0, kPageSize}}).status, 0);
        EXPECT_EQ(ask(agent_, AGENT_MOVE, {{page(number), agent_.staging + number * kPageSize, kPageSize}})
                      .result[0]
                      .moved,
                  kPageSize);
    }
    puppet_->go();
    EXPECT_TRUE(wait_until([&] { return puppet_->done() > 0; }));
    EXPECT_EQ(puppet_->result(), 1);
}

TEST_F(InjectTest, WhoHasNothingOutsideOutlivesItsPager) {
    start({check_pages(2, 1)});
    uffd_ = Uffd();
    agent_.socket.reset();
    EXPECT_TRUE(wait_until([&] { return threads_of(puppet_->process()) == 1; }));
    puppet_->go();
    EXPECT_TRUE(wait_until([&] { return puppet_->done() > 0; }));
}

TEST_F(InjectTest, EndsWhenItIsTold) {
    start({});
    agent_request request{};
    request.op = AGENT_EXIT;
    ASSERT_GT(send(agent_.socket.get(), &request, sizeof request, MSG_NOSIGNAL), 0);
    EXPECT_TRUE(wait_until([&] { return threads_of(puppet_->process()) == 1; }));
}

class SpawnTest : public ::testing::Test {
  protected:
    Result<Spawned> spawn(const std::vector<std::string>& argv) {
        sigset_t none;
        sigemptyset(&none);
        return spawn_stopped(argv,
                             {.signal_mask = none, .nice = 0, .ignores_sigchld = false, .descriptors = {}});
    }
};

TEST_F(SpawnTest, AnAgentIsInANewProgramBeforeItsFirstInstruction) {
    int output[2];
    ASSERT_EQ(pipe(output), 0);
    const std::string shell = "echo ran >&" + std::to_string(output[1]);
    auto spawned = spawn({"/bin/sh", "-c", shell});
    ASSERT_TRUE(spawned) << spawned.error().message;
    Child child(spawned->process);
    const Fd read_end(output[0]);
    {
        auto task = RemoteTask::seize_at_exec(spawned->process, spawned->go.get());
        ASSERT_TRUE(task) << task.error().message;
        EXPECT_EQ(exec_error(spawned->failed), 0);
        const std::string before = descriptors(spawned->process);
        auto agent = inject(*task, kOptions);
        ASSERT_TRUE(agent) << agent.error().message;
        EXPECT_EQ(descriptors(spawned->process), before);
        EXPECT_EQ(threads_of(spawned->process), 2u);
        EXPECT_EQ(ask(*agent, AGENT_UNSHARE, {}).status, 0);
    }
    close(output[1]);
    EXPECT_EQ(child.join(), 0) << "the agent ends with its program";
    char text[16] = {};
    EXPECT_GT(read(read_end.get(), text, sizeof text - 1), 0);
    EXPECT_EQ(read(read_end.get(), text, 1), 0) << "somebody holds the program's pipe open";
}

TEST_F(SpawnTest, SaysWhyNothingWasExecuted) {
    for (const auto& [program, code, status] :
         {std::tuple{"/nonexistent/program", ENOENT, 127}, std::tuple{"/etc/passwd", EACCES, 126}}) {
        auto spawned = spawn({program});
        ASSERT_TRUE(spawned) << spawned.error().message;
        Child child(spawned->process);
        auto task = RemoteTask::seize_at_exec(spawned->process, spawned->go.get());
        ASSERT_FALSE(task);
        EXPECT_EQ(task.error().code, ECHILD);
        EXPECT_EQ(exec_error(spawned->failed), code);
    }
}

}  // namespace
}  // namespace farswap::target
