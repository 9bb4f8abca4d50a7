// Threads that map, unmap, move, grow, discard and protect their extents of one address range while others
// work in the neighbouring ones and eviction runs. Each extent's content is known at all times.
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <barrier>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kExtentPages = 16;
constexpr std::size_t kExtentBytes = kExtentPages * kPage;
constexpr std::size_t kExtentsPerThread = 48;
constexpr int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr int kReadWrite = PROT_READ | PROT_WRITE;

// One extent as its owner knows it. Version 0: reads as zeros.
struct Extent {
    std::byte* at = nullptr;
    std::uint32_t number = 0;
    std::uint32_t version = 0;
    bool maybe_freed = false;  // MADV_FREE: each page holds its content or zeros
};

// Extents of all threads alternate, so that neighbours belong to different threads and share mappings.
class Racer {
  public:
    Racer(std::byte* arena, int index, int threads, std::uint64_t seed)
        : random_(seed * 77 + static_cast<unsigned>(index)) {
        for (std::size_t i = 0; i < kExtentsPerThread; i++) {
            const std::size_t number =
                i * static_cast<std::size_t>(threads) + static_cast<std::size_t>(index);
            extents_.push_back({arena + number * kExtentBytes, static_cast<std::uint32_t>(number), 0, false});
        }
        for (auto& extent : extents_) write(extent);
        reserve_away();
    }

    void step() {
        Extent& extent = extents_[random_.below(extents_.size())];
        verify(extent, "before a change");
        switch (random_.below(11)) {
            case 0:
                return unmap_and_map(extent);
            case 1:
                return map_over(extent);
            case 2:
                return discard(extent);
            case 3:
                return free_lazily(extent);
            case 4:
                return move_away_and_back(extent);
            case 5:
                return swap_with_fixed_move(extent);
            case 6:
                return grow(extent);
            case 7:
                return protect(extent);
            case 8:
                return discard_part(extent);
            default:
                return write(extent);
        }
    }

    void finish() {
        for (const auto& extent : extents_) verify(extent, "final pass");
    }

  private:
    Key key(const Extent& extent) const {
        return {1, extent.version, extent.number * static_cast<std::uint32_t>(kExtentPages * kWordsPerPage)};
    }

    void write(Extent& extent) {
        extent.version++;
        extent.maybe_freed = false;
        write_words(extent.at, kExtentBytes, key(extent));
    }

    static bool is_zero(const std::byte* page) {
        static const std::byte zeros[kPage]{};
        return std::memcmp(page, zeros, kPage) == 0;
    }

    void verify(const Extent& extent, const char* when) const {
        for (std::size_t p = 0; p < kExtentPages; p++) {
            const std::byte* page = extent.at + p * kPage;
            if ((extent.version == 0 || extent.maybe_freed) && is_zero(page)) continue;
            Key first = key(extent);
            first.word += static_cast<std::uint32_t>(p * kWordsPerPage);
            if (extent.version == 0)
                fail("{}: discarded page {} is not zero: {}", when, p,
                     explain_wrong_word(page, kPage, first, 0));
            expect_content(page, kPage, first, when);
        }
    }

    void zeroed(Extent& extent, const char* when) {
        const std::uint32_t version = extent.version;
        extent.version = 0;
        extent.maybe_freed = false;
        verify(extent, when);
        extent.version = version;
        write(extent);
    }

    // For a moment there is a hole in the arena. Nobody fills it: all mappings here name their address.
    void unmap_and_map(Extent& extent) {
        sys(::munmap(extent.at, kExtentBytes), "munmap");
        void* again = ::mmap(extent.at, kExtentBytes, kReadWrite, kAnonymous | MAP_FIXED_NOREPLACE, -1, 0);
        check(again == extent.at, "mmap of the range just unmapped: {}", std::strerror(errno));
        zeroed(extent, "unmapped and mapped again");
    }

