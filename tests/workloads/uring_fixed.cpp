// io_uring with registered buffers: the kernel keeps them pinned, so they must stay the program's pages for
// as long as they are registered, whatever is evicted around them.
#include <sys/uio.h>

#include "temp_file.h"
#include "uring_support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 64;  // 256 KiB: below any limit of locked memory

void register_buffer(Ring& ring, const Pages& buffer) {
    const iovec vector{buffer.data(), buffer.bytes()};
    const int error = ::io_uring_register_buffers(ring.get(), &vector, 1);
    if (error == -ENOMEM) skip("io_uring_register_buffers: locked memory is limited");
    check(error == 0, "io_uring_register_buffers: {}", std::strerror(-error));
}

// The program writes, the kernel reads the same page; the kernel writes, the program reads.
void exchange(Ring& ring, int fd, const Pages& buffer, std::uint32_t version) {
    buffer.stamp(version);
    ::io_uring_prep_write_fixed(ring.entry(), fd, buffer.data(), static_cast<unsigned>(buffer.bytes()), 0, 0);
    ring.submit();
    ring.expect_completion(buffer.bytes(), "write from a registered buffer");
    Pages other(1, kPages);
    pread_all(fd, other.data(), other.bytes(), 0);
    other.expect(version, "file written from a registered buffer");

    other.stamp(version + 1);
    pwrite_all(fd, other.data(), other.bytes(), 0);
    ::io_uring_prep_read_fixed(ring.entry(), fd, buffer.data(), static_cast<unsigned>(buffer.bytes()), 0, 0);
    ring.submit();
    ring.expect_completion(buffer.bytes(), "read into a registered buffer");
    buffer.expect(version + 1, "read into a registered buffer");
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    TempFile file(options.dir, O_DIRECT);
    Ring ring;
    const Pages buffer(1, kPages);
    std::uint32_t version = 1;
    {
        // Evicted before it is registered: registering must bring it back and pin what it held.
        Filler filler(options.filler);
        buffer.stamp(version);
        filler.push();
        filler.push();
        probe(buffer.data(), buffer.bytes());
        register_buffer(ring, buffer);
        buffer.expect(version, "evicted pages that were then registered");
        for (int round = 0; round < options.rounds; round++) {
            filler.push();
            exchange(ring, file.fd(), buffer, version += 2);
        }
    }
    {
        BackgroundFiller background(options.filler);
        for (int i = 0; i < options.rounds * 30; i++) exchange(ring, file.fd(), buffer, version += 2);
    }
    ::io_uring_unregister_buffers(ring.get());
    Filler filler(options.filler);
    filler.push();
    buffer.expect(version + 1, "a buffer that is no longer registered, evicted");
    return succeed();
}
