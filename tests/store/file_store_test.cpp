// The file: store at work: data, flush, reservation, heartbeat, the end.
#include "store/file_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>

#include "base/fd.h"
#include "store/file_lease.h"
#include "store_fixture.h"

namespace farswap {
namespace {

using std::chrono::milliseconds;

class FileStore : public StoreTest {
  protected:
    std::string only_file() const { return std::filesystem::directory_iterator(directory_)->path(); }
    Lease lease_in(const std::string& path) const {
        Lease lease;
        const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        const auto content = read_lease(fd.get(), lease);
        EXPECT_TRUE(content && *content == LeaseContent::kLease) << path;
        return lease;
    }
};

TEST_F(FileStore, DirectoryGivesAFileOfItsOwnThatGoesAtTheEnd) {
    auto store = open(directory_url(), {.job = "farswap-test-job"});
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_EQ(only_file(), directory_ + "/farswap-test-job");
    EXPECT_EQ((*store)->capacity(), 128ull << 20);
    EXPECT_EQ((*store)->reserved(), 64ull << 20);
    struct stat info {};
    ASSERT_EQ(::stat(only_file().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
    EXPECT_GE(info.st_blocks * 512, 64 << 20);

    auto second = open(directory_url(), {.job = "farswap-test-job"});
    ASSERT_TRUE(second) << second.error().message;
    EXPECT_EQ(files_left(), 2u);
    (*store)->close();
    EXPECT_EQ(files_left(), 1u);
    (*second)->close();
    EXPECT_EQ(files_left(), 0u);
}

TEST_F(FileStore, ReadsBackWhatWasWritten) {
    auto store = open(directory_url());
    ASSERT_TRUE(store) << store.error().message;
    Memory out(64 * kPageSize), in(64 * kPageSize);
    for (unsigned run = 0; run < 16; ++run) {
        out.fill(run);
        Transfer write(WRITE, run * out.size(), out);
        ASSERT_EQ(this->run(**store, write), static_cast<int>(out.size()));
    }
    EXPECT_EQ(flush(**store), 0);
    for (unsigned run = 0; run < 16; ++run) {
        out.fill(run);
        Transfer read(READ, run * in.size(), in);
        ASSERT_EQ(this->run(**store, read), static_cast<int>(in.size()));
        EXPECT_TRUE(in.same_as(out));
    }
    const auto counters = (*store)->counters();
    EXPECT_EQ(counters.writes, 16u);
    EXPECT_EQ(counters.reads, 16u);
    EXPECT_EQ(counters.flushes, 1u);
    EXPECT_EQ(counters.bytes_written, 16 * out.size());
    // Data begin behind the lease, which is still whole.
    EXPECT_EQ(lease_in(only_file()).pid, static_cast<std::uint32_t>(::getpid()));
}

TEST_F(FileStore, UnreservedAndUnalignedRequestsAreRefused) {
    auto store = open(directory_url());
    ASSERT_TRUE(store) << store.error().message;
    Memory memory(2 * kPageSize);
    const std::uint64_t end = (*store)->reserved();
    Transfer last(WRITE, end - kPageSize, memory.data(), kPageSize);
    EXPECT_EQ(run(**store, last), static_cast<int>(kPageSize));
    Transfer over(WRITE, end - kPageSize, memory);
    EXPECT_EQ(run(**store, over), -EINVAL);
    Transfer beyond(READ, end, memory);
    EXPECT_EQ(run(**store, beyond), -EINVAL);
    Transfer far(READ, ~std::uint64_t{0} - kPageSize + 1, memory);
    EXPECT_EQ(run(**store, far), -EINVAL);
    Transfer odd(WRITE, 512, memory);
    EXPECT_EQ(run(**store, odd), -EINVAL);
    Transfer skewed(WRITE, 0, memory.data() + 8, kPageSize);
    EXPECT_EQ(run(**store, skewed), -EINVAL);
}

TEST_F(FileStore, ReservationGrowsToTheCapacityAndNoFurther) {
    auto store = open(directory_url("150M"));
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_EQ(reserve(**store, 1), 0);
    EXPECT_EQ((*store)->reserved(), 64ull << 20);
    EXPECT_EQ(reserve(**store, (64ull << 20) + 1), 0);
    EXPECT_EQ((*store)->reserved(), 128ull << 20);
    Reserve all((*store)->capacity()), again((*store)->capacity() - 5), more((*store)->capacity() + 1);
    (*store)->reserve(all);
    (*store)->reserve(again);
    (*store)->reserve(more);
    run_until([&] { return more.completions > 0; });
    EXPECT_EQ(all.result, 0);
    EXPECT_EQ(again.result, 0);
    EXPECT_EQ(more.result, -ENOSPC);
    EXPECT_EQ((*store)->reserved(), 150ull << 20);
    struct stat info {};
    ASSERT_EQ(::stat(only_file().c_str(), &info), 0);
    EXPECT_GE(info.st_blocks * 512, 150 << 20);
}

TEST_F(FileStore, FlushesThatComeTogetherShareOne) {
    auto store = open(directory_url());
    ASSERT_TRUE(store) << store.error().message;
    std::array<Flush, 5> flushes;
    for (Flush& each : flushes) (*store)->flush(each);
    run_until([&] {
        return std::ranges::all_of(flushes, [](const Flush& each) { return each.completions == 1; });
    });
    for (const Flush& each : flushes) EXPECT_EQ(each.result, 0);
    EXPECT_EQ((*store)->counters().flushes, 2u);
}

TEST_F(FileStore, NamedFileIsMadeAndRemovedOrKept) {
    const std::string path = directory_ + "/swap";
    auto made = open("file:" + path + "?size=2M");
    ASSERT_TRUE(made) << made.error().message;
    (*made)->close();
    EXPECT_EQ(files_left(), 0u);

    std::ofstream(path).close();
    std::filesystem::resize_file(path, (8 << 20) + kLeaseSize);
    auto kept = open("file:" + path);
    ASSERT_TRUE(kept) << kept.error().message;
    EXPECT_EQ((*kept)->capacity(), 8ull << 20) << "the file's own size";
    (*kept)->close();
    EXPECT_EQ(files_left(), 1u);
    EXPECT_EQ(lease_in(path).state, Lease::State::kFree);
    kept->reset();
    auto next = open("file:" + path + "?size=4M");
    ASSERT_TRUE(next) << next.error().message;
    EXPECT_EQ((*next)->capacity(), 4ull << 20);
}

/// As a worker of the kernel's may hold for a moment after its request has ended, or a forked process until
/// it executes another program.
Fd another_reference(const std::string& path) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code gone;
        if (std::filesystem::read_symlink(entry, gone) != path) continue;
        return Fd(::fcntl(std::stoi(entry.path().filename()), F_DUPFD_CLOEXEC, 0));
    }
    return {};
}

TEST_F(FileStore, FileIsFreeOnceClosedWhoeverStillRefersToIt) {
    const std::string path = directory_ + "/swap";
    std::ofstream(path).close();
    std::filesystem::resize_file(path, (4 << 20) + kLeaseSize);
    auto store = open("file:" + path);
    ASSERT_TRUE(store) << store.error().message;
    const Fd reference = another_reference(std::filesystem::canonical(path));
    ASSERT_TRUE(reference);
    (*store)->close();
    store->reset();
    auto next = open("file:" + path);
    EXPECT_TRUE(next) << next.error().message;
}

TEST_F(FileStore, DestructionClosesToo) {
    {
        auto store = open(directory_url());
        ASSERT_TRUE(store) << store.error().message;
    }
    EXPECT_EQ(files_left(), 0u);
}

TEST_F(FileStore, FileOfAnotherIsNotRemovedAtTheEnd) {
    auto store = open(directory_url());
    ASSERT_TRUE(store) << store.error().message;
    const std::string path = only_file();
    std::filesystem::rename(path, directory_ + "/moved");
    std::ofstream(path) << "precious";
    (*store)->close();
    EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(FileStore, HeartbeatRenewsTheLease) {
    auto url = parse_url(directory_url("2M"));
    auto store = open_file_store(*url, {}, *loop_, {.beat = milliseconds(5)});
    ASSERT_TRUE(store) << store.error().message;
    const std::uint64_t first = lease_in(only_file()).beat;
    run_until([&] { return lease_in(only_file()).beat >= first + 3; });
}

TEST_F(FileStore, StoreThatWasTakenOverIsNotUsedAnyMore) {
    auto url = parse_url(directory_url("2M"));
    auto store = open_file_store(*url, {}, *loop_, {.beat = milliseconds(5)});
    ASSERT_TRUE(store) << store.error().message;
    const std::string path = only_file();
    auto thief = make_lease(1);
    ASSERT_TRUE(thief);
    Memory memory(kPageSize);
    const Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    int result = 1;
    for (int round = 0; round < 200 && result > 0; ++round) {
        // The heartbeat may be between reading and writing: then its own record is the later one.
        ASSERT_TRUE(write_lease(fd.get(), *thief));
        loop_->run_once(milliseconds(20));
        Transfer write(WRITE, 0, memory);
        result = run(**store, write);
    }
    EXPECT_EQ(result, -EIO);
    EXPECT_EQ(flush(**store), -EIO);
    EXPECT_EQ(reserve(**store, (*store)->capacity() + 1), -ENOSPC);
    (*store)->close();
    EXPECT_TRUE(std::filesystem::exists(path)) << "it is the other owner's now";
    EXPECT_EQ(lease_in(path).nonce, thief->nonce);
}

// With a lease that is never trusted: as when this process was stopped for long.
TEST_F(FileStore, NothingIsWrittenToAFileThatAnotherHasTakenMeanwhile) {
    const std::string path = directory_ + "/swap";
    auto store = open_file_store(*parse_url("file:" + path + "?size=256M"), {}, *loop_,
                                 {.beat = std::chrono::hours(1), .trust = std::chrono::nanoseconds(0)});
    ASSERT_TRUE(store) << store.error().message;
    Memory ours(kPageSize), found(kPageSize);
    ours.fill(7);
    Transfer first(WRITE, 0, ours), cancelled(WRITE, kPageSize, ours);
    (*store)->submit(first);
    (*store)->submit(cancelled);
    (*store)->cancel(cancelled);
    run_until([&] { return first.completions > 0 && cancelled.completions > 0; });
    EXPECT_EQ(first.result, static_cast<int>(kPageSize)) << "the lease is ours";
    EXPECT_EQ(cancelled.result, -ECANCELED);
    EXPECT_EQ(reserve(**store, (*store)->reserved() + 1), 0);

    const auto thief = make_lease(1);
    ASSERT_TRUE(thief);
    ASSERT_TRUE(write_lease(Fd(::open(path.c_str(), O_RDWR | O_CLOEXEC)).get(), *thief));
    Transfer late(WRITE, kPageSize, ours);
    EXPECT_EQ(run(**store, late), -EIO);
    std::ifstream file(path, std::ios::binary);
    file.seekg(kLeaseSize + kPageSize);
    file.read(reinterpret_cast<char*>(found.data()), kPageSize);
    EXPECT_TRUE(found.same_as(Memory(kPageSize))) << "zeros, as reserved";
    EXPECT_EQ(reserve(**store, (*store)->capacity()), -EIO);
    (*store)->close();
    EXPECT_EQ(lease_in(path).nonce, thief->nonce);
}

// Since the last beat: as another machine does with a shared disk when this one was stopped for long.
TEST_F(FileStore, WhatAnotherHasTakenIsLeftAloneAtTheEnd) {
    const std::string path = directory_ + "/swap";
    const auto thief = make_lease(1);
    ASSERT_TRUE(thief);
    for (const bool made : {true, false}) {
        if (!made) std::ofstream(path).close();
        auto store = open("file:" + path + "?size=2M");
        ASSERT_TRUE(store) << store.error().message;
        ASSERT_TRUE(write_lease(Fd(::open(path.c_str(), O_RDWR | O_CLOEXEC)).get(), *thief));
        (*store)->close();
        ASSERT_TRUE(std::filesystem::exists(path)) << made;
        EXPECT_EQ(lease_in(path).nonce, thief->nonce);
        EXPECT_EQ(lease_in(path).state, Lease::State::kOwned);
        std::filesystem::remove(path);
    }
}

TEST_F(FileStore, DefaultStoreHasNoNameAndNoHeartbeat) {
    auto store = open_default_store({.size_default = 4 << 20}, *loop_);
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_EQ((*store)->capacity(), 4ull << 20);
    Memory out(4 * kPageSize), in(4 * kPageSize);
    out.fill(3);
    Transfer write(WRITE, 0, out), read(READ, 0, in);
    EXPECT_EQ(run(**store, write), static_cast<int>(out.size()));
    EXPECT_EQ(run(**store, read), static_cast<int>(in.size()));
    EXPECT_TRUE(in.same_as(out));
    (*store)->close();
}

TEST_F(FileStore, DefaultSizeHonoursFreeSpace) {
    auto store = open_default_store({.size_default = ~std::uint64_t{0} >> 2}, *loop_);
    ASSERT_TRUE(store) << store.error().message;
    struct statfs info {};
    ASSERT_EQ(::statfs("/var/tmp", &info), 0);
    EXPECT_LT((*store)->capacity(), info.f_bavail * static_cast<std::uint64_t>(info.f_bsize));
}

TEST_F(FileStore, CancelEndsOrCompletes) {
    auto store = open(directory_url());
    ASSERT_TRUE(store) << store.error().message;
    Memory memory(64 * kPageSize);
    Transfer write(WRITE, 0, memory);
    (*store)->submit(write);
    (*store)->cancel(write);
    run_until([&] { return write.completions > 0; });
    EXPECT_TRUE(write.result == -ECANCELED || write.result == static_cast<int>(memory.size()))
        << write.result;
}

}  // namespace
}  // namespace farswap
