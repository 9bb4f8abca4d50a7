// Who cannot be attached to, as far as /proc tells.
#include "target/attachable.h"

#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "child.h"
#include "target/proc.h"

namespace farswap::target {
namespace {

int code_of(pid_t process) {
    const auto checked = check_attachable(process);
    return checked ? 0 : checked.error().code;
}

TEST(Attachable, AnOrdinaryProcessIs) {
    const Child child([] { return pause(); });
    EXPECT_EQ(code_of(child.process()), 0);
    EXPECT_FALSE(has_agent(child.process()));
}

TEST(Attachable, NobodyIsNot) {
    pid_t ended;
    {
        const Child child([] { return 0; });
        ended = child.process();
        ASSERT_TRUE(wait_until([&] { return read_state(ended) == 'Z'; }));
        EXPECT_EQ(code_of(ended), ESRCH) << "a zombie";
    }
    EXPECT_EQ(code_of(ended), ESRCH);
    EXPECT_EQ(code_of(0), ESRCH);
    EXPECT_EQ(code_of(-1), ESRCH);
}

TEST(Attachable, OurselvesAndThoseAboveUsAreNot) {
    EXPECT_EQ(code_of(getpid()), EINVAL);
    EXPECT_EQ(code_of(getppid()), EINVAL);
}

TEST(Attachable, AThreadIsNamedByItsProcess) {
    Shared<std::atomic<pid_t>> thread;
    const Child child([&] {
        std::jthread other([&] {
            *thread.get() = gettid();
            pause();
        });
        return pause();
    });
    ASSERT_TRUE(wait_until([&] { return thread->load() != 0; }));
    const auto checked = check_attachable(thread->load());
    ASSERT_FALSE(checked);
    EXPECT_NE(checked.error().message.find(std::to_string(child.process())), std::string::npos);
}

TEST(Attachable, WhoIsTracedIsNot) {
    const Child child([] { return pause(); });
    ASSERT_EQ(ptrace(PTRACE_SEIZE, child.process(), nullptr, nullptr), 0);
    EXPECT_EQ(code_of(child.process()), EBUSY);
}

}  // namespace
}  // namespace farswap::target
