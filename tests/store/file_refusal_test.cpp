// What the file: store refuses, each by one line that says what to do, and leaves nothing behind.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "base/fd.h"
#include "store/file_lease.h"
#include "store/file_store.h"
#include "store_fixture.h"

namespace farswap {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

class FileRefusal : public StoreTest {
  protected:
    void expect_refused(const std::string& url, int code, const char* text) {
        const auto store = open(url);
        ASSERT_FALSE(store) << url;
        EXPECT_EQ(store.error().code, code) << store.error().message;
        EXPECT_THAT(store.error().message, HasSubstr(text));
        EXPECT_EQ(store.error().message.find('\n'), std::string::npos);
    }
    /// A file with a lease in it, as a crash would leave it.
    std::string leave(const std::string& name, const Lease& lease) {
        const std::string path = directory_ + "/" + name;
        const Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        EXPECT_TRUE(write_lease(fd.get(), lease));
        return path;
    }
    void run_command(const std::string& command) {
        if (std::system((command + " >/dev/null 2>&1").c_str()) != 0)
            GTEST_SKIP() << "cannot run: " << command;
    }
};

TEST_F(FileRefusal, BadUrls) {
    expect_refused("ftp://host/export", EINVAL, "no store of kind 'ftp'");
    expect_refused("/var/tmp", EINVAL, "file:PATH");
    expect_refused("file:" + directory_ + "?size=many", EINVAL, "'many' is no size");
    expect_refused("file:" + directory_ + "?uid=3", EINVAL, "'uid'");
    EXPECT_EQ(files_left(), 0u);
}

TEST_F(FileRefusal, PlacesThatAreNot) {
    expect_refused("file:" + directory_ + "/no/such/place", ENOENT, "create the directory");
    expect_refused("file:" + directory_ + "/missing/", ENOENT, "create the directory");
    std::ofstream(directory_ + "/plain").close();
    expect_refused("file:" + directory_ + "/plain/below", ENOTDIR, "not a directory");
    expect_refused("file:/dev/null", EINVAL, "neither a directory");
}

TEST_F(FileRefusal, MemoryIsNoStore) {
    struct stat info {};
    if (::stat("/dev/shm", &info) != 0) GTEST_SKIP() << "no /dev/shm here";
    expect_refused("file:/dev/shm", EINVAL, "in memory");
    expect_refused("file:/dev/shm/farswap-store-test", EINVAL, "in memory");
    EXPECT_FALSE(std::filesystem::exists("/dev/shm/farswap-store-test"));
}

TEST_F(FileRefusal, NoPermission) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to become somebody else";
    ASSERT_EQ(::chmod(directory_.c_str(), 0755), 0);
    ASSERT_EQ(::seteuid(65534), 0);
    expect_refused(directory_url(), EACCES, "no permission");
    ASSERT_EQ(::seteuid(0), 0);
}

TEST_F(FileRefusal, FilesOfOthersAreNotOverwritten) {
    const std::string path = directory_ + "/letter";
    std::ofstream(path) << "Dear Sir or Madam,\n";
    std::filesystem::resize_file(path, 4 << 20);
    expect_refused("file:" + path, EEXIST, "not farswap's");
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    EXPECT_EQ(line, "Dear Sir or Madam,");

    // Behind a page of zeros, as many file systems have it.
    const std::string image = directory_ + "/image";
    std::ofstream(image).seekp(65536) << "_BHRfS_M";
    expect_refused("file:" + image, EEXIST, "not farswap's");
}

TEST_F(FileRefusal, LiveOwnerIsNamed) {
    const std::string url = "file:" + directory_ + "/swap?size=2M";
    auto first = open(url);
    ASSERT_TRUE(first) << first.error().message;
    expect_refused(url, EBUSY, fmt::format("pid {}", ::getpid()).c_str());
    (*first)->close();
    first->reset();
    EXPECT_TRUE(open(url));
}

TEST_F(FileRefusal, FileLockedByAnotherProgram) {
    const std::string path = directory_ + "/swap";
    const Fd other(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
    expect_refused("file:" + path + "?size=2M", EBUSY, "locked");
}

TEST_F(FileRefusal, OwnerWithoutALockIsFoundByItsLease) {
    auto lease = make_lease(1 << 20);
    ASSERT_TRUE(lease);
    const std::string path = leave("swap", *lease);
    expect_refused("file:" + path + "?size=2M", EBUSY, "last sign of life 0 s ago");
    // A fresh beat from another machine.
    lease->boot_id[0] ^= 1;
    leave("swap", *lease);
    expect_refused("file:" + path + "?size=2M", EBUSY, lease->host.data());
}

TEST_F(FileRefusal, DeadOwnerIsTakenOver) {
    auto lease = make_lease(1 << 20);
    ASSERT_TRUE(lease);
    ++lease->pid_start;
    const std::string path = leave("swap", *lease);
    auto store = open("file:" + path + "?size=2M");
    ASSERT_TRUE(store) << store.error().message;
}

TEST_F(FileRefusal, SilentOwnerElsewhereIsWatchedFirst) {
    auto lease = make_lease(1 << 20);
    ASSERT_TRUE(lease);
    lease->boot_id[0] ^= 1;
    lease->beat_time_s -= 3600;
    const std::string path = leave("swap", *lease);
    const auto url = parse_url("file:" + path + "?size=2M");
    const LeaseTiming timing{.watch = milliseconds(1000)};

    // It goes on renewing its lease, many times in a watch: its clock is wrong, but it lives.
    const Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    std::jthread owner([&](const std::stop_token& stop) {
        for (; !stop.stop_requested(); ++lease->beat) EXPECT_TRUE(write_lease(fd.get(), *lease));
    });
    auto refused = open_file_store(*url, {}, *loop_, timing);
    owner.request_stop();
    owner.join();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, EBUSY);
    EXPECT_TRUE(open_file_store(*url, {}, *loop_, timing));
}