    void map_over(Extent& extent) {
        void* again = ::mmap(extent.at, kExtentBytes, kReadWrite, kAnonymous | MAP_FIXED, -1, 0);
        check(again == extent.at, "mmap over a live range: {}", std::strerror(errno));
        zeroed(extent, "MAP_FIXED over a live range");
    }

    void discard(Extent& extent) {
        sys(::madvise(extent.at, kExtentBytes, MADV_DONTNEED), "MADV_DONTNEED");
        zeroed(extent, "after MADV_DONTNEED");
    }

    void discard_part(Extent& extent) {
        const std::size_t first = random_.below(kExtentPages);
        const std::size_t n = 1 + random_.below(kExtentPages - first);
        sys(::madvise(extent.at + first * kPage, n * kPage, MADV_DONTNEED), "MADV_DONTNEED");
        for (std::size_t p = first; p < first + n; p++) {
            check(is_zero(extent.at + p * kPage), "page {} of an extent discarded in part is not zero", p);
            Key again = key(extent);
            again.word += static_cast<std::uint32_t>(p * kWordsPerPage);
            if (extent.version != 0) write_words(extent.at + p * kPage, kPage, again);
        }
    }

    void free_lazily(Extent& extent) {
        sys(::madvise(extent.at, kExtentBytes, MADV_FREE), "MADV_FREE");
        extent.maybe_freed = true;
        verify(extent, "after MADV_FREE");
        if (random_.below(2) == 0) write(extent);
    }

