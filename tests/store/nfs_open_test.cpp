// Activation of an NFS store: whose file it is, what is said when it cannot be had, and what is left behind.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "base/units.h"
#include "nfs_driver.h"
#include "nfs_server.h"
#include "store/lease.h"

namespace farswap::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class NfsOpenTest : public testing::TestWithParam<int>, protected Driver {
  protected:
    void SetUp() override {
        if (!nfs_server_available()) GTEST_SKIP() << "needs root and nfs-ganesha";
        server =
            std::make_unique<NfsServer>(std::vector<std::string>{"export", "closed,ro", "squashed,squash"});
        server->version = GetParam();
    }
    void expect_refused(const std::string& url, int code, const testing::Matcher<std::string>& message) {
        const auto opened = open(url);
        ASSERT_FALSE(opened) << url;
        EXPECT_EQ(opened.error().code, code) << opened.error().message;
        EXPECT_THAT(opened.error().message, message);
        EXPECT_THAT(opened.error().message, AllOf(HasSubstr(url), testing::Not(HasSubstr("\n"))));
    }
    std::size_t files(const std::string& name = "export") {
        return static_cast<std::size_t>(
            std::distance(std::filesystem::directory_iterator(server->path(name)), {}));
    }
    /// A file whose lease belongs to a process that has ended.
    void leave_orphan(const std::string& name) {
        const pid_t child = ::fork();
        if (child == 0) {
            std::ofstream file(server->path("export") / name, std::ios::binary);
            put_lease(file, make_lease(kMiB).value());
            file.close();
            ::_exit(0);
        }
        ::waitpid(child, nullptr, 0);
    }
    static void put_lease(std::ostream& file, const Lease& lease) {
        std::array<std::byte, kLeaseSize> block;
        encode_lease(lease, block);
        file.write(reinterpret_cast<const char*>(block.data()), kLeaseSize);
    }
    std::unique_ptr<NfsServer> server;
};