TEST_F(FileRefusal, SignalEndsTheWatch) {
    auto lease = make_lease(1 << 20);
    ASSERT_TRUE(lease);
    lease->boot_id[0] ^= 1;
    lease->beat_time_s -= 3600;
    const auto url = parse_url("file:" + leave("swap", *lease) + "?size=2M");
    struct sigaction nothing {
    }, before{};
    nothing.sa_handler = [](int) {};
    nothing.sa_flags = SA_RESTART;
    ASSERT_EQ(::sigaction(SIGUSR1, &nothing, &before), 0);
    // More than one: the first may come before the watch.
    std::jthread sender([watcher = ::pthread_self()](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            ::pthread_kill(watcher, SIGUSR1);
            std::this_thread::yield();
        }
    });
    const auto refused = open_file_store(*url, {}, *loop_, {.watch = std::chrono::hours(1)});
    sender.request_stop();
    sender.join();
    ::sigaction(SIGUSR1, &before, nullptr);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, EINTR);
}

TEST_F(FileRefusal, FileSizeLimit) {
    rlimit old{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
    const rlimit small{.rlim_cur = 8 << 20, .rlim_max = old.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    expect_refused(directory_url("16M"), EFBIG, "ulimit -f");
    auto fits = open("file:" + directory_);
    ASSERT_TRUE(fits) << fits.error().message;
    EXPECT_EQ((*fits)->capacity(), (8ull << 20) - kLeaseSize);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
    fits->reset();
    EXPECT_EQ(files_left(), 0u);
}

TEST_F(FileRefusal, OverlayOverMemoryIsNoStore) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount";
    const std::string memory = directory_ + "/memory", merged = directory_ + "/merged";
    std::filesystem::create_directories(memory);
    std::filesystem::create_directories(merged);
    const std::string options =
        fmt::format("lowerdir={0}/merged,upperdir={0}/memory/upper,workdir={0}/memory/work", directory_);
    if (::mount("none", memory.c_str(), "tmpfs", 0, "size=4m") != 0) GTEST_SKIP() << "cannot mount";
    std::filesystem::create_directories(memory + "/upper");
    std::filesystem::create_directories(memory + "/work");
    const bool mounted = ::mount("none", merged.c_str(), "overlay", 0, options.c_str()) == 0;
    if (mounted) expect_refused("file:" + merged + "?size=1M", EINVAL, "in memory");
    ::umount2(merged.c_str(), MNT_DETACH);
    ::umount2(memory.c_str(), MNT_DETACH);
    if (!mounted) GTEST_SKIP() << "no overlay here";
}

/// A small file system of its own, and a block device.
class FileSystemImage : public FileRefusal {
  protected:
    void SetUp() override {
        FileRefusal::SetUp();
        if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount";
        image_ = directory_ + "/image";
        mount_ = directory_ + "/mount";
        std::filesystem::create_directory(mount_);
        std::ofstream(image_).close();
        std::filesystem::resize_file(image_, 32 << 20);
    }
    void TearDown() override {
        ::umount2(mount_.c_str(), MNT_DETACH);
        if (!device_.empty()) [[maybe_unused]]
            const int detached = std::system(("losetup -d " + device_).c_str());
        FileRefusal::TearDown();
    }
    void mount(const std::string& options, const std::string& kind = "ext4") {
        run_command("mkfs." + kind + " -q -m 0 " + image_);
        run_command("mount -o " + options + " " + image_ + " " + mount_);
    }
    void attach() {
        FILE* pipe = ::popen(("losetup --find --show " + image_ + " 2>/dev/null").c_str(), "re");
        ASSERT_NE(pipe, nullptr);
        char line[128] = "";
        if (std::fgets(line, sizeof line, pipe) == nullptr) line[0] = '\0';
        ::pclose(pipe);
        device_ = std::string(line, std::strcspn(line, "\n"));
        if (device_.empty()) GTEST_SKIP() << "no loop device here";
    }
    /// The one file in the mounted file system.
    std::string store_file() const {
        for (const auto& entry : std::filesystem::directory_iterator(mount_))
            if (entry.is_regular_file()) return entry.path();
        return {};
    }
    std::string image_, mount_, device_;
};

TEST_F(FileSystemImage, ReadOnlyFileSystem) {
    mount("loop,ro");
    if (IsSkipped()) return;
    expect_refused("file:" + mount_ + "?size=2M", EROFS, "read-only");
}

TEST_F(FileSystemImage, FullFileSystem) {
    mount("loop");
    if (IsSkipped()) return;
    // The space is there at the start and gone later: the reservation says so, what was reserved stays
    // usable.
    auto store = open("file:" + mount_ + "?size=8M");
    ASSERT_TRUE(store) << store.error().message;
    expect_refused("file:" + mount_ + "?size=60M", ENOSPC, "no space is left");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(mount_), {}), 2)
        << "lost+found and the first";
    run_command("(dd if=/dev/zero bs=1M of=" + mount_ + "/fill; true)");
    expect_refused("file:" + mount_, ENOSPC, "free some");
    Memory memory(64 * kPageSize);
    for (std::uint64_t at = 0; at < (*store)->capacity(); at += memory.size()) {
        Transfer write(WRITE, at, memory);
        ASSERT_EQ(run(**store, write), static_cast<int>(memory.size()));
    }
    EXPECT_EQ(flush(**store), 0);
}

