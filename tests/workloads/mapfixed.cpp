// The same addresses mapped again: after munmap and over live mappings, private over private, a file over
// anonymous memory and back. What was evicted from the old mapping must never show in the new one.
#include <sys/mman.h>

#include "temp_file.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 512;
constexpr std::size_t kBytes = kPages * kPage;

void* map_at(void* at, int flags, int fd) {
    void* got = ::mmap(at, kBytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    check(got != MAP_FAILED, "mmap: {}", std::strerror(errno));
    check(got == at, "mmap at {} gave {}", at, got);
    return got;
}

void one_round(Filler& filler, const Pages& pages, int fd, std::uint32_t version) {
    void* at = pages.data();
    constexpr int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;

    pages.stamp(version);
    filler.push();
    probe(at, kBytes);
    sys(::munmap(at, kBytes), "munmap of evicted pages");
    map_at(at, kAnonymous | MAP_FIXED_NOREPLACE, -1);
    pages.expect_zero(0, kPages, "mapped again after munmap");

    pages.stamp(version + 1);
    filler.push();
    map_at(at, kAnonymous | MAP_FIXED, -1);
    pages.stamp(version + 2, 0, kPages / 2);
    filler.push();
    pages.expect(version + 2, 0, kPages / 2, "mapped over a live mapping, first half");
    pages.expect_zero(kPages / 2, kPages / 2, "mapped over a live mapping, second half");

    // A private file mapping over evicted anonymous pages, and anonymous memory over that.
    Pages content(1, kPages);
    content.stamp(version + 3);
    pwrite_all(fd, content.data(), kBytes, 0);
    pages.stamp(version + 4);
    filler.push();
    map_at(at, MAP_PRIVATE | MAP_FIXED, fd);
    pages.expect(version + 3, "file mapped over evicted pages");
    pages.stamp(version + 5, 0, 16);
    filler.push();
    pages.expect(version + 5, 0, 16, "private pages of a file mapping");
    pages.expect(version + 3, 16, kPages - 16, "shared pages of a file mapping");
    map_at(at, kAnonymous | MAP_FIXED, -1);
    pages.expect_zero(0, kPages, "anonymous memory over a file mapping");

    // Holes in the middle.
    pages.stamp(version + 6);
    filler.push();
    sys(::munmap(pages.page(100), 50 * kPage), "munmap of the middle");
    void* hole =
        ::mmap(pages.page(100), 50 * kPage, PROT_READ | PROT_WRITE, kAnonymous | MAP_FIXED_NOREPLACE, -1, 0);
    check(hole == pages.page(100), "mmap into the hole: {}", std::strerror(errno));
    pages.expect(version + 6, 0, 100, "before the hole");
    pages.expect_zero(100, 50, "in the hole");
    pages.expect(version + 6, 150, kPages - 150, "behind the hole");
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    TempFile file(options.dir, 0);
    const Pages pages(1, kPages);
    Filler filler(options.filler);
    for (int round = 0; round < options.rounds; round++) {
        one_round(filler, pages, file.fd(), static_cast<std::uint32_t>(round) * 10 + 1);
    }
    return succeed();
}
