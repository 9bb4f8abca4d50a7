// A list with a node in each page of the heap, looked at from outside, by a debugger or in a core file. Deep
// in a recursion it waits for SIGUSR1, checks the list and ends, or it aborts. Usage: far_list wait|abort
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace {

constexpr std::size_t kListBytes = std::size_t{96} << 20;
constexpr std::size_t kWords = 508;  // with malloc's own word and the two others a node fills a page
constexpr int kDepth = 20;

struct Node {
    Node* next;
    std::uint64_t number;
    std::array<std::uint64_t, kWords> content;  // each the node's number times the word's, counted from 1
};

}  // namespace

// By these names a debugger finds it.
Node* list_head = nullptr;      // NOLINT
std::uint64_t list_length = 0;  // NOLINT

namespace {

void build() {
    Node** end = &list_head;
    for (; list_length < kListBytes / sizeof(Node); list_length++) {
        auto* node = static_cast<Node*>(std::malloc(sizeof(Node)));
        node->next = nullptr;
        node->number = list_length;
        for (std::size_t i = 0; i < kWords; i++) node->content[i] = list_length * (i + 1);
        *end = node;
        end = &node->next;
    }
}

bool is_whole() {
    std::uint64_t number = 0;
    for (const Node* node = list_head; node != nullptr; node = node->next, number++) {
        for (std::size_t i = 0; i < kWords; i++) {
            if (node->number != number || node->content[i] != number * (i + 1)) return false;
        }
    }
    return number == list_length;
}

[[gnu::noinline, gnu::noclone]] bool descend(int depth, const sigset_t& awaited, bool aborts) {
    int here = depth;
    bool good = false;
    if (depth > 0) {
        good = descend(depth - 1, awaited, aborts);
    } else if (aborts) {
        std::abort();
    } else {
        int signal = 0;
        sigwait(&awaited, &signal);
        good = is_whole();
    }
    asm volatile("" : : "r"(&here) : "memory");  // a frame of its own
    return good;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &awaited, nullptr);
    const std::jthread other([](const std::stop_token& stop) {
        while (!stop.stop_requested()) usleep(1000);
    });
    build();
    std::puts("ready");
    std::fflush(stdout);
    return descend(kDepth, awaited, std::strcmp(argv[1], "abort") == 0) ? 0 : 1;
}
