// Deep recursion in the main thread and in others: stacks of many megabytes whose lower frames are evicted
// while the upper ones run, checked on the way back.
#include <pthread.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kFrameBytes = 2 * kPage;

[[gnu::noinline]] std::uint64_t descend(std::uint32_t region, std::uint32_t depth, Filler* at_the_bottom) {
    std::uint64_t frame[kFrameBytes / 8];
    const Key key{region, 1, depth * static_cast<std::uint32_t>(kFrameBytes / 8)};
    write_words(frame, sizeof frame, key);
    asm volatile("" ::"r"(frame) : "memory");
    std::uint64_t below = 0;
    if (depth > 0) {
        below = descend(region, depth - 1, at_the_bottom);
    } else if (at_the_bottom != nullptr) {
        at_the_bottom->push();
        at_the_bottom->push();
    }
    asm volatile("" ::"r"(frame) : "memory");
    expect_content(frame, sizeof frame, key,
                   region == 1 ? "frame of the main stack" : "frame of a thread's stack");
    return below + 1;
}

struct Task {
    std::uint32_t region;
    std::uint32_t depth;
};

void* in_thread(void* argument) {
    const auto* task = static_cast<const Task*>(argument);
    for (int i = 0; i < 3; i++) {
        check(descend(task->region, task->depth, nullptr) == task->depth + 1, "wrong depth");
    }
    return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    Filler filler(options.filler);
    rlimit limit{};
    sys(::getrlimit(RLIMIT_STACK, &limit), "getrlimit");
    const std::size_t main_bytes = std::min<std::size_t>(limit.rlim_cur, 64UL << 20) / 4 * 3;
    const auto depth = static_cast<std::uint32_t>(main_bytes / (kFrameBytes + 256)) - 16;

    constexpr std::size_t kThreadStack = 16UL << 20;
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, kThreadStack);
    for (int round = 0; round < options.rounds; round++) {
        std::vector<Task> tasks;
        std::vector<pthread_t> threads(static_cast<std::size_t>(options.threads));
        for (std::size_t i = 0; i < threads.size(); i++) {
            tasks.push_back({static_cast<std::uint32_t>(i) + 2, kThreadStack / (kFrameBytes + 256) / 4 * 3});
        }
        for (std::size_t i = 0; i < threads.size(); i++) {
            check(::pthread_create(&threads[i], &attributes, in_thread, &tasks[i]) == 0, "pthread_create");
        }
        check(descend(1, depth, &filler) == depth + 1, "wrong depth");
        for (const auto thread : threads) ::pthread_join(thread, nullptr);
    }
    ::pthread_attr_destroy(&attributes);
    return succeed();
}
