// Memory that is larger than the RAM it may have, on a real userfaultfd and a real file.
#include "farswap/far_memory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/units.h"

namespace farswap {
namespace {

constexpr std::size_t kPage = 4096;

std::string new_directory() {
    std::string path = "/var/tmp/farswap-memory-test.XXXXXX";
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    return path;
}

class FarMemoryTest : public ::testing::Test {
  protected:
    void TearDown() override {
        memory_.reset();
        EXPECT_TRUE(std::filesystem::is_empty(directory_)) << "a file was left on the store";
        std::filesystem::remove_all(directory_);
    }
    void open(std::uint64_t size, std::uint64_t ram, const std::string& store_size = "512M") {
        std::string message;
        memory_ = FarMemory::create(
            {.size = size, .ram = ram, .store = "file:" + directory_ + "?size=" + store_size}, message);
        ASSERT_NE(memory_, nullptr) << message;
    }
    std::uint64_t* take(std::uint64_t bytes) {
        return static_cast<std::uint64_t*>(memory_->allocate(bytes, alignof(std::max_align_t)));
    }
    void give_back(void* block, std::uint64_t bytes) {
        memory_->deallocate(block, bytes, alignof(std::max_align_t));
    }

    const std::string directory_ = new_directory();
    std::unique_ptr<FarMemory> memory_;
};

/// RssAnon and RssShmem.
std::uint64_t own_ram() {
    std::ifstream status("/proc/self/status");
    std::uint64_t kib = 0;
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("RssAnon:") || line.starts_with("RssShmem:"))
            kib += std::stoull(line.substr(line.find(':') + 1));
    }
    return kib << 10;
}

/// What page `page` of a block holds after its `turn`th change: some are one word, some do not compress.
void fill(std::uint64_t* at, std::uint64_t page, std::uint64_t turn) {
    std::mt19937_64 random(page * 1000003 + turn);
    const std::uint64_t kind = random() % 4;
    for (std::size_t i = 0; i < kPage / 8; i++) at[i] = kind == 0 ? turn : kind == 1 ? i * page : random();
}

bool holds(const std::uint64_t* at, std::uint64_t page, std::uint64_t turn) {
    std::array<std::uint64_t, kPage / 8> expected;
    fill(expected.data(), page, turn);
    return std::memcmp(at, expected.data(), kPage) == 0;
}

TEST_F(FarMemoryTest, EveryPageIsWhatItWasLastWrittenToBe) {
    constexpr std::uint64_t kPages = 64 * kMiB / kPage;
    open(64 * kMiB, 16 * kMiB);
    std::uint64_t* const block = take(kPages * kPage);
    std::vector<std::uint64_t> turns(kPages);
    std::mt19937_64 random(7);
    for (std::uint64_t step = 1; step <= 40000; step++) {
        // Runs of pages in order now and then, as programs have them; else anywhere.
        const std::uint64_t page = step % 4000 < 2000 ? (step * 7 / 3) % kPages : random() % kPages;
        std::uint64_t* const at = block + page * (kPage / 8);
        if (turns[page] == 0) {
            ASSERT_EQ(at[random() % (kPage / 8)], 0u) << "a new page holds something";
        } else {
            ASSERT_TRUE(holds(at, page, turns[page])) << page << " in step " << step;
        }
        if (random() % 3 == 0) continue;
        turns[page] = step;
        fill(at, page, step);
    }
    const auto counters = memory_->counters();
    EXPECT_GT(counters.pages_written, 0u);
    EXPECT_GT(counters.pages_in, 0u);
    EXPECT_LT(counters.pages_written, counters.pages_out) << "none left as what the store had already";
    give_back(block, kPages * kPage);
}

TEST_F(FarMemoryTest, TheCapHolds) {
    constexpr std::uint64_t kRam = 24 * kMiB;
    [[maybe_unused]] const std::uint64_t before = own_ram();
    open(128 * kMiB, kRam);
    std::uint64_t* const block = take(128 * kMiB);
    std::atomic<bool> ending{false};
    std::atomic<std::uint64_t> most{0};
    std::thread gauge([&] {
        while (!ending) most = std::max(most.load(), own_ram());
    });
    for (int turn = 0; turn < 3; turn++) {
        for (std::uint64_t page = 0; page < 128 * kMiB / kPage; page++) {
            std::uint64_t* const at = block + page * (kPage / 8);
            if (turn > 0) {
                ASSERT_EQ(at[7], page * 77);
            }
            for (std::size_t i = 0; i < kPage / 8; i++) at[i] = page * (i + 70);
        }
    }
    ending = true;
    gauge.join();
    // The sanitizers' runtimes have memory of their own.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    EXPECT_LE(most - before, kRam);
    EXPECT_GE(most - before, kRam / 2) << "most of the RAM is not used";
#endif
    EXPECT_LE(memory_->counters().ram_peak_bytes, kRam);
    EXPECT_GT(memory_->counters().far_bytes, 96 * kMiB);
    give_back(block, 128 * kMiB);
    EXPECT_EQ(memory_->counters().far_bytes, 0u);
}

