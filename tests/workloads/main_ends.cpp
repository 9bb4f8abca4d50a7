// The main thread ends and another goes on with the memory: /proc/PID then shows a zombie that has none.
// (Such a program was not counted, and never paged.)
#include <pthread.h>

#include <cstdlib>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 2048;

void* go_on(void* argument) {
    const Options& options = *static_cast<const Options*>(argument);
    const Pages pages(1, kPages);
    Filler filler(options.filler);
    for (int round = 1; round <= options.rounds; round++) {
        pages.stamp(static_cast<std::uint32_t>(round));
        filler.push();
        probe(pages.data(), pages.bytes());
        pages.expect(static_cast<std::uint32_t>(round), "memory of a program whose main thread has ended");
    }
    std::exit(succeed());
}

}  // namespace

int main(int argc, char** argv) {
    static const Options options = parse_options(argc, argv);
    pthread_t thread;
    check(::pthread_create(&thread, nullptr, go_on, const_cast<Options*>(&options)) == 0, "no thread");
    ::pthread_exit(nullptr);
}
