// Memory that is pinned for long by a program that has forked: it cannot be moved, and must not keep the rest
// of the program from being moved.
#include <sys/uio.h>

#include <cstring>

#include "uring_support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 2048;  // 8 MiB: more than one batch of what is moved out

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    Ring ring;
    const Pages buffer(1, kPages);
    buffer.stamp(1);
    // From now on a page that cannot be moved may be one that a child shares.
    in_child("a child that ends at once", [] {});
    const iovec vector{buffer.data(), buffer.bytes()};
    const int error = ::io_uring_register_buffers(ring.get(), &vector, 1);
    if (error == -ENOMEM) skip("io_uring_register_buffers: locked memory is limited");
    check(error == 0, "io_uring_register_buffers: {}", std::strerror(-error));
    Filler filler(options.filler);
    for (int round = 0; round < options.rounds; round++) filler.push();
    buffer.expect(1, "a registered buffer");
    ::io_uring_unregister_buffers(ring.get());
    filler.push();
    buffer.expect(1, "a buffer that is no longer registered");
    return succeed();
}