TEST_F(FarMemoryTest, ThreadsShareIt) {
    constexpr std::uint64_t kPages = 48 * kMiB / kPage;
    open(48 * kMiB, 16 * kMiB);
    std::uint64_t* const block = take(kPages * kPage);
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    // All of them go over the same pages; each has words of its own in them.
    for (std::size_t mine = 0; mine < 4; mine++) {
        threads.emplace_back([&, mine] {
            std::mt19937_64 random(mine);
            std::vector<std::uint64_t> last(kPages);
            for (std::uint64_t step = 1; step <= 6000; step++) {
                const std::uint64_t page = random() % kPages;
                std::uint64_t& word = block[page * (kPage / 8) + mine];
                if (word != last[page]) wrong++;
                word = last[page] = step;
            }
        });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
    give_back(block, kPages * kPage);
}

TEST_F(FarMemoryTest, WhatIsGivenBackIsFreeAndComesAsNew) {
    open(64 * kMiB, 16 * kMiB);
    for (int turn = 0; turn < 6; turn++) {
        std::uint64_t* const block = take(48 * kMiB);
        for (std::uint64_t page = 0; page < 48 * kMiB / kPage; page++) {
            ASSERT_EQ(block[page * (kPage / 8)], 0u);
            block[page * (kPage / 8)] = page + 1;
        }
        EXPECT_THROW(take(32 * kMiB), std::bad_alloc);
        give_back(block, 48 * kMiB);
        EXPECT_LT(memory_->counters().ram_bytes, 12 * kMiB);
    }
}

// Pages that are back keep their places, which others need more here.
TEST_F(FarMemoryTest, AStoreThatIsJustLargeEnoughIsNotFull) {
    constexpr std::uint64_t kPages = 64 * kMiB / kPage;
    open(64 * kMiB, 16 * kMiB, "64M");
    std::uint64_t* const block = take(kPages * kPage);
    std::mt19937_64 random(3);
    for (std::uint64_t page = 0; page < kPages; page++) {
        std::generate_n(block + page * (kPage / 8), kPage / 8, std::ref(random));
        block[page * (kPage / 8)] = page;
    }
    for (std::uint64_t step = 0; step < 2 * kPages; step++) {
        const std::uint64_t page = step < kPages ? random() % kPages : step - kPages;
        ASSERT_EQ(block[page * (kPage / 8)], page);
        if (step % 3 == 0) block[page * (kPage / 8) + 1]++;
    }
    give_back(block, kPages * kPage);
}

TEST_F(FarMemoryTest, SystemCallsReadAndWriteWhatIsOutside) {
    constexpr std::uint64_t kPages = 32 * kMiB / kPage;
    open(32 * kMiB, 16 * kMiB);
    std::uint64_t* const block = take(kPages * kPage);
    for (std::uint64_t page = 0; page < kPages; page++) fill(block + page * (kPage / 8), page, 1);
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    for (std::uint64_t page = 0; page < kPages / 2; page++) {
        std::uint64_t* const at = block + page * (kPage / 8);
        std::array<std::uint64_t, kPage / 8> passed;
        ASSERT_EQ(::write(ends[1], at, kPage), static_cast<ssize_t>(kPage));
        ASSERT_EQ(::read(ends[0], passed.data(), kPage), static_cast<ssize_t>(kPage));
        ASSERT_TRUE(holds(passed.data(), page, 1));
        fill(passed.data(), page, 2);
        ASSERT_EQ(::write(ends[1], passed.data(), kPage), static_cast<ssize_t>(kPage));
        std::uint64_t* const other = block + (kPages - 1 - page) * (kPage / 8);
        ASSERT_EQ(::read(ends[0], other, kPage), static_cast<ssize_t>(kPage));
        ASSERT_TRUE(holds(other, page, 2));
    }
    ::close(ends[0]);
    ::close(ends[1]);
    give_back(block, kPages * kPage);
}

TEST_F(FarMemoryTest, LockedMemoryStaysAndTheRestMakesRoom) {
    open(48 * kMiB, 24 * kMiB);
    std::uint64_t* const block = take(48 * kMiB);
    ASSERT_EQ(::mlock(block, 2 * kMiB), 0);
    for (int turn = 1; turn < 4; turn++) {
        for (std::uint64_t page = 0; page < 48 * kMiB / kPage; page++) {
            std::uint64_t& word = block[page * (kPage / 8)];
            ASSERT_EQ(word, turn == 1 ? 0 : page + static_cast<std::uint64_t>(turn) - 1);
            word = page + static_cast<std::uint64_t>(turn);
        }
    }
    ASSERT_EQ(::munlock(block, 2 * kMiB), 0);
    give_back(block, 48 * kMiB);
}

TEST_F(FarMemoryTest, WhatIsGivenBackWhileItIsLockedIsFree) {
    open(48 * kMiB, 24 * kMiB);
    for (int turn = 0; turn < 3; turn++) {
        std::uint64_t* const block = take(2 * kMiB);
        for (std::uint64_t page = 0; page < 2 * kMiB / kPage; page++) {
            ASSERT_EQ(block[page * (kPage / 8)], 0u);
            block[page * (kPage / 8)] = page + 1;
        }
        ASSERT_EQ(::mlock(block, 2 * kMiB), 0);
        give_back(block, 2 * kMiB);
    }
}

// No event tells of it, and there is nothing to move: all that counts as inside may be such.
TEST_F(FarMemoryTest, WhatTheProgramGivesUpByMadviseMakesRoom) {
    constexpr std::uint64_t kStep = 4 * kMiB;
    open(64 * kMiB, 16 * kMiB);
    std::uint64_t* const block = take(64 * kMiB);
    for (std::uint64_t at = 0; at < 64 * kMiB; at += kStep) {
        for (std::uint64_t page = at / kPage; page < (at + kStep) / kPage; page++) {
            ASSERT_EQ(block[page * (kPage / 8)], 0u);
            block[page * (kPage / 8)] = page + 1;
        }
        ASSERT_EQ(::madvise(block + at / 8, kStep, MADV_DONTNEED), 0);
    }
    give_back(block, 64 * kMiB);
}

TEST_F(FarMemoryTest, AChildOfForkDoesNotHaveIt) {
    open(32 * kMiB, 16 * kMiB);
    std::uint64_t* const block = take(kMiB);
    block[0] = 1;
    const pid_t child = ::fork();
    if (child == 0) {
        // Not a death test: only the kernel is to be asked.
        unsigned char there = 0;
        ::_exit(::mincore(block, kPage, &there) != 0 && errno == ENOMEM ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    give_back(block, kMiB);
}

TEST_F(FarMemoryTest, AChildOfForkMayDestroyWhatWasInIt) {
    open(32 * kMiB, 16 * kMiB);
    std::uint64_t* const block = take(kMiB);
    block[0] = 7;
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(20);
        give_back(block, kMiB);
        memory_.reset();
        ::_exit(0);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(block[0], 7u);
    give_back(block, kMiB);
}

// Who writes from the memory holds the lock of what he writes to, which may be our standard error. A pipe
// that is full stands for that here.
TEST(FarMemoryLog, ALineWaitsForNobody) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(20);
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) ::_exit(2);
        while (::write(ends[1], &ends, sizeof ends) > 0) {
        }
        ::fcntl(ends[1], F_SETFL, 0);
        ::dup2(ends[1], STDERR_FILENO);
        const log::Aside aside;
        log::write_line("one");
        log::write_last_line("two");
        ::_exit(0);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

TEST_F(FarMemoryTest, WhatCannotWorkIsRefusedWithOneLine) {
    std::string message;
    const std::string store = "file:" + directory_ + "?size=64M";
    EXPECT_EQ(FarMemory::create({.size = 0, .ram = 64 * kMiB}, message), nullptr);
    EXPECT_EQ(errno, EINVAL);
    EXPECT_EQ(FarMemory::create({.size = 64 * kMiB, .ram = 8 * kMiB, .store = store}, message), nullptr);
    EXPECT_EQ(errno, EINVAL);
    EXPECT_THAT(message, ::testing::HasSubstr("MiB of RAM are the least"));
    EXPECT_EQ(FarMemory::create({.size = 1024 * kMiB, .ram = 64 * kMiB, .store = store}, message), nullptr);
    EXPECT_EQ(errno, ENOSPC);
    EXPECT_THAT(message, ::testing::HasSubstr("the store has room for"));
    EXPECT_EQ(
        FarMemory::create({.size = 64 * kMiB, .ram = 32 * kMiB, .store = "file:/nowhere/at/all"}, message),
        nullptr);
    EXPECT_EQ(errno, ENOENT);
    EXPECT_THAT(message, ::testing::Not(::testing::HasSubstr("\n")));
}

}  // namespace
}  // namespace farswap
