// Pipes between processes with evicted pages on both ends, and vmsplice, which leaves the program's own pages
// in the pipe: they must keep their content when the program's view of them is evicted.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 16;  // a pipe holds 16 pages

struct Pipe {
    std::array<int, 2> ends{};
    Pipe() { sys(::pipe(ends.data()), "pipe"); }
    ~Pipe() {
        ::close(ends[0]);
        ::close(ends[1]);
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
};

void read_all(int fd, void* to, std::size_t bytes, const char* what) {
    for (std::size_t done = 0; done < bytes;) {
        const ssize_t got = ::read(fd, static_cast<std::byte*>(to) + done, bytes - done);
        check(got > 0, "{}: read: {}", what, got == 0 ? "end of file" : std::strerror(errno));
        done += static_cast<std::size_t>(got);
    }
}

void splice_round(Filler& filler, const Pages& source, const Pages& sink, std::uint32_t version) {
    Pipe pipe;
    source.stamp(version);
    filler.push();
    probe(source.data(), source.bytes());
    const iovec vector{source.data(), source.bytes()};
    check(::vmsplice(pipe.ends[1], &vector, 1, 0) == static_cast<ssize_t>(source.bytes()), "vmsplice: {}",
          std::strerror(errno));
    sink.stamp(version + 1);
    filler.push();
    read_all(pipe.ends[0], sink.data(), sink.bytes(), "vmspliced pages");
    sink.expect(version, "vmspliced pages after eviction");
    source.expect(version, "source of vmsplice");
}

void plain_round(Filler& filler, const Pages& source, const Pages& sink, std::uint32_t version) {
    Pipe forth;
    Pipe back;
    constexpr int kTimes = 8;
    source.stamp(version);
    const pid_t child = static_cast<pid_t>(sys(::fork(), "fork"));
    if (child == 0) {
        const Pages own(1, kPages);
        for (std::uint32_t i = 0; i < kTimes; i++) {
            read_all(forth.ends[0], own.data(), own.bytes(), "child");
            own.expect(version + i, "child: what came through the pipe");
            sys(::write(back.ends[1], own.data(), own.bytes()), "write");
        }
        ::_exit(0);
    }
    for (std::uint32_t i = 0; i < kTimes; i++) {
        source.stamp(version + i);
        filler.push();
        sys(::write(forth.ends[1], source.data(), source.bytes()), "write out of evicted pages");
        read_all(back.ends[0], sink.data(), sink.bytes(), "parent");
        sink.expect(version + i, "what came back through the pipe");
    }
    expect_exit(child, 0, "child at the pipe");
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    const Pages source(1, kPages);
    const Pages sink(1, kPages);
    Filler filler(options.filler);
    for (int round = 0; round < options.rounds; round++) {
        splice_round(filler, source, sink, static_cast<std::uint32_t>(round) * 20 + 1);
        plain_round(filler, source, sink, static_cast<std::uint32_t>(round) * 20 + 5);
    }
    return succeed();
}
