// mremap(2) with MREMAP_DONTUNMAP, as collectors move a heap: the content is at the new address, the old one
// stays mapped and reads as zeros, and both are ordinary memory again; to a free place and over another
// mapping, resident and evicted.
#include <sys/mman.h>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 512;

std::byte* move_content(const Pages& from, void* onto) {
    const int flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP | (onto == nullptr ? 0 : MREMAP_FIXED);
    void* at = ::mremap(from.data(), from.bytes(), from.bytes(), flags, onto);
    check(at != MAP_FAILED, "mremap with MREMAP_DONTUNMAP is refused");
    return static_cast<std::byte*>(at);
}

void one_round(Filler& filler, std::uint32_t version, bool evicted_first, bool onto_another) {
    const Pages old(1, kPages), other(2, kPages);
    old.stamp(version);
    other.stamp(version);
    if (evicted_first) filler.push();
    probe(old.data(), old.bytes());
    std::byte* moved = move_content(old, onto_another ? other.data() : nullptr);
    old.expect_zero(0, kPages, "where the content has moved from");
    expect_content(moved, old.bytes(), old.key(version), "where it has moved to");
    old.stamp(version + 1);
    filler.push();
    filler.push();
    old.expect(version + 1, "new content at the old address");
    expect_content(moved, old.bytes(), old.key(version), "where it has moved to, after eviction");
    // Back, over what is there now.
    check(::mremap(moved, old.bytes(), old.bytes(), MREMAP_MAYMOVE | MREMAP_FIXED, old.data()) == old.data(),
          "mremap back is refused");
    filler.push();
    old.expect(version, "moved back");
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    Filler filler(options.filler);
    for (int round = 0; round < options.rounds; round++) {
        const auto version = static_cast<std::uint32_t>(round) * 8 + 1;
        one_round(filler, version, false, false);
        one_round(filler, version + 2, true, false);
        one_round(filler, version + 4, true, true);
    }
    return succeed();
}
