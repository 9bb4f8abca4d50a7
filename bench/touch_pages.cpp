// Fills memory with pages of known content and touches them: in order, at random, or the popular ones more
// often (Zipf). Prints JSON: accesses a second, and how long one took. Every access checks the page's number
// in its first word. Knows nothing of who pages it: script/bench swap runs it under farswap and its rivals.
//
//   touch_pages --size 512M --content half --seconds 1.5 random:0:1 zipf:30:4:2.5
//
// A work is PATTERN:WRITES%:THREADS, and seconds of warm-up if not those of all. Works follow each other in
// one process, so that the memory is filled once. An access is one word of the page; a writing one stores
// first, so that it is also one fault.
// Exit status: 0, 1 when a page is wrong or there is no memory, 2 usage.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kPageSize = 4096;
constexpr std::uint64_t kWordsPerPage = kPageSize / sizeof(std::uint64_t);
constexpr std::uint64_t kWordsPerGroup = 16;  // of content: so many random words, the others alike
constexpr double kTheta = 0.99;               // YCSB's
// An access that took as long was waited for: a page from a store takes more, one that is there much less.
constexpr std::uint64_t kMissNs = 20'000;

[[noreturn]] void die(const std::string& what, int status = 1) {
    fmt::print(stderr, "touch_pages: {}\n", what);
    std::exit(status);
}

/// Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators (2014).
struct Random {
    std::uint64_t state;

    std::uint64_t next() {
        std::uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    std::uint64_t below(std::uint64_t limit) {
        return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * limit) >> 64);
    }
    double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
};

/// Gray et al.: Quickly Generating Billion-Record Synthetic Databases (SIGMOD 1994), as in YCSB.
class Zipf {
  public:
    explicit Zipf(std::uint64_t items) : items_(static_cast<double>(items)) {
        for (std::uint64_t i = 1; i <= items; ++i) zeta_ += 1 / std::pow(static_cast<double>(i), kTheta);
        const double zeta_of_two = 1 + std::pow(0.5, kTheta);
        eta_ = (1 - std::pow(2 / items_, 1 - kTheta)) / (1 - zeta_of_two / zeta_);
    }
    /// 0 is the most popular.
    std::uint64_t rank(double unit) const {
        const double scaled = unit * zeta_;
        if (scaled < 1) return 0;
        if (scaled < 1 + std::pow(0.5, kTheta)) return 1;
        const double rank = items_ * std::pow(eta_ * unit - eta_ + 1, 1 / (1 - kTheta));
        return static_cast<std::uint64_t>(std::min(rank, items_ - 1));
    }

  private:
    double items_;
    double zeta_ = 0;
    double eta_;
};

/// Of durations in nanoseconds; 32 buckets an octave, so that a quantile is right to 3%.
class Histogram {
  public:
    void add(std::uint64_t ns) {
        ++counts_[bucket(ns)];
        ++total_;
        max_ = std::max(max_, ns);
    }
    void add(const Histogram& other) {
        for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
        total_ += other.total_;
        max_ = std::max(max_, other.max_);
    }
    std::uint64_t total() const { return total_; }
    std::uint64_t max() const { return max_; }
    std::uint64_t quantile(double share) const { return quantile_from(share, 0); }
    /// Those that took `least` ns or more.
    std::uint64_t total_from(std::uint64_t least) const {
        std::uint64_t count = 0;
        for (std::size_t i = bucket(least); i < counts_.size(); ++i) count += counts_[i];
        return count;
    }
    std::uint64_t quantile_from(double share, std::uint64_t least) const {
        const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(total_from(least)));
        std::uint64_t seen = 0;
        for (std::size_t i = bucket(least); i < counts_.size(); ++i)
            if ((seen += counts_[i]) > wanted) return std::min(upper_end(i), max_);
        return max_;
    }

  private:
    static constexpr unsigned kBits = 5;

    static std::size_t bucket(std::uint64_t ns) {
        if (ns < (1u << kBits)) return ns;
        const auto shift = static_cast<unsigned>(std::bit_width(ns)) - kBits - 1;
        return (std::size_t{shift + 1} << kBits) + ((ns >> shift) - (1u << kBits));
    }
    static std::uint64_t upper_end(std::size_t bucket) {
        if (bucket < (1u << kBits)) return bucket;
        const auto shift = static_cast<unsigned>(bucket >> kBits) - 1;
        return (((bucket & ((1u << kBits) - 1)) + (1u << kBits) + 1) << shift) - 1;
    }

    std::array<std::uint64_t, (64 - kBits + 1) << kBits> counts_{};
    std::uint64_t total_ = 0;
    std::uint64_t max_ = 0;
};

enum class Pattern { sequential, random, zipf };

const std::map<std::string, Pattern> kPatterns{
    {"sequential", Pattern::sequential}, {"random", Pattern::random}, {"zipf", Pattern::zipf}};
const std::map<std::string, std::uint64_t> kContents{{"incompressible", 16}, {"half", 8}, {"quarter", 4}};

