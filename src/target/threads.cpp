#include "target/threads.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "farswap/request.h"
#include "target/proc.h"

namespace farswap::target {
namespace {

// glibc's struct pthread: `tid`, which is the clear_child_tid word, lies 16 bytes before the robust list's
// head, and the thread's control block begins 0x2d0 bytes before `tid` (nptl/descr.h, x86-64).
constexpr std::uint64_t kTidBeforeHead = 16;
constexpr std::uint64_t kControlBlockBeforeHead = 0x2e0;

// A thread sets its robust list within its first instructions; runtimes without one (Go, musl) never do.
constexpr std::chrono::milliseconds kYoung{20};

std::uint64_t page_of(std::uint64_t address) {
    return address & ~std::uint64_t{kPageSize - 1};
}

std::uint64_t find_robust_list(pid_t thread) {
    robust_list_head* head = nullptr;
    std::size_t length = 0;
    if (syscall(SYS_get_robust_list, thread, &head, &length) != 0) return 0;
    return reinterpret_cast<std::uintptr_t>(head);
}

}  // namespace

bool ThreadWatch::scan(pid_t process, pid_t agent_thread, std::vector<std::uint64_t>& pages) {
    now_.clear();
    append_threads(process, now_);
    std::erase(now_, agent_thread);
    std::sort(now_.begin(), now_.end());
    std::erase_if(young_, [&](const Young& young) {
        return !std::binary_search(now_.begin(), now_.end(), young.thread);
    });

    const auto now = std::chrono::steady_clock::now();
    bool all_told = true;
    for (pid_t thread : now_) {
        auto young =
            std::find_if(young_.begin(), young_.end(), [&](const Young& y) { return y.thread == thread; });
        const bool known = std::binary_search(known_.begin(), known_.end(), thread);
        if (known && young == young_.end()) continue;
        if (const std::uint64_t head = find_robust_list(thread); head > kControlBlockBeforeHead) {
            pages.push_back(page_of(head));
            pages.push_back(page_of(head - kTidBeforeHead));
            pages.push_back(page_of(head - kControlBlockBeforeHead));
            if (young != young_.end()) young_.erase(young);
            continue;
        }
        if (young == young_.end()) {
            young_.push_back({thread, now});
            all_told = false;
        } else if (now - young->since < kYoung) {
            all_told = false;
        } else {
            young_.erase(young);
        }
    }
    known_.swap(now_);
    return all_told;
}

}  // namespace farswap::target
