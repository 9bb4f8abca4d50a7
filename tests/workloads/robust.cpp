// Robust mutexes in evicted pages: the kernel marks them when their owner dies, by writing to their page at a
// time at which a fault in it cannot be served any more.
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <new>

#include "support.h"

namespace {

using namespace workload;

pthread_mutex_t* robust_mutex(void* at) {
    auto* mutex = new (at) pthread_mutex_t;
    pthread_mutexattr_t attributes;
    ::pthread_mutexattr_init(&attributes);
    ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    ::pthread_mutex_init(mutex, &attributes);
    ::pthread_mutexattr_destroy(&attributes);
    return mutex;
}

void expect_owner_died(pthread_mutex_t* mutex, int index) {
    timespec end{};
    ::clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 10;
    const int error = ::pthread_mutex_timedlock(mutex, &end);
    check(error == EOWNERDEAD, "robust mutex {}: {} instead of EOWNERDEAD: its owner died unnoticed", index,
          error == 0 ? "locked" : std::strerror(error));
    ::pthread_mutex_consistent(mutex);
    ::pthread_mutex_unlock(mutex);
}

// A thread takes several mutexes, all are evicted while it holds them, and it dies.
void owner_dies(Filler& filler) {
    constexpr int kMutexes = 8;
    const Pages pages(1, kMutexes);
    pthread_mutex_t* mutexes[kMutexes];
    for (int i = 0; i < kMutexes; i++) mutexes[i] = robust_mutex(pages.page(static_cast<std::size_t>(i)));
    std::atomic<bool> locked{false};
    std::atomic<bool> die{false};
    std::jthread owner([&] {
        for (auto* mutex : mutexes) ::pthread_mutex_lock(mutex);
        locked = true;
        while (!die) ::usleep(1000);
    });
    while (!locked) ::usleep(1000);
    filler.push();
    filler.push();
    probe(pages.data(), pages.bytes());
    die = true;
    owner.join();
    for (int i = 0; i < kMutexes; i++) expect_owner_died(mutexes[i], i);
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    Filler filler(options.filler);
    for (int round = 0; round < options.rounds; round++) {
        owner_dies(filler);
        // From then on a pager without CAP_SYS_PTRACE is not told where threads have their lists.
        if (options.extra == "undumpable") sys(::prctl(PR_SET_DUMPABLE, 0), "PR_SET_DUMPABLE");
    }
    return succeed();
}