    void move(const Extent& extent, std::byte* from, std::byte* to) {
        void* moved = ::mremap(from, kExtentBytes, kExtentBytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
        check(moved == to, "mremap of extent {}: {}", extent.number, std::strerror(errno));
    }

    // The thread's own place to move things to, reserved while it is not used.
    std::byte* reserve_away() {
        void* at = ::mmap(away_, kAwayBytes, PROT_NONE,
                          kAnonymous | MAP_NORESERVE | (away_ == nullptr ? 0 : MAP_FIXED), -1, 0);
        check(at != MAP_FAILED, "mmap of a reserve: {}", std::strerror(errno));
        return away_ = static_cast<std::byte*>(at);
    }

    void move_away_and_back(Extent& extent) {
        std::byte* home = extent.at;
        move(extent, home, away_);
        extent.at = away_;
        verify(extent, "after mremap to another place");
        write(extent);
        move(extent, away_, home);
        extent.at = home;
        verify(extent, "after mremap back");
        reserve_away();
    }

    // The content of one extent replaces another's: the target is unmapped by the move.
    void swap_with_fixed_move(Extent& extent) {
        Extent& victim = extents_[random_.below(extents_.size())];
        if (&victim == &extent) return;
        move(extent, extent.at, victim.at);
        Extent moved = extent;
        moved.at = victim.at;
        verify(moved, "after mremap over a live range");
        void* again = ::mmap(extent.at, kExtentBytes, kReadWrite, kAnonymous | MAP_FIXED_NOREPLACE, -1, 0);
        check(again == extent.at, "mmap where an extent was moved from: {}", std::strerror(errno));
        write(victim);
        zeroed(extent, "mapped again after its content was moved away");
    }

    // Grows while it moves, shrinks in place, grows in place, and goes home.
    void grow(Extent& extent) {
        std::byte* home = extent.at;
        void* grown = ::mremap(home, kExtentBytes, 2 * kExtentBytes, MREMAP_MAYMOVE | MREMAP_FIXED, away_);
        check(grown == away_, "mremap that grows and moves: {}", std::strerror(errno));
        extent.at = away_;
        verify(extent, "after mremap that grows and moves");
        expect_zero_tail("new page of a grown mapping");
        check(::mremap(away_, 2 * kExtentBytes, kExtentBytes, 0) == away_, "mremap that shrinks: {}",
              std::strerror(errno));
        check(::mremap(away_, kExtentBytes, 2 * kExtentBytes, 0) == away_, "mremap that grows in place: {}",
              std::strerror(errno));
        verify(extent, "after it shrank and grew in place");
        expect_zero_tail("page of a mapping that shrank and grew");
        move(extent, away_, home);
        extent.at = home;
        verify(extent, "after it grew and moved back");
        reserve_away();
    }

    void expect_zero_tail(const char* what) {
        for (std::size_t p = kExtentPages; p < 2 * kExtentPages; p++) {
            check(is_zero(away_ + p * kPage), "{} {} is not zero", what, p);
            std::memset(away_ + p * kPage, 0x5a, kPage);
        }
    }

    void protect(Extent& extent) {
        sys(::mprotect(extent.at, kExtentBytes, PROT_READ), "mprotect read-only");
        verify(extent, "while read-only");
        sys(::mprotect(extent.at, kExtentBytes, PROT_NONE), "mprotect none");
        ::usleep(200);
        sys(::mprotect(extent.at, kExtentBytes, kReadWrite), "mprotect read-write");
        verify(extent, "after PROT_NONE");
        write(extent);
    }

    static constexpr std::size_t kAwayBytes = 3 * kExtentBytes;  // two extents and a gap, which lets one grow

    Random random_;
    std::vector<Extent> extents_;
    std::byte* away_ = nullptr;
};

// The heap end moves up and down; what is above it is zero again when it comes back.
void move_break(const std::atomic<bool>& stop) {
    constexpr std::size_t kPagesUp = 64;
    std::uint32_t version = 0;
    while (!stop) {
        void* before = ::sbrk(0);
        void* at = ::sbrk(static_cast<std::intptr_t>(kPagesUp * kPage));
        if (at == reinterpret_cast<void*>(-1)) return;
        if (at != before) continue;  // the C library moved it in between
        auto* words = static_cast<std::uint64_t*>(at);
        for (std::size_t i = 0; i < kPagesUp * kWordsPerPage; i += kWordsPerPage) {
            check(words[i] == 0, "page {} above the old break is not zero: {:#x}", i / kWordsPerPage,
                  words[i]);
        }
        write_words(at, kPagesUp * kPage, {2, ++version, 0});
        ::usleep(1000);
        expect_content(at, kPagesUp * kPage, {2, version, 0}, "heap above the old break");
        ::sbrk(-static_cast<std::intptr_t>(kPagesUp * kPage));
    }
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    // The C library's heap must not move its end while move_break() does: let it take all that it needs now.
    ::mallopt(M_TOP_PAD, 4 << 20);
    ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
    std::free(std::malloc(64 << 10));
    const std::size_t arena_bytes =
        static_cast<std::size_t>(options.threads) * kExtentsPerThread * kExtentBytes;
    void* arena = ::mmap(nullptr, arena_bytes, kReadWrite, kAnonymous, -1, 0);
    check(arena != MAP_FAILED, "mmap of the arena: {}", std::strerror(errno));

    BackgroundFiller background(options.filler);
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> steps{0};
    {
        // Nobody makes holes before everybody has mapped what he needs: stacks, heaps and reserves would land
        // in them.
        std::barrier everybody_is_there(options.threads);
        std::vector<std::jthread> racers;
        racers.emplace_back([&] { move_break(stop); });
        for (int i = 0; i < options.threads; i++) {
            racers.emplace_back([&, i] {
                Racer racer(static_cast<std::byte*>(arena), i, options.threads, options.seed);
                everybody_is_there.arrive_and_wait();
                for (; !stop; steps++) racer.step();
                racer.finish();
            });
        }
        const double end = now_s() + options.seconds;
        while (now_s() < end) {
            ::usleep(100'000);
            probe(arena, arena_bytes);
        }
        stop = true;
    }
    fmt::print(stderr, "mmap_race: {} steps, {} pushes of filler\n", steps.load(), background.pushes());
    return succeed();
}