struct Work {
    std::string name;
    Pattern pattern;
    double write_share;
    unsigned threads;
    double warm_up_s;
};

struct Options {
    std::uint64_t size = std::uint64_t{512} << 20;
    std::uint64_t random_words = 16;  // of each group
    unsigned fill_threads = 1;
    double seconds = 1;
    double warm_up_s = 0.3;
    std::uint64_t accesses = 0;  // of each thread, instead of seconds
    std::uint64_t seed = 1;
    std::vector<Work> works;
};

Work parse_work(const std::string& text, double warm_up_s) {
    std::array<char, 16> pattern{};
    unsigned writes = 0, threads = 0;
    int end = 0, warm_up_end = 0;
    const bool read =
        std::sscanf(text.c_str(), "%15[a-z]:%u:%u%n", pattern.data(), &writes, &threads, &end) == 3;
    const auto rest = read ? text.substr(static_cast<std::size_t>(end)) : "";
    if (!rest.empty() && std::sscanf(rest.c_str(), ":%lf%n", &warm_up_s, &warm_up_end) != 1) warm_up_end = -1;
    if (!read || static_cast<std::size_t>(warm_up_end) != rest.size() ||
        !kPatterns.contains(pattern.data()) || writes > 100 || threads < 1 || threads > 64)
        die(fmt::format("{}: write sequential|random|zipf:WRITES%:THREADS[:SECONDS]", text), 2);
    return {text.substr(0, static_cast<std::size_t>(end)), kPatterns.at(pattern.data()), writes / 100.0,
            threads, warm_up_s};
}

/// The pages, and what stands in them.
class Memory {
  public:
    explicit Memory(const Options& options) : pages_(options.size / kPageSize), seed_(options.seed) {
        void* const at = ::mmap(nullptr, options.size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) die("there is no memory of this size");
        words_ = static_cast<std::uint64_t*>(at);
        std::vector<std::jthread> threads;
        for (unsigned thread = 0; thread < options.fill_threads; ++thread)
            threads.emplace_back([this, &options, thread] {
                const std::uint64_t end = pages_ * (thread + 1) / options.fill_threads;
                for (std::uint64_t page = pages_ * thread / options.fill_threads; page < end; ++page)
                    fill(page, options.random_words);
            });
    }

    std::uint64_t pages() const { return pages_; }

    void touch(std::uint64_t page, bool write, std::uint64_t value) {
        std::uint64_t* const words = words_ + page * kWordsPerPage;
        if (write) std::atomic_ref(words[1]).store(value, std::memory_order_relaxed);
        const std::uint64_t found = std::atomic_ref(words[0]).load(std::memory_order_relaxed);
        if (found != number_of(page))
            die(fmt::format("page {} begins with {:#x}, not with {:#x}", page, found, number_of(page)));
    }

  private:
    std::uint64_t number_of(std::uint64_t page) const { return Random{seed_ ^ (page << 20)}.next(); }

    void fill(std::uint64_t page, std::uint64_t random_words) {
        std::uint64_t* const words = words_ + page * kWordsPerPage;
        Random random{seed_ ^ (page << 20)};
        const std::uint64_t alike = number_of(page);
        for (std::uint64_t i = 0; i < kWordsPerPage; ++i)
            words[i] = i % kWordsPerGroup < random_words ? random.next() : alike;
    }

    std::uint64_t* words_;
    std::uint64_t pages_;
    std::uint64_t seed_;
};

/// Which page next. Sequential threads walk a part each, over and over.
class Walk {
  public:
    Walk(const Work& work, const Zipf& zipf, std::uint64_t pages, unsigned thread)
        : pattern_(work.pattern),
          zipf_(zipf),
          pages_(pages),
          first_(pages * thread / work.threads),
          end_(pages * (thread + 1) / work.threads),
          at_(first_) {}

    std::uint64_t next(Random& random) {
        switch (pattern_) {
            case Pattern::sequential: {
                const std::uint64_t page = at_;
                if (++at_ == end_) at_ = first_;
                return page;
            }
            case Pattern::random:
                return random.below(pages_);
            case Pattern::zipf:
                break;
        }
        // Popular pages do not lie side by side: a prime larger than their number spreads them, each to its
        // own place.
        return zipf_.rank(random.unit()) * 2654435761u % pages_;
    }

  private:
    Pattern pattern_;
    const Zipf& zipf_;
    std::uint64_t pages_, first_, end_, at_;
};

struct Span {
    Histogram accesses;
    Clock::time_point began, ended;
};

std::uint64_t ns_between(Clock::time_point from, Clock::time_point to) {
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(to - from).count());
}

/// Until `until`, or so many accesses.
Span touch_for(Memory& memory, Walk& walk, Random& random, double write_share, Clock::time_point until,
               std::uint64_t accesses) {
    Span span;
    span.began = span.ended = Clock::now();
    while (span.ended < until && span.accesses.total() < accesses) {
        const std::uint64_t page = walk.next(random);
        const bool write = random.unit() < write_share;
        const std::uint64_t value = random.next();
        const auto before = Clock::now();
        memory.touch(page, write, value);
        span.ended = Clock::now();
        span.accesses.add(ns_between(before, span.ended));
    }
    return span;
}

