#include "target/threads.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <span>
#include <utility>

#include "base/append.h"
#include "farswap/request.h"
#include "target/proc.h"

namespace farswap::target {
namespace {

// glibc's struct pthread: `tid`, which is the clear_child_tid word, lies 16 bytes before the robust list's
// head, and the thread's control block begins 0x2d0 bytes before `tid` (nptl/descr.h, x86-64).
constexpr std::uint64_t kTidBeforeHead = 16;
constexpr std::uint64_t kControlBlockBeforeHead = 0x2e0;

// futex_offset of glibc's robust list: __data.__list is at 32, __data.__lock at 0 of a pthread_mutex_t.
constexpr std::uint64_t kFutexBeforeEntry = 32;
// Longest list that is followed; the kernel's own limit is ROBUST_LIST_LIMIT, 2048.
constexpr int kRobustListLimit = 2048;

// A thread sets its robust list within its first instructions; runtimes without one (Go, musl) never do. On a
// busy machine it may not have come to them for a long time: what counts is the time that it has run.
constexpr std::chrono::milliseconds kYoung{20};
constexpr std::chrono::microseconds kFirstInstructions{100};
constexpr std::chrono::seconds kOld{2};  // slept so long without having run that much: it is asleep

std::uint64_t page_of(std::uint64_t address) {
    return address & ~std::uint64_t{kPageSize - 1};
}

/// 0: it has none. Nothing: that may not be known.
std::optional<std::uint64_t> find_robust_list(pid_t thread) {
    robust_list_head* head = nullptr;
    std::size_t length = 0;
    if (syscall(SYS_get_robust_list, thread, &head, &length) == 0)
        return reinterpret_cast<std::uintptr_t>(head);
    if (errno == EPERM) return std::nullopt;
    return 0;
}

}  // namespace

/// Among the first so many.
ThreadWatch::Young* ThreadWatch::find_young(pid_t thread, std::size_t among) noexcept {
    const std::span<Young> old(young_.data(), among);
    const auto young = std::ranges::lower_bound(old, thread, {}, &Young::thread);
    return young != old.end() && young->thread == thread ? &*young : nullptr;
}

ThreadWatch::Young::State ThreadWatch::state_of(pid_t thread, std::chrono::steady_clock::duration age,
                                                bool some_wait) {
    if (age < kYoung) return Young::kAwaited;
    if (read_run_time(thread) >= kFirstInstructions) return Young::kGrownUp;
    if (age < kOld) return Young::kAwaited;
    return some_wait ? Young::kPerhapsWaits : Young::kAsleep;
}

void ThreadWatch::page_came() noexcept {
    if (!std::exchange(some_perhaps_wait_, false)) return;  // for each page that is filled in
    for (Young& young : young_) {
        if (young.state == Young::kPerhapsWaits) young = {young.thread, std::chrono::steady_clock::now()};
    }
}

bool ThreadWatch::scan(pid_t process, pid_t agent_thread, bool some_wait, std::vector<std::uint64_t>& pages) {
    now_.clear();
    append_threads(process, now_);
    std::erase(now_, agent_thread);
    std::sort(now_.begin(), now_.end());
    std::erase_if(young_, [&](const Young& young) {
        return !std::binary_search(now_.begin(), now_.end(), young.thread);
    });

    std::erase_if(
        heads_, [&](const Head& head) { return !std::binary_search(now_.begin(), now_.end(), head.thread); });

    const auto now = std::chrono::steady_clock::now();
    bool all_told = true;
    const std::size_t were_young = young_.size();
    for (pid_t thread : now_) {
        Young* const young = find_young(thread, were_young);
        if (std::binary_search(known_.begin(), known_.end(), thread) && young == nullptr) continue;
        const std::optional<std::uint64_t> head = find_robust_list(thread);
        if (!head) {
            append(refused_, thread);
            all_told = false;
            continue;
        }
        if (*head > kControlBlockBeforeHead) {
            append(heads_, Head{thread, *head});
            append(pages, page_of(*head));
            append(pages, page_of(*head - kTidBeforeHead));
            append(pages, page_of(*head - kControlBlockBeforeHead));
            if (young != nullptr) young->state = Young::kGrownUp;
        } else if (young == nullptr) {
            if (is_kernel_worker(thread)) continue;
            append(young_, Young{thread, now});
            all_told = false;
        } else if (young->state == Young::kAwaited) {
            young->state = state_of(thread, now - young->since, some_wait);
            all_told = all_told && young->state != Young::kAwaited;
            some_perhaps_wait_ |= young->state == Young::kPerhapsWaits;
        }
    }
    std::erase_if(young_, [](const Young& young) { return young.state == Young::kGrownUp; });
    std::ranges::sort(young_, {}, &Young::thread);
    std::erase_if(now_,
                  [&](pid_t thread) { return std::binary_search(refused_.begin(), refused_.end(), thread); });
    refused_.clear();
    known_.swap(now_);
    return all_told;
}

bool ThreadWatch::held_mutexes(pid_t process, const std::function<bool(std::uint64_t, bool)>& may_read,
                               std::vector<std::uint64_t>& pages) const {
    constexpr std::size_t kPerCall = 64;
    for (std::size_t first = 0; first < heads_.size(); first += kPerCall) {
        // The lists' first entries, 64 threads a call: nearly all lists are empty and lead back to their
        // head.
        std::array<std::uint64_t, kPerCall> next{};
        std::array<iovec, kPerCall> local, remote;
        std::array<std::uint64_t, kPerCall> heads;
        std::size_t count = 0;
        for (std::size_t i = first; i < std::min(first + kPerCall, heads_.size()); i++) {
            const std::uint64_t head = heads_[i].address;
            if (!may_read(page_of(head), false)) continue;  // it is on its way back: the next scan reads it
            heads[count] = head;
            local[count] = {&next[count], sizeof next[count]};
            remote[count] = {reinterpret_cast<void*>(head), sizeof next[count]};
            count++;
        }
        if (count > 0 && process_vm_readv(process, local.data(), count, remote.data(), count, 0) < 0 &&
            errno == EPERM)
            return false;
        for (std::size_t i = 0; i < count; i++) {
            std::uint64_t entry = next[i] & ~std::uint64_t{1};  // the lowest bit marks priority inheritance
            for (int length = 0; entry != 0 && entry != heads[i] && length < kRobustListLimit; length++) {
                // The futex word lies within 32 bytes before the entry (glibc: pthread_mutex_t).
                append(pages, page_of(entry));
                append(pages, page_of(entry - kFutexBeforeEntry));
                if (!may_read(page_of(entry), true)) break;
                iovec into{&entry, sizeof entry};
                iovec from{reinterpret_cast<void*>(entry), sizeof entry};
                if (process_vm_readv(process, &into, 1, &from, 1, 0) != sizeof entry) {
                    if (errno == EPERM) return false;
                    break;
                }
                entry &= ~std::uint64_t{1};
            }
        }
    }
    return true;
}

}  // namespace farswap::target
