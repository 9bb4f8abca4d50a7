// Mutexes, condition variables, barriers and semaphores in evicted pages: waiters sleep in the kernel while
// the word they wait on is away, and every wake-up must arrive.
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <vector>

#include "support.h"

namespace {

using namespace workload;

constexpr int kWaitSeconds = 60;  // a lost wake-up shows as a time-out

timespec deadline() {
    timespec time{};
    ::clock_gettime(CLOCK_REALTIME, &time);
    time.tv_sec += kWaitSeconds;
    return time;
}

// Each lies in a page of its own.
struct Sync {
    pthread_mutex_t* mutex;
    pthread_cond_t* condition;
    pthread_barrier_t* barrier;
    sem_t* semaphore;
    long* counter;
    int* generation;

    Sync(const Pages& pages, unsigned threads)
        : mutex(new (pages.page(0)) pthread_mutex_t),
          condition(new (pages.page(1)) pthread_cond_t),
          barrier(new (pages.page(2)) pthread_barrier_t),
          semaphore(new (pages.page(3)) sem_t),
          counter(new (pages.page(4)) long(0)),
          generation(new (pages.page(5)) int(0)) {
        ::pthread_mutex_init(mutex, nullptr);
        ::pthread_cond_init(condition, nullptr);
        ::pthread_barrier_init(barrier, nullptr, threads);
        ::sem_init(semaphore, 0, 0);
    }
};

void wait_for_generation(const Sync& sync, int generation) {
    const timespec end = deadline();
    ::pthread_mutex_lock(sync.mutex);
    while (*sync.generation < generation) {
        const int error = ::pthread_cond_timedwait(sync.condition, sync.mutex, &end);
        check(error == 0, "condition variable in an evicted page: {} (lost wake-up?)", std::strerror(error));
    }
    ::pthread_mutex_unlock(sync.mutex);
}

void waiter(const Sync& sync, int generations) {
    for (int g = 1; g <= generations; g++) {
        wait_for_generation(sync, g);
        const timespec end = deadline();
        check(::sem_timedwait(sync.semaphore, &end) == 0, "semaphore in an evicted page: {}",
              std::strerror(errno));
        for (int i = 0; i < 200; i++) {
            ::pthread_mutex_lock(sync.mutex);
            ++*sync.counter;
            ::pthread_mutex_unlock(sync.mutex);
        }
        ::pthread_barrier_wait(sync.barrier);
    }
}

void locks(const Options& options, Filler& filler) {
    const Pages pages(1, 6);
    const auto threads = static_cast<unsigned>(options.threads);
    const Sync sync(pages, threads + 1);
    std::vector<std::jthread> waiters;
    for (unsigned i = 0; i < threads; i++) {
        waiters.emplace_back([&] { waiter(sync, options.rounds); });
    }
    for (int round = 0; round < options.rounds; round++) {
        filler.push();  // all waiters sleep on words that leave
        probe(pages.data(), pages.bytes());
        ::pthread_mutex_lock(sync.mutex);
        ++*sync.generation;
        ::pthread_cond_broadcast(sync.condition);
        ::pthread_mutex_unlock(sync.mutex);
        filler.push();  // now they sleep on the semaphore
        for (unsigned i = 0; i < threads; i++) ::sem_post(sync.semaphore);
        ::pthread_barrier_wait(sync.barrier);
        ::pthread_mutex_lock(sync.mutex);
        const long expected = 200L * (round + 1) * options.threads;
        check(*sync.counter == expected, "counter under a mutex: {} instead of {}", *sync.counter, expected);
        ::pthread_mutex_unlock(sync.mutex);
    }
}

// A bare FUTEX_WAIT compares the word in the kernel: it must see the evicted value, not zero.
void bare_futex(Filler& filler) {
    const Pages page(2, 1);
    auto* word = new (page.data()) std::atomic<std::uint32_t>(41);
    filler.push();
    probe(page.data(), page.bytes());
    timespec brief{0, 1'000'000};
    long result = ::syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 40, &brief, nullptr, 0);
    check(result == -1 && errno == EAGAIN, "FUTEX_WAIT for another value: {}", std::strerror(errno));
    filler.push();
    result = ::syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 41, &brief, nullptr, 0);
    check(result == -1 && errno == ETIMEDOUT, "FUTEX_WAIT for the value of an evicted word: {}",
          std::strerror(errno));

    std::jthread sleeper([&] {
        while (word->load() == 41) ::syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 41, nullptr, nullptr, 0);
    });
    filler.push();
    filler.push();
    word->store(42);
    ::syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    Filler filler(options.filler);
    locks(options, filler);
    for (int round = 0; round < options.rounds; round++) bare_futex(filler);
    return succeed();
}
