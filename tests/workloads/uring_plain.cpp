// io_uring with ordinary buffers in evicted pages: reads, writes, vectors, and a receive that was submitted
// before its buffer was evicted and completes after.
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>

#include "temp_file.h"
#include "uring_support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 64;

void file_round(Ring& ring, int fd, Filler& filler, const Pages& buffer, std::uint32_t version) {
    buffer.stamp(version);
    filler.push();
    probe(buffer.data(), buffer.bytes());
    ::io_uring_prep_write(ring.entry(), fd, buffer.data(), static_cast<unsigned>(buffer.bytes()), 0);
    ring.submit();
    ring.expect_completion(buffer.bytes(), "io_uring write out of evicted pages");

    buffer.stamp(version + 1);
    filler.push();
    ::io_uring_prep_read(ring.entry(), fd, buffer.data(), static_cast<unsigned>(buffer.bytes()), 0);
    ring.submit();
    ring.expect_completion(buffer.bytes(), "io_uring read into evicted pages");
    buffer.expect(version, "io_uring read into evicted pages");
    filler.push();
    buffer.expect(version, "io_uring read, evicted again");
}

void vector_round(Ring& ring, int fd, Filler& filler, const Pages& buffer, std::uint32_t version) {
    // Two halves, the second first.
    const std::size_t half = buffer.bytes() / 2;
    std::array<iovec, 2> vector{{{buffer.data() + half, half}, {buffer.data(), half}}};
    buffer.stamp(version);
    filler.push();
    ::io_uring_prep_writev(ring.entry(), fd, vector.data(), 2, 0);
    ring.submit();
    ring.expect_completion(buffer.bytes(), "io_uring writev out of evicted pages");
    buffer.stamp(version + 1);
    filler.push();
    probe(buffer.data(), buffer.bytes());
    ::io_uring_prep_readv(ring.entry(), fd, vector.data(), 2, 0);
    ring.submit();
    ring.expect_completion(buffer.bytes(), "io_uring readv into evicted pages");
    buffer.expect(version, "io_uring readv into evicted pages");
}

// The request waits in the kernel while its buffer leaves.
void pending_receive(Ring& ring, Filler& filler, const Pages& buffer, std::uint32_t version) {
    std::array<int, 2> ends{};
    sys(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), "socketpair");
    const Pages message(1, 4);
    message.stamp(version);
    buffer.stamp(version + 1);
    ::io_uring_prep_recv(ring.entry(), ends[0], buffer.data(), message.bytes(), MSG_WAITALL);
    ring.submit();
    filler.push();
    probe(buffer.data(), message.bytes());
    check(::send(ends[1], message.data(), message.bytes(), 0) == static_cast<ssize_t>(message.bytes()),
          "send: {}", std::strerror(errno));
    ring.expect_completion(message.bytes(), "io_uring receive that waited while its buffer was evicted");
    buffer.expect(version, 0, message.count(), "io_uring receive that waited");
    buffer.expect(version + 1, message.count(), buffer.count() - message.count(), "pages behind the receive");
    ::close(ends[0]);
    ::close(ends[1]);
}

void race(Ring& ring, int fd, std::size_t filler_bytes, const Pages& buffer, int reads) {
    constexpr std::size_t kRun = 8;
    for (std::uint32_t v = 0; v < 4; v++) {
        buffer.stamp(100 + v);
        pwrite_all(fd, buffer.data(), buffer.bytes(), static_cast<off_t>(v * buffer.bytes()));
    }
    BackgroundFiller background(filler_bytes);
    Random random(3);
    for (int i = 0; i < reads; i++) {
        const auto v = static_cast<std::uint32_t>(i) % 4;
        const std::size_t first = random.below(kPages - kRun);
        ::io_uring_prep_read(ring.entry(), fd, buffer.page(first), kRun * kPage,
                             v * buffer.bytes() + first * kPage);
        ring.submit();
        ring.expect_completion(kRun * kPage, "io_uring read while pages are evicted");
        buffer.expect(100 + v, first, kRun, "io_uring read while pages are evicted");
    }
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    TempFile direct(options.dir, O_DIRECT);
    TempFile buffered(options.dir, 0);
    Ring ring;
    const Pages buffer(1, kPages);
    {
        Filler filler(options.filler);
        for (int round = 0; round < options.rounds; round++) {
            const auto version = static_cast<std::uint32_t>(round) * 8 + 1;
            file_round(ring, direct.fd(), filler, buffer, version);
            file_round(ring, buffered.fd(), filler, buffer, version + 2);
            vector_round(ring, direct.fd(), filler, buffer, version + 4);
            pending_receive(ring, filler, buffer, version + 6);
        }
    }
    race(ring, direct.fd(), options.filler, buffer, options.rounds * 100);
    return succeed();
}
