// MADV_WIPEONFORK: the child sees zeros, the parent its content. MADV_DONTFORK: the child does not have the
// range. Advice given before and after the pages were evicted.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 64;

bool is_mapped(const void* at) {
    unsigned char resident = 0;
    return ::mincore(const_cast<void*>(at), kPage, &resident) == 0 || errno != ENOMEM;
}

// `late`: the pages are evicted first and then advised.
void one_round(Filler& filler, std::uint32_t version, bool late) {
    const Pages wiped(1, kPages);
    const Pages absent(2, kPages);
    const Pages plain(3, kPages);
    const Pages around(5, 3 * kPages);  // one mapping, the middle of which forks leave out
    const auto advise = [&] {
        sys(::madvise(around.page(kPages), kPages * kPage, MADV_DONTFORK), "MADV_DONTFORK");
        sys(::madvise(wiped.data(), wiped.bytes(), MADV_WIPEONFORK), "MADV_WIPEONFORK");
        sys(::madvise(absent.data(), absent.bytes(), MADV_DONTFORK), "MADV_DONTFORK");
    };
    if (!late) advise();
    for (const auto* pages : {&wiped, &absent, &plain, &around}) pages->stamp(version);
    filler.push();
    if (late) advise();
    probe(plain.data(), plain.bytes());
    in_child("child of advised ranges", [&] {
        wiped.expect_zero(0, kPages, "child: MADV_WIPEONFORK");
        check(!is_mapped(absent.data()), "child: MADV_DONTFORK range is there");
        plain.expect(version, "child: range without advice");
        wiped.stamp(version + 1);
        filler.push();
        wiped.expect(version + 1, "child: its own content of the wiped range");
        around.expect(version, 0, kPages, "child: before what is left out");
        around.expect(version, 2 * kPages, kPages, "child: behind what is left out");
    });
    wiped.expect(version, "parent: MADV_WIPEONFORK");
    absent.expect(version, "parent: MADV_DONTFORK");
    for (const auto* pages : {&plain, &around}) pages->expect(version, "parent: range without advice");

    // Advice taken back: an ordinary range again.
    sys(::madvise(wiped.data(), wiped.bytes(), MADV_KEEPONFORK), "MADV_KEEPONFORK");
    sys(::madvise(absent.data(), absent.bytes(), MADV_DOFORK), "MADV_DOFORK");
    filler.push();
    in_child("child without advice", [&] {
        wiped.expect(version, "child: advice taken back");
        absent.expect(version, "child: advice taken back");
    });
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    Filler filler(options.filler);
    for (int round = 0; round < options.rounds; round++) {
        one_round(filler, static_cast<std::uint32_t>(round) * 4 + 1, false);
        one_round(filler, static_cast<std::uint32_t>(round) * 4 + 3, true);
    }
    return succeed();
}