TEST_P(NfsOpenTest, DirectoryGivesEveryJobItsOwnFile) {
    auto one = open(server->url("export", "&size=1M"), "farswap-one"),
         two = open(server->url("export", "&size=1M"), "farswap-two");
    ASSERT_TRUE(one && two);
    EXPECT_EQ(files(), 2u);
    ASSERT_EQ(write(**one, 0, pattern(0, 4096, 1)), 4096);
    ASSERT_EQ(write(**two, 0, pattern(0, 4096, 2)), 4096);
    EXPECT_TRUE(read(**one, 0, 4096) == pattern(0, 4096, 1));
    struct stat status {};
    ASSERT_EQ(::stat((server->path("export") / "farswap-one").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
    (*one)->close();
    (*two)->close();
    EXPECT_EQ(files(), 0u);
}

TEST_P(NfsOpenTest, NeverTakesAnExistingFileInADirectory) {
    std::ofstream(server->path("export") / "farswap-test") << "precious";
    // Named twice by one job, too.
    auto one = open(server->url("export", "&size=1M")), two = open(server->url("export", "&size=1M"));
    ASSERT_TRUE(one) << one.error().message;
    ASSERT_TRUE(two) << two.error().message;
    EXPECT_EQ(files(), 3u);
    (*one)->close();
    (*two)->close();
    EXPECT_EQ(files(), 1u);
    EXPECT_EQ(std::filesystem::file_size(server->path("export") / "farswap-test"), 8u);
}

TEST_P(NfsOpenTest, DestructionClosesToo) {
    ASSERT_TRUE(open(server->url("export", "&size=1M")));
    EXPECT_EQ(files(), 0u);
}

TEST_P(NfsOpenTest, FileServesOneJobAtATime) {
    std::ofstream(server->path("export") / "swapfile");
    const auto url = server->url("export/swapfile", "&size=1M");
    auto first = open(url);
    ASSERT_TRUE(first) << first.error().message;
    expect_refused(url, EBUSY, HasSubstr(fmt::format("pid {}", ::getpid())));
    (*first)->close();
    EXPECT_EQ(files(), 1u) << "it stays";
    auto second = open(url);
    ASSERT_TRUE(second) << second.error().message;
    (*second)->close();
}

TEST_P(NfsOpenTest, FileThatAnotherHasTakenIsLeftAloneAtTheEnd) {
    const auto path = server->path("export") / "swapfile";
    std::ofstream(path).close();
    auto store = open(server->url("export/swapfile", "&size=1M"));
    ASSERT_TRUE(store) << store.error().message;
    const Lease thief = make_lease(kMiB).value();
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    put_lease(file, thief);
    file.close();
    (*store)->close();
    std::array<std::byte, kLeaseSize> block;
    std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(block.data()), kLeaseSize);
    Lease found;
    ASSERT_EQ(decode_lease(block, found), LeaseContent::kLease);
    EXPECT_EQ(found.nonce, thief.nonce);
    EXPECT_EQ(found.state, Lease::State::kOwned);
}

TEST_P(NfsOpenTest, TakesAFileOverFromADeadOwner) {
    leave_orphan("swapfile");
    auto store = open(server->url("export/swapfile", "&size=1M"));
    ASSERT_TRUE(store) << store.error().message;
    (*store)->close();
}

TEST_P(NfsOpenTest, FindsAPlaceBelowTheExport) {
    std::filesystem::create_directories(server->path("export/deep/er"));
    std::ofstream(server->path("export/deep/er/swapfile"));
    for (const char* place : {"export/deep/er", "export/deep/er/", "export/deep/er/swapfile"}) {
        auto store = open(server->url(place, "&size=1M"));
        ASSERT_TRUE(store) << store.error().message;
        (*store)->close();
    }
}

TEST_P(NfsOpenTest, ListsAndRemovesOrphansOnly) {
    leave_orphan("farswap-orphan");
    std::ofstream(server->path("export") / "farswap-notes.txt") << "somebody's";
    auto alive = open(server->url("export", "&size=1M"), "farswap-alive");
    ASSERT_TRUE(alive);
    const auto url = parse_url(server->url()).value();
    auto orphans = list_nfs_orphans(url);
    ASSERT_TRUE(orphans) << orphans.error().message;
    ASSERT_EQ(orphans->size(), 2u);
    std::ranges::sort(*orphans, {}, &Orphan::path);
    const Orphan &living = (*orphans)[0], &dead = (*orphans)[1];
    EXPECT_TRUE(living.alive);
    EXPECT_FALSE(dead.alive);
    EXPECT_EQ(dead.path, (server->path("export") / "farswap-orphan").string());
    EXPECT_EQ(dead.bytes, kLeaseSize);
    EXPECT_THAT(dead.owner, HasSubstr("last sign of life"));
    EXPECT_EQ(remove_nfs_orphan(url, living).error().code, EBUSY);
    EXPECT_TRUE(remove_nfs_orphan(url, dead));
    EXPECT_EQ(remove_nfs_orphan(url, {.path = "/x/farswap-notes.txt", .owner = {}}).error().code, EEXIST);
    EXPECT_EQ(files(), 2u);
    (*alive)->close();
}

TEST_P(NfsOpenTest, SaysWhatIsWrong) {
    // NFSv4 shows the way to its exports as directories.
    expect_refused(server->url("nowhere"), ENOENT,
                   HasSubstr(GetParam() == 3 ? "showmount -e 127.0.0.1" : "name another"));
    expect_refused(server->url("export/missing"), ENOENT, HasSubstr("make the directory"));
    expect_refused(server->url("closed"), EROFS, HasSubstr("read-only"));
    std::filesystem::permissions(server->path("squashed"), std::filesystem::perms(0755));
    expect_refused(server->url("squashed"), EACCES, HasSubstr("uid 0 gid 0"));
    expect_refused(server->url("export", "&uid=12345"), EACCES, HasSubstr("uid 12345"));
    expect_refused(server->url("export", "&size=huge"), EINVAL, HasSubstr("size"));
    expect_refused(server->url("export", "&color=red"), EINVAL, HasSubstr("color"));
    auto two = server->url();
    two.replace(two.find("version="), 9, "version=2");
    expect_refused(two, EINVAL, HasSubstr("version=3"));
    std::ofstream(server->path("export") / "notes") << std::string(10000, 'x');
    expect_refused(server->url("export/notes"), EEXIST, HasSubstr("truncate"));
    // As a disk image with btrfs: nothing but zeros up to the superblock at 64 KiB.
    std::ofstream(server->path("export") / "image") << std::string(65536, '\0') << "_BHRfS_M";
    expect_refused(server->url("export/image"), EEXIST, HasSubstr("truncate"));
    EXPECT_EQ(files(), 2u) << "nothing is left behind";
}

// Wherever the connection breaks, and although the call that broke may have been executed.
TEST_P(NfsOpenTest, BrokenConnectionLeavesNoFile) {
    Proxy proxy(server->nfs_port());
    bool made = false;
    // Of a reply to CREATE the last byte is cut off, or a later one, until nothing is.
    for (std::int64_t cut = 1; cut < 100'000; cut += 25) {
        proxy.cut_after(cut);
        auto store = open(server->url_by_port(proxy.port(), "&size=1M"));
        made = store.has_value();
        if (made) break;
        ASSERT_EQ(files(), 0u) << "after " << cut << " bytes: " << store.error().message;
    }
    EXPECT_TRUE(made);
    EXPECT_EQ(files(), 0u) << "the last cut was left for the end of a store";
}

// Names that could not be looked into are not passed over, as those of somebody else's files are.
TEST_P(NfsOpenTest, BrokenConnectionCostsNoOrphanInAList) {
    for (const char* name : {"farswap-a", "farswap-b", "farswap-c"}) leave_orphan(name);
    Proxy proxy(server->nfs_port());
    std::size_t listed = 0;
    for (std::int64_t cut = 1; cut < 100'000 && listed == 0; cut += 401) {
        proxy.cut_after(cut);
        const auto orphans = list_nfs_orphans(parse_url(server->url_by_port(proxy.port())).value());
        if (!orphans) continue;
        listed = orphans->size();
        EXPECT_EQ(listed, 3u) << "after " << cut << " bytes";
    }
    EXPECT_EQ(listed, 3u);
}

TEST_P(NfsOpenTest, ServerWithoutMountServiceIsAskedByNfs4UnlessAVersionIsGiven) {
    const auto url = [&](const std::string& more) {
        return fmt::format("nfs://127.0.0.1{}?nfsport={}&mountport=1&size=1M{}",
                           server->path("export").string(), server->nfs_port(), more);
    };
    auto store = open(url(""));
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_EQ(write(**store, 0, pattern(0, 4096)), 4096);
    (*store)->close();
    EXPECT_EQ(files(), 0u);
    expect_refused(url("&version=3"), ECONNREFUSED, HasSubstr("mount service"));
}

// NFSv4.1 has its port.
TEST_P(NfsOpenTest, ServerWithoutPortsInItsUrlIsFoundByRpcbind) {
    if (GetParam() == 4) return;
    auto store = open(fmt::format("nfs://127.0.0.1{}?version=3&size=1M", server->path("export").string()));
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_EQ(files(), 1u) << "of this server";
    (*store)->close();
    EXPECT_EQ(files(), 0u);
}

TEST_P(NfsOpenTest, TimesNullCalls) {
    const auto took = time_nfs_null_calls(parse_url(server->url()).value(), 10ms);
    ASSERT_TRUE(took) << took.error().message;
    EXPECT_FALSE(took->empty());  // how many fit into the time is the machine's affair
    EXPECT_GT(std::ranges::min(*took), 0ns);
}

TEST_P(NfsOpenTest, UnreachableServerIsReportedSoon) {
    server->kill();
    const auto start = io::Clock::now();
    expect_refused(server->url(), ECONNREFUSED, HasSubstr("port"));
    EXPECT_LT(io::Clock::now() - start, 4s) << "not by its deadline";
}

TEST_P(NfsOpenTest, SilentServerIsReportedInFiveSeconds) {
    Proxy silent(server->nfs_port());
    silent.hold_replies(true);
    const auto start = io::Clock::now();
    expect_refused(server->url_by_port(silent.port()), ETIMEDOUT, HasSubstr("does not answer"));
    EXPECT_LT(io::Clock::now() - start, 7s);
}

/// An export on a file system of 24 MiB.
class NfsFullTest : public NfsOpenTest {
  protected:
    void SetUp() override {
        if (!nfs_server_available()) GTEST_SKIP() << "needs root and nfs-ganesha";
        std::string name = (std::filesystem::temp_directory_path() / "farswap-nfs-full.XXXXXX").string();
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        directory = name;
        const auto make = fmt::format(
            "cd {} && truncate -s 24M image && mkfs.ext4 -q -O ^has_journal image && mkdir small && mount -o "
            "loop image small",
            name);
        if (std::system(make.c_str()) != 0) GTEST_SKIP() << "cannot mount a loop device here";
        mounted = true;
        server = std::make_unique<NfsServer>(std::vector<std::string>{(directory / "small").string()});
        server->version = GetParam();
    }
    void TearDown() override {
        server.reset();
        if (mounted) {
            EXPECT_EQ(std::system(fmt::format("umount {}", (directory / "small").string()).c_str()), 0);
        }
        std::filesystem::remove_all(directory);
    }
    std::string url(const std::string& more) { return server->url((directory / "small").string(), more); }
    std::filesystem::path directory;
    bool mounted = false;
};

TEST_P(NfsFullTest, ReservesUpToTheLastFreeByteAndSaysSo) {
    auto store = open(url("&size=1G"));
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_EQ((*store)->reserved(), 16 * kMiB);
    EXPECT_EQ(reserve(**store, 100 * kMiB), -ENOSPC);
    const std::uint64_t reserved = (*store)->reserved();
    EXPECT_GE(reserved, 16 * kMiB);
    EXPECT_LT(reserved, 24 * kMiB);
    for (std::uint64_t at = 0; at + 4096 <= reserved; at += kMiB)
        EXPECT_EQ(write(**store, at, pattern(at, 4096)), 4096);
    EXPECT_EQ(flush(**store), 0);
    EXPECT_TRUE(read(**store, 0, 4096) == pattern(0, 4096));

    expect_refused(url("&size=1G"), ENOSPC, HasSubstr("full"));
    const auto second = open(url("&size=1G"), "farswap-second");
    EXPECT_EQ(second.error().code, ENOSPC) << second.error().message;
    EXPECT_THAT(second.error().message, HasSubstr("full"));
    (*store)->close();
    EXPECT_FALSE(std::filesystem::exists(directory / "small/farswap-second"));
}

TEST_P(NfsFullTest, IsRefusedWhenHardlyAnythingIsFree) {
    const auto filler = (directory / "small/filler").string();
    [[maybe_unused]] const int full =
        std::system(fmt::format("dd if=/dev/zero of={} bs=64k status=none 2>/dev/null", filler).c_str());
    std::filesystem::resize_file(filler, std::filesystem::file_size(filler) - 500'000);
    expect_refused(url(""), ENOSPC, HasSubstr("full"));
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory / "small"), {}), 2)
        << "lost+found and the filler";
}

INSTANTIATE_TEST_SUITE_P(Versions, NfsOpenTest, testing::Values(3, 4), testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Versions, NfsFullTest, testing::Values(3, 4), testing::PrintToStringParamName());

}  // namespace
}  // namespace farswap::test
