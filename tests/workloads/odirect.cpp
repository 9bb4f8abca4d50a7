// O_DIRECT reads into evicted pages and writes out of them, and while eviction runs: the device writes behind
// the page table's back, which is where a pager that copies before it unmaps loses data.
#include "temp_file.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 256;
constexpr std::uint32_t kBuffer = 1;

void one_round(int fd, Filler& filler, const Pages& buffer, std::uint32_t version) {
    // Out of evicted pages: the file must get what they hold.
    buffer.stamp(version);
    filler.push();
    probe(buffer.data(), buffer.bytes());
    pwrite_all(fd, buffer.data(), buffer.bytes(), 0);
    Pages check_buffer(kBuffer, kPages);
    pread_all(fd, check_buffer.data(), check_buffer.bytes(), 0);
    check_buffer.expect(version, "file written by O_DIRECT out of evicted pages");

    // Into evicted pages: what they held before must not come back, neither now nor after the next eviction.
    check_buffer.stamp(version + 1);
    pwrite_all(fd, check_buffer.data(), check_buffer.bytes(), 0);
    buffer.stamp(version + 2);
    filler.push();
    probe(buffer.data(), buffer.bytes());
    pread_all(fd, buffer.data(), buffer.bytes(), 0);
    buffer.expect(version + 1, "O_DIRECT read into evicted pages");
    filler.push();
    buffer.expect(version + 1, "O_DIRECT read into evicted pages, evicted again");
}

// Each read brings content that differs from the last; eviction runs all the time.
void race(int fd, std::size_t filler_bytes, const Pages& buffer, int reads) {
    constexpr std::size_t kRun = 16;
    constexpr std::uint32_t kVersions = 8;
    Pages source(kBuffer, kPages);
    for (std::uint32_t v = 0; v < kVersions; v++) {
        source.stamp(100 + v);
        pwrite_all(fd, source.data(), source.bytes(), static_cast<off_t>(v * source.bytes()));
    }
    BackgroundFiller background(filler_bytes);
    Random random(7);
    for (int i = 0; i < reads; i++) {
        const auto v = static_cast<std::uint32_t>(i) % kVersions;
        const std::size_t first = random.below(kPages - kRun);
        const auto offset = static_cast<off_t>(v * source.bytes() + first * kPage);
        pread_all(fd, buffer.page(first), kRun * kPage, offset);
        buffer.expect(100 + v, first, kRun, "O_DIRECT read while pages are evicted");
    }
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    TempFile file(options.dir, O_DIRECT);
    Pages buffer(kBuffer, kPages);
    {
        Filler filler(options.filler);
        for (int round = 0; round < options.rounds; round++) {
            one_round(file.fd(), filler, buffer, static_cast<std::uint32_t>(round) * 3 + 1);
        }
    }
    race(file.fd(), options.filler, buffer, options.rounds * 200);
    return succeed();
}
