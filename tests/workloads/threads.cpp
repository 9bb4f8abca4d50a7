// Thousands of threads: created, parked while their stacks and thread-local storage are evicted, checked,
// ended and joined; detached ones too. A thread's exit writes to its own pages, and that write must not get
// lost.
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kLocalBytes = 4 * kPage;
thread_local std::uint64_t local_storage[kLocalBytes / 8];

std::atomic<int> finished_detached{0};

struct Wave {
    pthread_barrier_t parked;
    pthread_barrier_t released;
};

struct Ticket {
    Wave* wave;
    std::uint32_t number;
};

void check_own_memory(std::uint32_t number, const std::uint64_t* stack, std::size_t bytes, const char* when) {
    expect_content(stack, bytes, {3, number, 0}, when);
    expect_content(local_storage, kLocalBytes, {4, number, 0}, when);
}

void* parked_thread(void* argument) {
    const auto* ticket = static_cast<const Ticket*>(argument);
    std::uint64_t stack[2 * kWordsPerPage];
    write_words(stack, sizeof stack, {3, ticket->number, 0});
    write_words(local_storage, kLocalBytes, {4, ticket->number, 0});
    asm volatile("" ::"r"(stack) : "memory");
    ::pthread_barrier_wait(&ticket->wave->parked);
    ::pthread_barrier_wait(&ticket->wave->released);
    check_own_memory(ticket->number, stack, sizeof stack, "stack or thread-local storage after eviction");
    return argument;
}

// `count` threads are parked, evicted, released and joined.
void parked_wave(Filler& filler, unsigned count, std::uint32_t first_number) {
    Wave wave{};
    ::pthread_barrier_init(&wave.parked, nullptr, count + 1);
    ::pthread_barrier_init(&wave.released, nullptr, count + 1);
    std::vector<Ticket> tickets(count);
    std::vector<pthread_t> threads(count);
    for (unsigned i = 0; i < count; i++) {
        tickets[i] = {&wave, first_number + i};
        const int error = ::pthread_create(&threads[i], nullptr, parked_thread, &tickets[i]);
        check(error == 0, "pthread_create: {}", std::strerror(error));
    }
    ::pthread_barrier_wait(&wave.parked);
    filler.push();
    ::pthread_barrier_wait(&wave.released);
    for (unsigned i = 0; i < count; i++) {
        void* result = nullptr;
        timespec end{};
        ::clock_gettime(CLOCK_REALTIME, &end);
        end.tv_sec += 60;
        const int error = ::pthread_timedjoin_np(threads[i], &result, &end);
        check(error == 0, "thread {} of {} ended but its join does not: {}", i, count, std::strerror(error));
        check(result == &tickets[i], "thread {} returned {}", i, result);
    }
}

void* brief_thread(void* argument) {
    local_storage[0] = 7;
    return argument;
}

void* detached_thread(void*) {
    local_storage[0] = 9;
    finished_detached++;
    return nullptr;
}

// Short lives, one after another and detached, while eviction runs.
void churn(std::size_t filler_bytes, int count) {
    BackgroundFiller background(filler_bytes);
    for (int i = 0; i < count; i++) {
        pthread_t thread{};
        check(::pthread_create(&thread, nullptr, brief_thread, &background) == 0, "pthread_create");
        void* result = nullptr;
        ::pthread_join(thread, &result);
        check(result == &background, "a brief thread returned {}", result);
    }
    pthread_attr_t detached;
    ::pthread_attr_init(&detached);
    ::pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < count; i++) {
        pthread_t thread{};
        while (::pthread_create(&thread, &detached, detached_thread, nullptr) == EAGAIN) ::usleep(1000);
    }
    ::pthread_attr_destroy(&detached);
    const double end = now_s() + 60;
    while (finished_detached < count) {
        check(now_s() < end, "{} of {} detached threads ran", finished_detached.load(), count);
        ::usleep(1000);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    const auto wave = static_cast<unsigned>(options.threads) * 8;
    {
        Filler filler(options.filler);
        for (int round = 0; round < options.rounds * 2; round++) {
            parked_wave(filler, wave, static_cast<std::uint32_t>(round) * wave + 1);
        }
    }
    churn(options.filler, options.rounds * 500);
    return succeed();
}
