// What is done to each page on its way out and back, in us of CPU time, beside memcpy in the same run: seal,
// open, comparison, checksum, the look for pages of one word, and compression of pages of several kinds. The
// operations take turns, so that whatever else the machine does hits all of them. Prints a Markdown table.
// Usage: page_costs [ROUNDS]
#include <fmt/format.h>
#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "farswap/request.h"
#include "swap/checksum.h"
#include "swap/page_records.h"
#include "swap/seal.h"

namespace farswap {
namespace {

constexpr std::size_t kPages = 1024;  // 4 MiB: more than the second level of caches holds
constexpr int kZstdLevel = 1;
constexpr int kRoundsDefault = 21;

/// Pages one behind the other.
using Pages = std::vector<std::byte>;

Pages random_pages(std::mt19937_64& random) {
    Pages pages(kPages * kPageSize);
    for (std::size_t i = 0; i < pages.size(); i += 8) {
        const std::uint64_t word = random();
        std::memcpy(pages.data() + i, &word, 8);
    }
    return pages;
}

/// Every second 64 bytes are zeros.
Pages half_random_pages(std::mt19937_64& random) {
    Pages pages = random_pages(random);
    for (std::size_t i = 0; i < pages.size(); i += 128)
        std::fill_n(pages.begin() + static_cast<std::ptrdiff_t>(i), 64, std::byte{0});
    return pages;
}

/// Words out of 2000, the first ones the most frequent, as in a language.
Pages text_pages(std::mt19937_64& random) {
    std::vector<std::string> words(2000);
    for (std::string& word : words)
        for (std::size_t i = 2 + random() % 8; i > 0; --i) word += "etaoinshrdlucmfw"[random() % 16];
    std::string text;
    while (text.size() < kPages * kPageSize) {
        const double place = static_cast<double>(random() >> 11) / static_cast<double>(1ULL << 53);
        text += words[static_cast<std::size_t>(place * place * place * 2000)];
        text += random() % 12 == 0 ? ".\n" : " ";
    }
    Pages pages(kPages * kPageSize);
    std::memcpy(pages.data(), text.data(), pages.size());
    return pages;
}

/// What lists and trees look like: two pointers into some MiB, a small number, a length.
Pages heap_pages(std::mt19937_64& random) {
    Pages pages(kPages * kPageSize);
    for (std::size_t i = 0; i < pages.size(); i += 32) {
        const std::array<std::uint64_t, 4> node = {0x5555'5600'0000 + random() % (1 << 18) * 32,
                                                   0x5555'5600'0000 + random() % (1 << 18) * 32,
                                                   random() % 100'000, 24};
        std::memcpy(pages.data() + i, node.data(), sizeof node);
    }
    return pages;
}

struct Compressed;

/// One thing done to kPages pages, and how long a page took in each round.
struct Row {
    std::string name;
    std::string pages;
    std::function<void()> work;
    std::function<std::size_t()> bytes_left = nullptr;  ///< of all pages, after compression
    const Compressed* expanded = nullptr;               ///< a row only where some of it got smaller
    std::vector<double> us{};
};

double cpu_us() {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

template <typename T>
void keep(const T& value) {
    asm volatile("" : : "r,m"(value) : "memory");
}

template <typename Work>
std::function<void()> each_page(Work work) {
    return [work] {
        for (std::size_t i = 0; i < kPages; ++i) work(i);
    };
}

/// A compressor's input and what it makes of it. A page that would not become smaller counts as a whole one.
struct Compressed {
    explicit Compressed(const Pages& pages_in)
        : pages(pages_in), packed(kPages * kPageSize), lengths(kPages), out(kPageSize) {}
    std::size_t total() const {
        std::size_t sum = 0;
        for (const std::size_t length : lengths) sum += length == 0 ? kPageSize : length;
        return sum;
    }
    bool is_smaller() const { return total() < pages.size(); }
    const Pages& pages;
    Pages packed;
    std::vector<std::size_t> lengths;  ///< 0: not smaller
    Pages out;
};

class Bench {
  public:
    Bench() {
        std::mt19937_64 random(1);
        kinds_ = {{"random", random_pages(random)},
                  {"half random", half_random_pages(random)},
                  {"text", text_pages(random)},
                  {"lists", heap_pages(random)}};
        zeros_.resize(kPages * kPageSize);
        copy_.resize(kPages * kPageSize);
        sealed_.resize(kPages * kPageSize);
        tags_.resize(kPages);
        lz4_state_.resize(static_cast<std::size_t>(LZ4_sizeofState()) / 8 + 1);
        plain_rows();
        seal_rows();
        compressed_.reserve(2 * kinds_.size());
        for (const auto& [kind, pages] : kinds_) {
            lz4_rows(kind, compressed_.emplace_back(pages));
            zstd_rows(kind, compressed_.emplace_back(pages));
        }
    }
    ~Bench() {
        ZSTD_freeCCtx(zstd_out_);
        ZSTD_freeDCtx(zstd_in_);
    }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    void run(int rounds) {
        for (int round = 0; round <= rounds; ++round) {
            for (Row& row : rows_) {
                const double start = cpu_us();
                row.work();
                if (round > 0) row.us.push_back((cpu_us() - start) / kPages);
            }
        }
    }

    void print(int rounds) {
        fmt::print("us of CPU time a page, of {} rounds over {} pages; memcpy is of the same rounds\n\n",
                   rounds, kPages);
        fmt::print(
            "| what | pages | median | least | most | median, of memcpy's | bytes a page after |\n"
            "|---|---|---:|---:|---:|---:|---:|\n");
        double memcpy_us = 0;
        for (Row& row : rows_) {
            std::ranges::sort(row.us);
            const double median = row.us[row.us.size() / 2];
            if (row.expanded != nullptr && !row.expanded->is_smaller()) continue;
            if (memcpy_us == 0) memcpy_us = median;
            const std::string left =
                row.bytes_left ? fmt::format("{}", row.bytes_left() / kPages) : std::string();
            fmt::print("| {} | {} | {:.3f} | {:.3f} | {:.3f} | {:.1f} | {} |\n", row.name, row.pages, median,
                       row.us.front(), row.us.back(), median / memcpy_us, left);
        }
        fmt::print(
            "\n`half random`: every second 64 bytes are zeros. `text`: words out of 2000, the first ones the "
            "most "
            "frequent. `lists`: nodes of two pointers into 8 MiB, a number below 100,000 and a length. A "
            "page that "
            "would not become smaller counts with its 4096 bytes, and is not expanded. The record of a page "
            "takes "
            "whole units of 512 bytes on the store.\n");
    }

  private:
    const std::byte* random_page(std::size_t i) const { return kinds_.front().second.data() + i * kPageSize; }

    void plain_rows() {
        rows_.push_back({"memcpy", "any", each_page([this](std::size_t i) {
                             std::memcpy(copy_.data() + i * kPageSize, random_page(i), kPageSize);
                         })});
        rows_.push_back({"fill_word", "random",
                         each_page([this](std::size_t i) { keep(fill_word(random_page(i)).has_value()); })});
        rows_.push_back({"fill_word", "zeros", each_page([this](std::size_t i) {
                             keep(fill_word(zeros_.data() + i * kPageSize).has_value());
                         })});
        rows_.push_back(
            {"XXH3", "any", each_page([this](std::size_t i) { keep(page_checksum(random_page(i), 1)); })});
    }

    void seal_rows() {
        rows_.push_back({"seal", "any", [this] {
                             first_ = 0;
                             for (std::size_t i = 0; i < kPages; ++i) {
                                 const SealNumber number = sealer_->next_number();
                                 if (i == 0) first_ = number;
                                 tags_[i] = sealer_->seal(number, place(i), random_page(i), kPageSize,
                                                          sealed_.data() + i * kPageSize);
                             }
                         }});
        rows_.push_back({"open", "any", each_page([this](std::size_t i) {
                             keep(sealer_->open(first_ + i, place(i), tags_[i],
                                                sealed_.data() + i * kPageSize, kPageSize,
                                                copy_.data() + i * kPageSize));
                         })});
        rows_.push_back({"compare with the seal", "any", each_page([this](std::size_t i) {
                             keep(sealer_->tag_of(first_ + i, place(i), random_page(i), kPageSize));
                         })});
    }

    void lz4_rows(const std::string& kind, Compressed& set) {
        rows_.push_back({"lz4 compress", kind, each_page([this, &set](std::size_t i) {
                             set.lengths[i] = static_cast<std::size_t>(LZ4_compress_fast_extState(
                                 lz4_state_.data(),
                                 reinterpret_cast<const char*>(set.pages.data() + i * kPageSize),
                                 reinterpret_cast<char*>(set.packed.data() + i * kPageSize), kPageSize,
                                 kPageSize - 1, 1));
                         }),
                         [&set] { return set.total(); }});
        rows_.push_back(
            {"lz4 expand", kind, each_page([&set](std::size_t i) {
                 if (set.lengths[i] == 0) return;
                 keep(LZ4_decompress_safe(reinterpret_cast<const char*>(set.packed.data() + i * kPageSize),
                                          reinterpret_cast<char*>(set.out.data()),
                                          static_cast<int>(set.lengths[i]), kPageSize));
             }),
             nullptr, &set});
    }

    void zstd_rows(const std::string& kind, Compressed& set) {
        rows_.push_back({"zstd -1 compress", kind, each_page([this, &set](std::size_t i) {
                             const std::size_t length = ZSTD_compressCCtx(
                                 zstd_out_, set.packed.data() + i * kPageSize, kPageSize - 1,
                                 set.pages.data() + i * kPageSize, kPageSize, kZstdLevel);
                             set.lengths[i] = ZSTD_isError(length) != 0 ? 0 : length;
                         }),
                         [&set] { return set.total(); }});
        rows_.push_back({"zstd -1 expand", kind, each_page([this, &set](std::size_t i) {
                             if (set.lengths[i] == 0) return;
                             keep(ZSTD_decompressDCtx(zstd_in_, set.out.data(), kPageSize,
                                                      set.packed.data() + i * kPageSize, set.lengths[i]));
                         }),
                         nullptr, &set});
    }

    static SealPlace place(std::size_t i) { return {0, static_cast<std::uint32_t>(i)}; }

    std::vector<std::pair<std::string, Pages>> kinds_;
    Pages zeros_, copy_, sealed_;
    std::vector<std::uint64_t> tags_;
    std::vector<std::uint64_t> lz4_state_;
    std::vector<Compressed> compressed_;
    std::unique_ptr<Sealer> sealer_ = Sealer::create().value();
    SealNumber first_ = 0;
    ZSTD_CCtx* zstd_out_ = ZSTD_createCCtx();
    ZSTD_DCtx* zstd_in_ = ZSTD_createDCtx();
    std::vector<Row> rows_;
};

}  // namespace
}  // namespace farswap

int main(int argc, char** argv) {
    const int rounds = argc > 1 ? std::max(std::atoi(argv[1]), 1) : farswap::kRoundsDefault;
    farswap::Bench bench;
    bench.run(rounds);
    bench.print(rounds);
}
