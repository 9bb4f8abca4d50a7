// Maps far more than any machine has (MAP_NORESERVE and PROT_NONE reservations, as runtimes with garbage
// collectors do), touches it sparsely, makes parts accessible late, and checks content.
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kReserved = 256UL << 30;
constexpr std::size_t kStride = kReserved / 4096 + kPage;  // one page in about 64 MiB

std::byte* reserve(int protection) {
    void* at = ::mmap(nullptr, kReserved, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(at != MAP_FAILED, "mmap of {} GiB: {}", kReserved >> 30, std::strerror(errno));
    return static_cast<std::byte*>(at);
}

Key key_at(std::size_t touch, std::uint32_t version) {
    return {1, version, static_cast<std::uint32_t>(touch * kWordsPerPage)};
}

void sparse(Filler& filler, std::byte* area, std::uint32_t version) {
    std::size_t touch = 0;
    for (std::size_t at = 0; at + kPage <= kReserved; at += kStride, touch++) {
        if (version > 1)
            expect_content(area + at, kPage, key_at(touch, version - 1), "sparse page of the last round");
        write_words(area + at, kPage, key_at(touch, version));
    }
    filler.push();
    touch = 0;
    for (std::size_t at = 0; at + kPage <= kReserved; at += kStride, touch++) {
        if (touch % 64 == 0) probe(area + at, kPage);
        expect_content(area + at, kPage, key_at(touch, version), "sparse page");
        const auto* next = reinterpret_cast<const std::uint64_t*>(area + at + kPage);
        if (touch % 16 == 0) check(*next == 0, "page beside sparse page {} is not zero", touch);
    }
}

// A reservation becomes accessible chunk by chunk and is handed back in between.
void commit_and_decommit(Filler& filler, std::byte* area, std::uint32_t version) {
    constexpr std::size_t kChunk = 4UL << 20;
    for (std::size_t i = 0; i < 8; i++) {
        std::byte* chunk = area + i * (kReserved / 8);
        sys(::mprotect(chunk, kChunk, PROT_READ | PROT_WRITE), "mprotect of a reservation");
        check(*reinterpret_cast<std::uint64_t*>(chunk) == 0, "committed chunk {} is not zero", i);
        write_words(chunk, kChunk, key_at(i * 1024, version));
    }
    filler.push();
    for (std::size_t i = 0; i < 8; i++) {
        std::byte* chunk = area + i * (kReserved / 8);
        expect_content(chunk, kChunk, key_at(i * 1024, version), "committed chunk");
        sys(::madvise(chunk, kChunk, MADV_DONTNEED), "MADV_DONTNEED");
        sys(::mprotect(chunk, kChunk, PROT_NONE), "mprotect back to a reservation");
    }
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    std::byte* open_area = reserve(PROT_READ | PROT_WRITE);
    std::byte* closed_area = reserve(PROT_NONE);
    Filler filler(options.filler);
    for (int round = 1; round <= options.rounds; round++) {
        sparse(filler, open_area, static_cast<std::uint32_t>(round));
        commit_and_decommit(filler, closed_area, static_cast<std::uint32_t>(round));
    }
    sys(::munmap(open_area, kReserved), "munmap");
    sys(::munmap(closed_area, kReserved), "munmap");
    return succeed();
}
