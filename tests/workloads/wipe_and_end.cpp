// MADV_WIPEONFORK by who ends as soon as it has forked, as a daemon begins: the child sees zeros.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 64;

// Whoever forks is gone before anybody could ask it what its child has got wiped.
void wiped_by_who_ends(Filler& filler, std::uint32_t version) {
    const Pages wiped(4, kPages);
    sys(::madvise(wiped.data(), wiped.bytes(), MADV_WIPEONFORK), "MADV_WIPEONFORK");
    sys(::prctl(PR_SET_CHILD_SUBREAPER, 1), "PR_SET_CHILD_SUBREAPER");
    int ends[2];
    sys(::pipe(ends), "pipe");
    in_child("who forks and ends", [&] {
        wiped.stamp(version);
        filler.push();
        if (sys(::fork(), "fork") != 0) ::_exit(0);
        const pid_t own = ::getpid();
        sys(::write(ends[1], &own, sizeof own), "write");
        wiped.expect_zero(0, kPages, "child of who has ended: MADV_WIPEONFORK");
    });
    pid_t orphan = 0;
    sys(::read(ends[0], &orphan, sizeof orphan), "read");
    expect_exit(orphan, 0, "child of who has ended");
    for (const int end : ends) ::close(end);
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    Filler filler(options.filler);
    for (int round = 0; round < options.rounds; round++)
        wiped_by_who_ends(filler, static_cast<std::uint32_t>(round) + 1);
    return succeed();
}
