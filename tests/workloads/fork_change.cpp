// A process forks and changes its mappings at once, while its child has not looked at them yet: what is
// unmapped, moved, replaced, discarded or kept out of later forks by the parent must still be in the child.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 512;  // of one region
constexpr std::size_t kBytes = kPages * kPage;
constexpr int kForks = 12;  // for each push of the filler
constexpr int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;

std::byte* map(void* at, int protection, int flags) {
    void* mapped = ::mmap(at, kBytes, protection, kAnonymous | flags, -1, 0);
    check(mapped != MAP_FAILED, "mmap: {}", std::strerror(errno));
    return static_cast<std::byte*>(mapped);
}

enum class Change { kUnmap, kMove, kReplace, kDiscard, kKeepOutOfForks };
constexpr std::array kChanges = {Change::kUnmap, Change::kMove, Change::kReplace, Change::kDiscard,
                                 Change::kKeepOutOfForks};

struct Region {
    std::byte* at;
    Key first;
};

// Returns where the region lies afterwards, or null when its content is gone.
std::byte* apply(Change change, std::byte* at) {
    switch (change) {
        case Change::kUnmap:
            sys(::munmap(at, kBytes), "munmap");
            return nullptr;
        case Change::kMove: {
            std::byte* to = map(nullptr, PROT_NONE, MAP_NORESERVE);
            check(::mremap(at, kBytes, kBytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to, "mremap: {}",
                  std::strerror(errno));
            return to;
        }
        case Change::kReplace:
            map(at, PROT_READ | PROT_WRITE, MAP_FIXED);
            write_words(at, kBytes, {2, 1, 0});
            expect_content(at, kBytes, {2, 1, 0}, "the mapping that took the place");
            sys(::munmap(at, kBytes), "munmap");
            return nullptr;
        case Change::kDiscard:
            sys(::madvise(at, kBytes, MADV_DONTNEED), "MADV_DONTNEED");
            sys(::munmap(at, kBytes), "munmap");
            return nullptr;
        case Change::kKeepOutOfForks:
            sys(::madvise(at, kBytes, MADV_DONTFORK), "MADV_DONTFORK");
            return at;
    }
    return nullptr;
}

void fork_and_change(Change change, const Region& region) {
    std::array<int, 2> changed{};
    sys(::pipe(changed.data()), "pipe");
    const pid_t child = static_cast<pid_t>(sys(::fork(), "fork"));
    if (child == 0) {
        char byte = 0;
        check(::read(changed[0], &byte, 1) == 1, "the parent did not say that it has changed its mapping");
        expect_content(region.at, kBytes, region.first, "child of a parent that has changed its mapping");
        ::_exit(0);
    }
    std::byte* now = apply(change, region.at);
    sys(::write(changed[1], "c", 1), "write");
    expect_exit(child, 0, "child of a parent that has changed its mapping");
    for (const int end : changed) ::close(end);
    if (now == nullptr) return;
    expect_content(now, kBytes, region.first, "parent, after the change");
    ::munmap(now, kBytes);
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    Filler filler(options.filler);
    std::uint32_t version = 0;
    for (int round = 0; round < options.rounds; round++) {
        for (const Change change : kChanges) {
            std::vector<Region> regions;
            for (int i = 0; i < kForks; i++) {
                regions.push_back({map(nullptr, PROT_READ | PROT_WRITE, 0), {1, ++version, 0}});
                write_words(regions.back().at, kBytes, regions.back().first);
            }
            filler.push();
            for (const Region& region : regions) {
                probe(region.at, kBytes);
                fork_and_change(change, region);
            }
        }
    }
    return succeed();
}
