// A counting semaphore of the C library's: sem_overview(7). Where a thread may be held up between any two
// instructions for long, as one that is killed and goes on in another process is, the condition variables of
// glibc before 2.41 lose wake-ups (bug 25847); this has no such state.
#pragma once

#include <semaphore.h>

#include <cerrno>
#include <chrono>
#include <ctime>

#include "base/assert.h"

namespace farswap {

/// Any thread.
class Semaphore {
  public:
    Semaphore() noexcept { FARSWAP_ASSERT(sem_init(&semaphore_, 0, 0) == 0); }
    ~Semaphore() { sem_destroy(&semaphore_); }
    Semaphore(const Semaphore&) = delete;
    Semaphore& operator=(const Semaphore&) = delete;

    /// Lets one wait() return, now or later.
    void post() noexcept { FARSWAP_ASSERT(sem_post(&semaphore_) == 0); }
    void wait() noexcept {
        while (sem_wait(&semaphore_) != 0 && errno == EINTR) {
        }
    }
    /// As wait(), for so long at the most; it may also return early.
    void wait_for(std::chrono::nanoseconds time) noexcept {
        timespec until{};
        clock_gettime(CLOCK_MONOTONIC, &until);
        const auto nanoseconds = until.tv_nsec + time.count() % 1'000'000'000;
        until.tv_sec += time.count() / 1'000'000'000 + nanoseconds / 1'000'000'000;
        until.tv_nsec = nanoseconds % 1'000'000'000;
        sem_clockwait(&semaphore_, CLOCK_MONOTONIC, &until);
    }

  private:
    sem_t semaphore_{};
};

}  // namespace farswap
