// A process that must not be dumped (PR_SET_DUMPABLE): its memory is closed to a pager without CAP_SYS_PTRACE
// from one moment to the next, with pages outside and on their way. They come back all the same, in its
// children too; and it may think better of it.
#include <sys/prctl.h>

#include <thread>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 512;

void be_dumpable(bool is) {
    sys(::prctl(PR_SET_DUMPABLE, is ? 1 : 0), "PR_SET_DUMPABLE");
}

void one_round(Filler& filler, const Pages& pages, std::uint32_t version) {
    pages.stamp(version);
    filler.push();
    probe(pages.data(), pages.bytes());
    {
        // While pages are on their way.
        const std::jthread pushing([&] { filler.push(); });
        be_dumpable(false);
    }
    pages.expect(version, "after it became undumpable");
    pages.stamp(version + 1);
    filler.push();
    in_child("child of what must not be dumped", [&] {
        pages.expect(version + 1, "child");
        pages.stamp(version + 2);
        filler.push();
        pages.expect(version + 2, "child: its own content");
    });
    pages.expect(version + 1, "while it is undumpable");
    be_dumpable(true);
    pages.stamp(version + 3);
    filler.push();
    filler.push();
    pages.expect(version + 3, "dumpable again");
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    Filler filler(options.filler);
    const Pages pages(1, kPages);
    for (int round = 0; round < options.rounds; round++)
        one_round(filler, pages, static_cast<std::uint32_t>(round) * 4 + 1);
    return succeed();
}
