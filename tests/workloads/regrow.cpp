// A mapping gives up its second half and grows again in its place: what lay there is gone, wherever it was,
// and what comes is zeros, without an event that would say so.
#include <sys/mman.h>

#include "support.h"

namespace {

constexpr std::size_t kPages = 2048;
constexpr std::size_t kHalf = kPages / 2;

}  // namespace

int main(int argc, char** argv) {
    const workload::Options options = workload::parse_options(argc, argv);
    const workload::Pages pages(1, kPages);
    workload::Filler filler(options.filler);
    std::byte* const at = pages.data();
    const std::size_t half = pages.bytes() / 2;
    for (int round = 1; round <= options.rounds; round++) {
        pages.stamp(static_cast<std::uint32_t>(round));
        filler.push();
        workload::probe(at + half, half);
        workload::check(::mremap(at, pages.bytes(), half, 0) == at, "mremap that shrinks in place failed");
        workload::check(::mremap(at, half, pages.bytes(), 0) == at, "mremap that grows in place failed");
        // Backwards, so that no page is a neighbour of one that has been asked for.
        for (std::size_t page = kPages; page > kHalf; page--)
            pages.expect_zero(page - 1, 1, "after it grew again");
        pages.expect(static_cast<std::uint32_t>(round), 0, kHalf, "in the half that stayed");
    }
    return workload::succeed();
}