// A whole chunk does not fit any more, what is asked for does.
TEST_F(FileSystemImage, LastSpaceIsReservedToo) {
    std::filesystem::resize_file(image_, 192 << 20);
    mount("loop");
    if (IsSkipped()) return;
    auto store = open("file:" + mount_ + "?size=150M");
    ASSERT_TRUE(store) << store.error().message;
    const std::uint64_t free = std::filesystem::space(mount_).available;
    run_command(fmt::format("fallocate -l {} {}/fill", free - (24 << 20), mount_));
    if (IsSkipped()) return;
    const std::uint64_t wanted = (*store)->reserved() + (8 << 20);
    EXPECT_EQ(reserve(**store, wanted), 0);
    EXPECT_EQ((*store)->reserved(), wanted);
    EXPECT_EQ(reserve(**store, wanted + (64 << 20)), -ENOSPC);
    EXPECT_EQ((*store)->reserved(), wanted);
}

// ext2 has no fallocate(2): space is reserved by writing zeros, and what is behind them is kept.
TEST_F(FileSystemImage, FileSystemWithoutAllocation) {
    mount("loop", "ext2");
    if (IsSkipped()) return;
    auto store = open("file:" + mount_ + "?size=6M");
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_EQ((*store)->reserved(), 6u << 20);
    struct stat info {};
    ASSERT_EQ(::stat(store_file().c_str(), &info), 0);
    EXPECT_GE(info.st_blocks * 512, 6 << 20);
    Memory out(4 * kPageSize), in(4 * kPageSize);
    out.fill(5);
    Transfer write(WRITE, 0, out), read(READ, 0, in);
    EXPECT_EQ(run(**store, write), static_cast<int>(out.size()));
    EXPECT_EQ(reserve(**store, (*store)->capacity()), 0);
    EXPECT_EQ(run(**store, read), static_cast<int>(in.size()));
    EXPECT_TRUE(in.same_as(out));
}

TEST_F(FileSystemImage, LoopDeviceOverMemory) {
    const std::string memory = "/dev/shm/farswap-store-test-image";
    std::ofstream(memory).close();
    std::error_code error;
    std::filesystem::resize_file(memory, 4 << 20, error);
    image_ = memory;
    attach();
    if (!IsSkipped()) expect_refused("file:" + device_, EINVAL, "in memory");
    std::filesystem::remove(memory, error);
}

TEST_F(FileSystemImage, BlockDevice) {
    attach();
    if (IsSkipped()) return;
    expect_refused("file:" + device_ + "?size=1G", ENOSPC, "holds only");
    {
        auto store = open("file:" + device_);
        ASSERT_TRUE(store) << store.error().message;
        EXPECT_EQ((*store)->capacity(), (32u << 20) - kLeaseSize);
        EXPECT_EQ((*store)->reserved(), (*store)->capacity());
        Memory out(4 * kPageSize), in(4 * kPageSize);
        out.fill(9);
        const std::uint64_t last = (*store)->capacity() - out.size();
        Transfer write(WRITE, last, out), read(READ, last, in);
        EXPECT_EQ(run(**store, write), static_cast<int>(out.size()));
        EXPECT_EQ(flush(**store), 0);
        EXPECT_EQ(run(**store, read), static_cast<int>(in.size()));
        EXPECT_TRUE(in.same_as(out));
        expect_refused("file:" + device_, EBUSY, "in use");
    }
    EXPECT_TRUE(open("file:" + device_));
    run_command("mkfs.ext4 -q -F " + device_);
    expect_refused("file:" + device_, EEXIST, "not farswap's");
    run_command("mount " + device_ + " " + mount_);
    if (IsSkipped()) return;
    expect_refused("file:" + device_, EBUSY, "mounted");
}

}  // namespace
}  // namespace farswap
