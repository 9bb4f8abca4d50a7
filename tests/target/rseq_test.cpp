// A restartable sequence that we stop in the middle of is started anew, as the kernel does whenever it
// interrupts one.
#include <gtest/gtest.h>
#include <linux/rseq.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

#include <atomic>

#include "child.h"
#include "target/remote.h"

namespace farswap::target {
namespace {

struct Progress {
    std::atomic<int> begun{0};  ///< sequences
    std::atomic<int> stop{0};
};

/// A sequence that ends only when it is told to, or is aborted.
void run_sequence(struct rseq* area, Progress* progress) {
    asm volatile(
        ".pushsection farswap_rseq_cs, \"aw\"\n"
        ".balign 32\n"
        "3: .long 0, 0\n"
        ".quad 1f, (2f - 1f), 4f\n"
        ".popsection\n"
        "leaq 3b(%%rip), %%rax\n"
        "movq %%rax, (%[cs])\n"
        "1: cmpl $0, (%[stop])\n"
        "je 1b\n"
        "2: jmp 5f\n"
        ".long 0x53053053\n"  // RSEQ_SIG, which the kernel wants before an abort handler
        "4: nop\n"
        "5:\n"
        :
        : [cs] "r"(&area->rseq_cs), [stop] "r"(&progress->stop)
        : "rax", "memory", "cc");
}

TEST(Rseq, ASequenceThatIsStoppedByUsIsStartedAnew) {
    if (__rseq_size == 0) GTEST_SKIP() << "the C library uses no restartable sequences";
    Shared<Progress> progress;
    const Child child([&] {
        auto* area =
            reinterpret_cast<struct rseq*>(static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
        while (!progress->stop) {
            progress->begun++;
            run_sequence(area, progress.get());
        }
        return 0;
    });
    ASSERT_TRUE(wait_until([&] { return progress->begun > 0; }));
    for (int i = 0; i < 20; i++) {
        int begun = 0;
        {
            auto task = RemoteTask::seize(child.process(), 10'000);
            ASSERT_TRUE(task) << task.error().message;
            begun = progress->begun;
            EXPECT_EQ(task->call(SYS_getpid).value_or(0), child.process());
        }
        EXPECT_TRUE(wait_until([&] { return progress->begun > begun; }));
    }
    progress->stop = 1;
}

}  // namespace
}  // namespace farswap::target
