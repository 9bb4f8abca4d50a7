// A program with several threads that puts all of them behind seccomp filters, as browsers and sandboxes do,
// while its pages are outside. `--extra narrow`: the last filter allows only what the program itself still
// does.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <thread>
#include <vector>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 4096;

/// For all threads: each of `calls` is answered by `listed`, all others by `others`.
void confine_all(const std::vector<unsigned>& calls, unsigned listed, unsigned others) {
    std::vector<sock_filter> code = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (const unsigned call : calls) {
        code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
        code.push_back(BPF_STMT(BPF_RET | BPF_K, listed));
    }
    code.push_back(BPF_STMT(BPF_RET | BPF_K, others));
    const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
    sys(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
    const long result = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (result < 0 && errno == ENOSYS) skip("no seccomp filters for all threads here");
    check(result == 0, "seccomp(TSYNC): {}, thread {} cannot be synchronised", std::strerror(errno), result);
}

/// What neither the program nor a pager does.
void forbid_a_few() {
    confine_all({SYS_ptrace, SYS_reboot, SYS_kexec_load, SYS_swapon}, SECCOMP_RET_KILL_PROCESS,
                SECCOMP_RET_ALLOW);
}

void forbid_all_but_a_few() {
    confine_all({SYS_read, SYS_write, SYS_futex, SYS_exit, SYS_exit_group, SYS_munmap, SYS_madvise, SYS_brk,
                 SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_mincore, SYS_clock_nanosleep, SYS_restart_syscall,
                 SYS_pread64, SYS_openat, SYS_close, SYS_rseq, SYS_sched_yield},
                SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS);
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    const Pages pages(1, kPages), others(2, kPages);
    Filler filler(options.filler);
    std::atomic<int> turn{-1};
    // The filters come from either thread; each finds the other at work.
    std::jthread second([&] {
        for (int round = 1; round < options.rounds; round += 2) {
            for (int now = turn; now != round; now = turn) turn.wait(now);
            forbid_a_few();
            others.stamp(static_cast<std::uint32_t>(round));
            others.expect(static_cast<std::uint32_t>(round), "of the second thread");
            turn = round + 1;
            turn.notify_all();
        }
    });
    for (int round = 0; round < options.rounds; round++) {
        const auto version = static_cast<std::uint32_t>(round + 1);
        pages.stamp(version);
        filler.push();
        if (round % 2 == 0) {
            forbid_a_few();
        } else {
            turn = round;
            turn.notify_all();
            for (int now = turn; now == round; now = turn) turn.wait(now);
        }
        probe(pages.data(), pages.bytes());
        pages.expect(version, "behind another filter");
        pages.stamp(version + 100);
        filler.push();
        pages.expect(version + 100, "after it was moved out behind a filter");
    }
    second.join();
    if (options.extra == "narrow") {
        forbid_all_but_a_few();
        pages.expect(static_cast<std::uint32_t>(options.rounds) + 100,
                     "behind a filter that allows next to nothing");
    }
    return succeed();
}
