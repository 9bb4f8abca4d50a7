// Two programs whose need of memory script/bench size predicts: the ranks of the pages of a random web, and
// one that changes what it works on. Each does the same at every run and prints a digest. Knows nothing of
// who pages it.
//
//   sized_programs pagerank NODES ROUNDS
//   sized_programs phases MIB
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string_view>
#include <vector>

namespace {

constexpr std::uint32_t kLinksPerNode = 8;
constexpr std::size_t kWordsPerPage = 4096 / sizeof(std::uint64_t);

/// Most links stay near, as within a site; a few lead anywhere.
std::vector<std::uint32_t> make_links(std::uint32_t nodes) {
    constexpr std::uint32_t kSite = 2048, kFew = 1024;
    std::mt19937_64 random(7);
    std::vector<std::uint32_t> links(std::size_t{nodes} * kLinksPerNode);
    for (std::size_t i = 0; i < links.size(); i++) {
        const std::uint64_t from = i / kLinksPerNode;
        const bool stays = random() % kFew != 0;
        links[i] = static_cast<std::uint32_t>((stays ? from + random() % kSite : random()) % nodes);
    }
    return links;
}

double pagerank(std::uint32_t nodes, std::uint64_t rounds) {
    constexpr double kDamping = 0.85;
    const auto links = make_links(nodes);
    std::vector<double> rank(nodes, 1.0 / nodes), next(nodes);
    for (std::uint64_t round = 0; round < rounds; round++) {
        std::fill(next.begin(), next.end(), (1 - kDamping) / nodes);
        for (std::size_t i = 0; i < links.size(); i++)
            next[links[i]] += kDamping * rank[i / kLinksPerNode] / kLinksPerNode;
        rank.swap(next);
    }
    return *std::max_element(rank.begin(), rank.end()) * nodes;
}

/// Touches pages [first, end) at random, working a little on each.
std::uint64_t wander(std::vector<std::uint64_t>& words, std::size_t first, std::size_t end,
                     std::mt19937_64& random) {
    constexpr int kTouches = 50'000, kPasses = 20;
    std::uint64_t digest = 0;
    for (int i = 0; i < kTouches; i++) {
        std::uint64_t* page = &words[(first + random() % (end - first)) * kWordsPerPage];
        for (int pass = 0; pass < kPasses; pass++)
            for (std::size_t word = 0; word < kWordsPerPage; word++) digest = digest * 31 + page[word];
        page[random() % kWordsPerPage] += digest % 1024;
    }
    return digest;
}

/// Fills its memory, wanders in the first quarter of it, walks through all of it in order, and wanders in the
/// last half.
std::uint64_t phases(std::size_t mib) {
    std::mt19937_64 random(9);
    const std::size_t pages = mib * 256;
    std::vector<std::uint64_t> words(pages * kWordsPerPage);
    for (auto& word : words) word = random() % 1024;  // gets smaller
    std::uint64_t digest = wander(words, 0, pages / 4, random);
    for (int round = 0; round < 6; round++)
        for (const auto word : words) digest = digest * 33 + word;
    return digest + wander(words, pages / 2, pages, random);
}

std::uint64_t number(std::string_view text) {
    std::uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view kind = argc > 2 ? argv[1] : "";
    if (kind == "pagerank" && argc == 4 && number(argv[2]) > 0 && number(argv[2]) < 1u << 31) {
        std::printf("%.9f\n", pagerank(static_cast<std::uint32_t>(number(argv[2])), number(argv[3])));
        return 0;
    }
    if (kind == "phases" && argc == 3 && number(argv[2]) > 0) {
        std::printf("%016llx\n", static_cast<unsigned long long>(phases(number(argv[2]))));
        return 0;
    }
    std::fputs("usage: sized_programs pagerank NODES ROUNDS | sized_programs phases MIB\n", stderr);
    return 2;
}
