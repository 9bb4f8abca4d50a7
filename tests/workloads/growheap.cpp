// Heap patterns of real allocators: growth, realloc that moves, free of the middle, trim of the top, growth
// again; many sizes, several threads, content checked before every free.
#include <malloc.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "support.h"

namespace {

using namespace workload;

struct Block {
    std::byte* at = nullptr;
    std::size_t bytes = 0;
    Key key;
};

class Heap {
  public:
    explicit Heap(std::uint32_t region, std::uint64_t seed) : random_(seed), region_(region) {}
    ~Heap() {
        while (!blocks_.empty()) drop(blocks_.size() - 1);
    }
    Heap(const Heap&) = delete;
    Heap& operator=(const Heap&) = delete;

    void allocate(std::size_t total) {
        for (std::size_t sum = 0; sum < total;) {
            const std::size_t bytes = pick_size();
            auto* at = static_cast<std::byte*>(std::malloc(bytes));
            check(at != nullptr, "malloc of {} bytes", bytes);
            blocks_.push_back({at, bytes, {region_, 1, next_word_}});
            next_word_ += static_cast<std::uint32_t>(bytes / 8);
            write_words(at, bytes, blocks_.back().key);
            sum += bytes;
        }
    }

    void resize_some() {
        for (std::size_t i = 0; i < blocks_.size(); i += 3) {
            Block& block = blocks_[i];
            const std::size_t bytes = pick_size();
            auto* at = static_cast<std::byte*>(std::realloc(block.at, bytes));
            check(at != nullptr, "realloc to {} bytes", bytes);
            expect_content(at, std::min(bytes, block.bytes), block.key, "after realloc");
            block = {at, bytes, {region_, block.key.version + 1, block.key.word}};
            write_words(at, bytes, block.key);
        }
    }

    void drop_every(std::size_t step) {
        for (std::size_t i = blocks_.size(); i-- > 0;) {
            if (i % step == 0) drop(i);
        }
    }

    void check_all(const char* when) const {
        for (const auto& block : blocks_) expect_content(block.at, block.bytes, block.key, when);
    }

  private:
    std::size_t pick_size() {
        // Small ones, page-sized ones and some above the threshold from which malloc uses mmap.
        switch (random_.below(16)) {
            case 0:
                return 8 * (1 + random_.below(64 << 10));
            case 1:
            case 2:
            case 3:
                return kPage * (1 + random_.below(8));
            default:
                return 8 * (1 + random_.below(256));
        }
    }

    void drop(std::size_t index) {
        const Block block = blocks_[index];
        expect_content(block.at, block.bytes, block.key, "before free");
        std::free(block.at);
        blocks_[index] = blocks_.back();
        blocks_.pop_back();
    }

    Random random_;
    std::uint32_t region_;
    std::uint32_t next_word_ = 0;
    std::vector<Block> blocks_;
};

void cycle(Heap& heap, std::size_t bytes) {
    heap.allocate(bytes);
    heap.resize_some();
    heap.drop_every(2);
    ::malloc_trim(0);
    heap.allocate(bytes / 2);
    heap.check_all("after trim and growth");
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    Heap main_heap(1, options.seed);
    const std::size_t share = options.filler / static_cast<std::size_t>(options.threads + 1);
    std::vector<std::jthread> threads;
    for (int i = 0; i < options.threads; i++) {
        threads.emplace_back([&, i] {
            for (int round = 0; round < options.rounds; round++) {
                Heap heap(static_cast<std::uint32_t>(i) + 2, options.seed + static_cast<unsigned>(i) * 100);
                cycle(heap, share);
            }
        });
    }
    for (int round = 0; round < options.rounds; round++) {
        cycle(main_heap, share / 2);
        main_heap.drop_every(2);
    }
    threads.clear();
    main_heap.check_all("at the end");
    return succeed();
}
