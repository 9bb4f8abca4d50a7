// Forked children rewrite all that they share with their parent, at once: each write makes a copy without an
// event. Meanwhile threads of the parent start and end on stacks that the fork shares too, and it rewrites a
// part of its own.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "support.h"

namespace {

using namespace workload;

constexpr int kChildren = 3;
constexpr std::uint32_t kParentFirst = 1, kParentThen = 2;

[[noreturn]] void rewrite_all(const Pages& pages, std::uint32_t version) {
    for (std::size_t page = 0; page < pages.count(); page++) {
        pages.expect(kParentFirst, page, 1, "child, before it rewrites the page");
        pages.stamp(version, page, 1);
    }
    pages.expect(version, "child, after it rewrote all");
    ::_exit(0);
}

// A thread that ends has its number cleared by the kernel, in memory that nobody may wait for any more.
void start_and_end_threads(int threads) {
    for (int i = 0; i < threads; i++) {
        std::jthread one([] {});
        std::jthread other([] {});
    }
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    const Pages pages(1, 2 * options.filler / kPage);
    for (int round = 0; round < options.rounds; round++) {
        start_and_end_threads(1);  // their stacks are kept for the next ones
        pages.stamp(kParentFirst);
        std::array<pid_t, kChildren> children{};
        for (std::uint32_t i = 0; i < kChildren; i++) {
            children[i] = static_cast<pid_t>(sys(::fork(), "fork"));
            if (children[i] == 0) rewrite_all(pages, 10 + i);
        }
        const std::size_t quarter = pages.count() / 4;
        for (std::size_t page = 0; page < quarter; page++) {
            pages.expect(kParentFirst, page, 1, "parent, before it rewrites the page");
            pages.stamp(kParentThen, page, 1);
            if (page % 256 == 0) start_and_end_threads(4);
        }
        for (const pid_t child : children) expect_exit(child, 0, "child that rewrote what it shared");
        pages.expect(kParentThen, 0, quarter, "parent, what it rewrote");
        pages.expect(kParentFirst, quarter, pages.count() - quarter, "parent, what it left alone");
    }
    return succeed();
}
