// The processes of a job: which are found, and who is none of them.
#include "target/process_tree.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <atomic>

#include "child.h"

namespace farswap::target {
namespace {

int sleep_for_ever() {
    for (;;) pause();
}

TEST(ProcessTree, FindsChildrenAndTheirsAndForgetsThemWhenTheyEnd) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    Shared<std::atomic<pid_t>> grandchild;
    ProcessTree tree;
    {
        const Child child([&] {
            const pid_t born = fork();
            if (born == 0) sleep_for_ever();
            *grandchild.get() = born;
            return sleep_for_ever();
        });
        ASSERT_TRUE(wait_until([&] { return grandchild.get()->load() > 0; }));
        tree.scan();
        ASSERT_NE(tree.find(child.process()), nullptr);
        ASSERT_NE(tree.find(*grandchild.get()), nullptr);
        EXPECT_EQ(tree.find(*grandchild.get())->parent, child.process());
    }
    const Child orphan(grandchild.get()->load());
    tree.scan();
    tree.scan();
    EXPECT_EQ(tree.members().size(), 1u);
    EXPECT_NE(tree.find(orphan.process()), nullptr) << "an orphan stays one of the job";
}

// A shell leaves farswap the reader of `2> >(tee log)` as a child. It was paged: the pager waited to write to
// it, and it waited for its page.
TEST(ProcessTree, WhatWasThereBeforeAndItsChildrenAreNotOfTheJob) {
    Shared<std::atomic<int>> told;
    Shared<std::atomic<pid_t>> later;
    const Child stranger([&] {
        while (*told.get() == 0) usleep(200);
        const pid_t born = fork();
        if (born == 0) sleep_for_ever();
        *later.get() = born;
        return sleep_for_ever();
    });
    ProcessTree tree;
    tree.leave_out_present();
    const Child member(sleep_for_ever);
    tree.scan();
    EXPECT_EQ(tree.find(stranger.process()), nullptr);
    EXPECT_NE(tree.find(member.process()), nullptr);
    *told.get() = 1;
    ASSERT_TRUE(wait_until([&] { return later.get()->load() > 0; }));
    const Child reaper(later.get()->load());
    tree.scan();
    EXPECT_EQ(tree.find(*later.get()), nullptr);
    EXPECT_EQ(tree.members().size(), 1u);
}

}  // namespace
}  // namespace farswap::target
