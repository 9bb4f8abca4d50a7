// System calls whose arguments lie in evicted pages: data, vectors, path names, results; and calls of other
// processes on them (process_vm_readv and writev).
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include <array>
#include <new>

#include "temp_file.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 32;

void files(Filler& filler, int fd, const Pages& buffer, std::uint32_t version) {
    buffer.stamp(version);
    filler.push();
    probe(buffer.data(), buffer.bytes());
    pwrite_all(fd, buffer.data(), buffer.bytes(), 0);
    buffer.stamp(version + 1);
    filler.push();
    pread_all(fd, buffer.data(), buffer.bytes(), 0);
    buffer.expect(version, "read(2) into evicted pages");

    // Odd offsets and lengths: the pages at both ends are changed in part only.
    buffer.stamp(version + 1);
    filler.push();
    constexpr std::size_t kSkip = 1000;
    pread_all(fd, buffer.data() + kSkip, buffer.bytes() - 2 * kSkip, kSkip);
    expect_content(buffer.data() + kSkip, buffer.bytes() - 2 * kSkip,
                   {1, version, static_cast<std::uint32_t>(kSkip / 8)}, "read(2) of an odd range");
    expect_content(buffer.data(), kSkip, buffer.key(version + 1), "bytes before an odd range");
}

void vectors(Filler& filler, int fd, const Pages& buffer, std::uint32_t version) {
    // The array of iovec itself is evicted as well.
    const Pages header(2, 1);
    auto* vector = new (header.data()) iovec[kPages];
    for (std::size_t i = 0; i < kPages; i++) vector[i] = {buffer.page(kPages - 1 - i), kPage};
    buffer.stamp(version);
    filler.push();
    probe(header.data(), header.bytes());
    check(::pwritev(fd, vector, kPages, 0) == static_cast<ssize_t>(buffer.bytes()),
          "pwritev out of evicted pages");
    buffer.stamp(version + 1);
    filler.push();
    check(::preadv(fd, vector, kPages, 0) == static_cast<ssize_t>(buffer.bytes()),
          "preadv into evicted pages");
    buffer.expect(version, "preadv into evicted pages");
}

void sockets(Filler& filler, const Pages& buffer, std::uint32_t version, int type) {
    std::array<int, 2> ends{};
    sys(::socketpair(AF_UNIX, type, 0, ends.data()), "socketpair");
    constexpr std::size_t kBytes = 4 * kPage;
    buffer.stamp(version);
    filler.push();
    check(::send(ends[0], buffer.data(), kBytes, 0) == static_cast<ssize_t>(kBytes),
          "send out of evicted pages");
    buffer.stamp(version + 1, 4, 4);
    filler.push();
    probe(buffer.page(4), kBytes);
    check(::recv(ends[1], buffer.page(4), kBytes, MSG_WAITALL) == static_cast<ssize_t>(kBytes),
          "recv into evicted pages: {}", std::strerror(errno));
    expect_content(buffer.page(4), kBytes, buffer.key(version), "recv into evicted pages");

    // A receiver that already waits in the kernel when its buffer is evicted.
    buffer.stamp(version + 2, 8, 4);
    std::jthread receiver([&] {
        check(::recv(ends[1], buffer.page(8), kBytes, MSG_WAITALL) == static_cast<ssize_t>(kBytes),
              "recv that waited: {}", std::strerror(errno));
    });
    filler.push();
    filler.push();
    check(::send(ends[0], buffer.data(), kBytes, 0) == static_cast<ssize_t>(kBytes),
          "send to one that waits");
    receiver.join();
    expect_content(buffer.page(8), kBytes, buffer.key(version),
                   "recv that waited while its buffer was evicted");
    ::close(ends[0]);
    ::close(ends[1]);
}

void small_results(Filler& filler) {
    const Pages page(3, 4);
    page.stamp(1);
    auto* path = new (page.data()) char[64];
    std::strcpy(path, "/proc/self/status");
    filler.push();
    const int fd = static_cast<int>(sys(::open(path, O_RDONLY), "open of a path in an evicted page"));
    ::close(fd);
    filler.push();
    sys(::stat(path, new (page.page(1)) struct stat), "stat with path and result in evicted pages");
    check(S_ISREG(reinterpret_cast<struct stat*>(page.page(1))->st_mode),
          "stat into an evicted page: wrong mode");
    filler.push();
    sys(::uname(new (page.page(2)) utsname), "uname into an evicted page");
    check(std::strcmp(reinterpret_cast<utsname*>(page.page(2))->sysname, "Linux") == 0,
          "uname: wrong content");
    filler.push();
    auto* time = new (page.page(3)) timespec;
    sys(::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, time), "clock_gettime into an evicted page");
    check(time->tv_nsec < 1'000'000'000, "clock_gettime: {} ns", time->tv_nsec);
    check(::getrandom(page.page(2), kPage, 0) == static_cast<ssize_t>(kPage),
          "getrandom into an evicted page");
}

// A child reads and writes the evicted memory of its parent from outside.
void other_process(Filler& filler, const Pages& buffer, std::uint32_t version) {
    buffer.stamp(version);
    filler.push();
    const pid_t parent = ::getpid();
    const pid_t child = static_cast<pid_t>(sys(::fork(), "fork"));
    if (child == 0) {
        Pages copy(1, kPages);
        const iovec local{copy.data(), copy.bytes()};
        const iovec remote{buffer.data(), buffer.bytes()};
        const ssize_t all = static_cast<ssize_t>(copy.bytes());
        check(::process_vm_readv(parent, &local, 1, &remote, 1, 0) == all,
              "process_vm_readv of evicted pages: {}", std::strerror(errno));
        copy.expect(version, "process_vm_readv of evicted pages");
        copy.stamp(version + 1);
        check(::process_vm_writev(parent, &local, 1, &remote, 1, 0) == all, "process_vm_writev: {}",
              std::strerror(errno));
        ::_exit(0);
    }
    expect_exit(child, 0, "the child that reads its parent");
    buffer.expect(version + 1, "pages written by another process");
    filler.push();
    buffer.expect(version + 1, "pages written by another process, evicted");
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    TempFile file(options.dir, 0);
    const Pages buffer(1, kPages);
    Filler filler(options.filler);
    for (int round = 0; round < options.rounds; round++) {
        const auto version = static_cast<std::uint32_t>(round) * 20 + 1;
        files(filler, file.fd(), buffer, version);
        vectors(filler, file.fd(), buffer, version + 4);
        sockets(filler, buffer, version + 8, SOCK_STREAM);
        sockets(filler, buffer, version + 12, SOCK_SEQPACKET);
        small_results(filler);
        other_process(filler, buffer, version + 16);
    }
    return succeed();
}
