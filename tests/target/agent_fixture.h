// What the tests with an agent share: a child with memory of its own that does what it is told, one step at a
// time.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "child.h"
#include "farswap/request.h"
#include "target/inject.h"

namespace farswap::target {

constexpr std::uint64_t kArenaPages = 32;
constexpr std::uint64_t kArenaBytes = kArenaPages * kPageSize;

/// Mapped before the fork, so that both know its address; guards keep it from being merged with other
/// mappings.
class Arena {
  public:
    Arena()
        : base_(mmap(nullptr, kArenaBytes + 2 * kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
        mprotect(data(), kArenaBytes, PROT_READ | PROT_WRITE);
    }
    ~Arena() { munmap(base_, kArenaBytes + 2 * kPageSize); }
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    unsigned char* data() const { return static_cast<unsigned char*>(base_) + kPageSize; }
    std::uint64_t page(std::uint64_t number) const {
        return reinterpret_cast<std::uintptr_t>(data()) + number * kPageSize;
    }

  private:
    void* base_;
};

/// The bytes that page `number` of an arena holds.
inline unsigned char arena_byte(std::uint64_t number, std::uint64_t offset) {
    return static_cast<unsigned char>(number * 37 + offset * 7 + offset / 256 + 1);
}
inline bool is_arena_page(const unsigned char* bytes, std::uint64_t number) {
    for (std::uint64_t i = 0; i < kPageSize; i++) {
        if (bytes[i] != arena_byte(number, i)) return false;
    }
    return true;
}
inline std::vector<unsigned char> read_pages(pid_t process, std::uint64_t address, std::uint64_t pages) {
    std::vector<unsigned char> bytes(pages * kPageSize);
    iovec local{bytes.data(), bytes.size()};
    iovec remote{reinterpret_cast<void*>(address), bytes.size()};
    const ssize_t got = process_vm_readv(process, &local, 1, &remote, 1, 0);
    bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return bytes;
}

/// A child that fills the first `filled` pages of its arena and then runs the steps of a script, each when
/// told to.
class Puppet {
  public:
    using Step = std::function<int(Arena&)>;
    explicit Puppet(std::vector<Step> script, std::uint64_t filled = kArenaPages / 2)
        : script_(std::move(script)), child_([this, filled] { return run(filled); }) {
        EXPECT_TRUE(wait_until([&] { return state_->ready.load(); }));
    }
    pid_t process() const { return child_.process(); }
    Arena& arena() { return arena_; }
    Child& child() { return child_; }
    /// Lets it do its next step, without waiting for that.
    void go() { state_->told++; }
    /// Steps that it has done.
    int done() const { return state_->done; }
    int result() const { return state_->result; }

  private:
    struct State {
        std::atomic<bool> ready = false;
        std::atomic<int> told = 0, done = 0, result = 0;
    };

    // Spins: it must not touch any page but its stack and its arena.
    int run(std::uint64_t filled) {
        for (std::uint64_t i = 0; i < filled * kPageSize; i++) {
            arena_.data()[i] = arena_byte(i / kPageSize, i % kPageSize);
        }
        state_->ready = true;
        for (std::size_t i = 0; i < script_.size(); i++) {
            while (state_->told <= static_cast<int>(i)) usleep(200);
            state_->result = script_[i](arena_);
            state_->done++;
        }
        for (;;) pause();
    }

    Arena arena_;
    Shared<State> state_;
    std::vector<Step> script_;
    Child child_;
};

/// A step: the number of pages from `first` whose bytes are right.
inline Puppet::Step check_pages(std::uint64_t first, std::uint64_t count) {
    return [=](Arena& arena) {
        int right = 0;
        for (std::uint64_t i = first; i < first + count; i++) {
            right += is_arena_page(arena.data() + i * kPageSize, i) ? 1 : 0;
        }
        return right;
    };
}

}  // namespace farswap::target
