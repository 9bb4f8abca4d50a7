// Memory at ever new addresses: of a constant number of stretches of 2 MiB, the oldest is given up for each
// that is begun. What is kept of the others must not become more for that.
//
//   new_addresses HOW [STRETCHES]
//
// HOW: `unmap` maps and unmaps each, `scatter` does so at random places of the address space, `drop` empties
// them (MADV_DONTNEED) in a mapping that holds all, `move` has each moved once before it is unmapped
// (mremap). A line of standard input, a number, has so many stretches go by, and is answered by one; at its
// end all is checked once more.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <string>
#include <string_view>

#include "support.h"

namespace {

using workload::check;

constexpr std::size_t kStretch = 2UL << 20;
constexpr std::size_t kPages = 16;                         // of each that are used, at random
constexpr std::uintptr_t kBase = std::uintptr_t{1} << 44;  // where nothing else is
constexpr std::size_t kPlaces = 1UL << 21;                 // 4 TiB

enum class How { kUnmap, kScatter, kDrop, kMove };

struct Stretch {
    std::byte* at = nullptr;
    std::uint32_t number = 0;
};

class Window {
  public:
    Window(How how, std::size_t kept) : how_(how), kept_(kept) {
        if (how_ != How::kDrop) return;
        constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
        void* all = ::mmap(at(0), kPlaces * kStretch, PROT_READ | PROT_WRITE, kFlags, -1, 0);
        check(all == at(0), "cannot map all of it: errno {}", errno);
        ::madvise(all, kPlaces * kStretch, MADV_NOHUGEPAGE);
    }

    void go_on(std::size_t count) {
        for (std::size_t i = 0; i < count; i++) {
            begin();
            if (stretches_.size() > kept_) end();
        }
    }
    void expect_all() const {
        for (const Stretch& stretch : stretches_) expect(stretch);
    }

  private:
    static std::byte* at(std::size_t place) {
        return reinterpret_cast<std::byte*>(kBase + place % kPlaces * kStretch);
    }

    /// Pages of a stretch and what they hold follow from its number.
    template <typename Visit>
    static void for_each_page(const Stretch& stretch, Visit visit) {
        workload::Random random(stretch.number);
        for (std::size_t i = 0; i < kPages; i++) {
            const auto page = static_cast<std::uint32_t>(i * 32 + random.below(32));
            visit(stretch.at + page * workload::kPage,
                  workload::Key{1, stretch.number & workload::kMaxVersion,
                                page * static_cast<std::uint32_t>(workload::kWordsPerPage)});
        }
    }
    static void expect(const Stretch& stretch) {
        for_each_page(stretch, [](std::byte* page, workload::Key key) {
            workload::expect_content(page, workload::kPage, key, "at a new address");
        });
    }

    std::byte* map() {
        if (how_ == How::kDrop) return at(next_place_++);
        for (;;) {
            std::byte* const place = at(how_ == How::kScatter ? random_.below(kPlaces) : next_place_++);
            void* got = ::mmap(place, kStretch, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            if (got == MAP_FAILED && errno == EEXIST) continue;
            check(got == place, "cannot map a stretch: errno {}", errno);
            ::madvise(got, kStretch, MADV_NOHUGEPAGE);
            return place;
        }
    }
    void begin() {
        const Stretch stretch{map(), ++number_};
        for_each_page(stretch, [](std::byte* page, workload::Key key) {
            workload::write_words(page, workload::kPage, key);
        });
        stretches_.push_back(stretch);
        if (how_ == How::kMove) move(stretches_[stretches_.size() / 2]);
    }
    void move(Stretch& stretch) {
        std::byte* const to = at(next_place_++);
        void* got = ::mremap(stretch.at, kStretch, kStretch, MREMAP_MAYMOVE | MREMAP_FIXED, to);
        check(got == to, "cannot move a stretch: errno {}", errno);
        stretch.at = to;
    }
    void end() {
        const Stretch oldest = stretches_.front();
        stretches_.pop_front();
        // Some, as to have all back would be most of the work.
        if (oldest.number % 8 == 0) expect(oldest);
        if (how_ == How::kDrop)
            workload::sys(::madvise(oldest.at, kStretch, MADV_DONTNEED), "madvise");
        else
            workload::sys(::munmap(oldest.at, kStretch), "munmap");
    }

    How how_;
    std::size_t kept_;
    std::deque<Stretch> stretches_;
    std::uint32_t number_ = 0;
    std::size_t next_place_ = 0;
    workload::Random random_{1};
};

How how_of(std::string_view word) {
    if (word == "unmap") return How::kUnmap;
    if (word == "scatter") return How::kScatter;
    if (word == "drop") return How::kDrop;
    if (word == "move") return How::kMove;
    std::fputs("usage: new_addresses unmap|scatter|drop|move [STRETCHES]\n", stderr);
    std::exit(workload::kExitUsage);
}

}  // namespace

int main(int argc, char** argv) {
    workload::set_program_name("new_addresses");
    const How how = how_of(argc > 1 ? argv[1] : "");
    Window window(how, argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 800);
    for (std::string line; std::getline(std::cin, line);) {
        window.go_on(std::strtoul(line.c_str(), nullptr, 10));
        std::cout << "gone by" << std::endl;
    }
    window.expect_all();
    return workload::succeed();
}