Span run_thread(const Options& options, const Work& work, const Zipf& zipf, Memory& memory, unsigned thread,
                Clock::time_point begin) {
    constexpr auto kNoLimit = std::numeric_limits<std::uint64_t>::max();
    const auto after = [](Clock::time_point from, double seconds) {
        return from + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    };
    Walk walk(work, zipf, memory.pages(), thread);
    Random random{options.seed * 0x10001 + thread};
    touch_for(memory, walk, random, work.write_share, after(begin, work.warm_up_s), kNoLimit);
    // Not from when the warm-up should have ended: its last access may have taken longer than all that
    // follows.
    const auto until = options.accesses > 0 ? Clock::time_point::max() : after(Clock::now(), options.seconds);
    return touch_for(memory, walk, random, work.write_share, until,
                     options.accesses > 0 ? options.accesses : kNoLimit);
}

std::string run_work(const Options& options, const Work& work, const Zipf& zipf, Memory& memory) {
    std::vector<std::unique_ptr<Span>> spans(work.threads);
    rusage before, after;
    ::getrusage(RUSAGE_SELF, &before);
    const auto begin = Clock::now();
    {
        std::vector<std::jthread> threads;
        for (unsigned i = 0; i < work.threads; ++i)
            threads.emplace_back([&, i] {
                spans[i] = std::make_unique<Span>(run_thread(options, work, zipf, memory, i, begin));
            });
    }
    ::getrusage(RUSAGE_SELF, &after);
    const auto all = std::make_unique<Span>(*spans.front());
    for (unsigned i = 1; i < work.threads; ++i) {
        all->accesses.add(spans[i]->accesses);
        all->began = std::min(all->began, spans[i]->began);
        all->ended = std::max(all->ended, spans[i]->ended);
    }
    const double seconds = std::chrono::duration<double>(all->ended - all->began).count();
    const Histogram& accesses = all->accesses;
    return fmt::format(
        R"({{"work": "{}", "accesses": {}, "seconds": {:.6f}, "per_s": {:.1f}, "median_ns": {}, "p99_ns": {}, )"
        R"("max_ns": {}, "missed": {}, "missed_median_ns": {}, "missed_p99_ns": {}, "major_faults": {}}})",
        work.name, accesses.total(), seconds, static_cast<double>(accesses.total()) / seconds,
        accesses.quantile(0.5), accesses.quantile(0.99), accesses.max(), accesses.total_from(kMissNs),
        accesses.quantile_from(0.5, kMissNs), accesses.quantile_from(0.99, kMissNs),
        after.ru_majflt - before.ru_majflt);
}

Options parse(int argc, char** argv) {
    Options options;
    std::string content = "incompressible";
    std::vector<std::string> works;
    CLI::App app("Touches pages of memory by a pattern and prints how long that took.", "touch_pages");
    app.add_option("--size", options.size, "memory to fill, such as 512M")
        ->transform(CLI::AsSizeValue(false));
    app.add_option("--content", content, "incompressible, half or quarter: what a compressor makes of it");
    app.add_option("--fill-threads", options.fill_threads, "so many threads fill a part each, all at once")
        ->check(CLI::Range(1, 64));
    app.add_option("--seconds", options.seconds, "how long each work is measured");
    app.add_option("--warm-up", options.warm_up_s, "seconds before that, not counted");
    app.add_option("--accesses", options.accesses, "so many by each thread, instead of --seconds");
    app.add_option("--seed", options.seed, "of contents and accesses");
    app.add_option("WORK", works, "sequential|random|zipf:WRITES%:THREADS[:SECONDS of warm-up]")->required();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::exit(app.exit(error) == 0 ? 0 : 2);
    }
    if (!kContents.contains(content)) die(fmt::format("{}: no such content", content), 2);
    if (options.size < 16 * kPageSize) die("--size has to be 64K or more", 2);
    options.random_words = kContents.at(content);
    for (const std::string& work : works) options.works.push_back(parse_work(work, options.warm_up_s));
    return options;
}

int run(int argc, char** argv) {
    const Options options = parse(argc, argv);
    const auto began = Clock::now();
    Memory memory(options);
    const Zipf zipf(memory.pages());
    fmt::print(R"({{"pages": {}, "setup_s": {:.3f}, "works": [)", memory.pages(),
               static_cast<double>(ns_between(began, Clock::now())) * 1e-9);
    for (const char* separator = ""; const Work& work : options.works) {
        std::fflush(stdout);  // whoever reads along sees that the work before has ended
        fmt::print("{}\n  {}", separator, run_work(options, work, zipf, memory));
        separator = ",";
    }
    fmt::print("\n]}}\n");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    return run(argc, argv);
}
