// Files that dead jobs left behind: found, shown with their owner, removed; those of live jobs are not.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <utime.h>

#include "base/fd.h"
#include "store/file_lease.h"
#include "store/file_store.h"
#include "store_fixture.h"

namespace farswap {
namespace {

using std::chrono::milliseconds;

class FileOrphans : public StoreTest {
  protected:
    std::string leave(const std::string& name, const Lease& lease) {
        const std::string path = directory_ + "/" + name;
        const Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        EXPECT_TRUE(write_lease(fd.get(), lease));
        return path;
    }
    Lease dead_lease() const {
        auto lease = make_lease(1 << 20);
        EXPECT_TRUE(lease);
        ++lease->pid_start;
        return *lease;
    }
    std::string url() const { return "file:" + directory_; }
};

TEST_F(FileOrphans, DeadOnesAreListedAndRemovedLiveOnesStay) {
    auto live = open(directory_url("2M"), {.job = "farswap-live"});
    ASSERT_TRUE(live) << live.error().message;
    leave("farswap-dead", dead_lease());
    std::ofstream(directory_ + "/farswap-notes") << "not a store";
    std::ofstream(directory_ + "/other") << "nobody's business";

    const auto orphans = list_orphans(url());
    ASSERT_TRUE(orphans) << orphans.error().message;
    ASSERT_EQ(orphans->size(), 2u);
    const Orphan &dead = (*orphans)[0], &alive = (*orphans)[1];
    EXPECT_EQ(dead.path, directory_ + "/farswap-dead");
    EXPECT_FALSE(dead.alive);
    EXPECT_THAT(dead.owner, ::testing::HasSubstr("pid"));
    EXPECT_TRUE(alive.alive);
    EXPECT_GE(alive.bytes, 2u << 20);

    EXPECT_FALSE(remove_orphan(url(), alive));
    const Status removed = remove_orphan(url(), dead);
    EXPECT_TRUE(removed) << removed.error().message;
    EXPECT_EQ(files_left(), 3u);
}

TEST_F(FileOrphans, SilentOwnersElsewhereAreWatchedTogether) {
    Lease elsewhere = dead_lease();
    elsewhere.boot_id[0] ^= 1;
    elsewhere.beat_time_s -= 3600;
    leave("farswap-a", elsewhere);
    leave("farswap-b", elsewhere);
    const auto orphans = list_file_orphans(*parse_url(url()), {.watch = milliseconds(50)});
    ASSERT_TRUE(orphans) << orphans.error().message;
    ASSERT_EQ(orphans->size(), 2u);
    EXPECT_FALSE((*orphans)[0].alive);

    // It comes back between the look and the removal.
    ++elsewhere.beat;
    leave("farswap-a", elsewhere);
    EXPECT_FALSE(remove_orphan(url(), (*orphans)[0]));
    EXPECT_TRUE(remove_orphan(url(), (*orphans)[1]));
}

TEST_F(FileOrphans, EmptyFileIsAnOrphanOnlyWhenOld) {
    const std::string path = directory_ + "/farswap-empty";
    std::ofstream(path).close();
    auto orphans = list_orphans(url());
    ASSERT_TRUE(orphans && orphans->size() == 1);
    EXPECT_TRUE(orphans->front().alive) << "its maker may be about to write the lease";
    const utimbuf old{.actime = 1000, .modtime = 1000};
    ASSERT_EQ(::utime(path.c_str(), &old), 0);
    orphans = list_orphans(url());
    ASSERT_TRUE(orphans && orphans->size() == 1);
    EXPECT_FALSE(orphans->front().alive);
    EXPECT_TRUE(remove_orphan(url(), orphans->front()));
}

TEST_F(FileOrphans, NothingOutsideTheDirectoryIsRemoved) {
    Orphan foreign{.path = "/etc/hostname"};
    EXPECT_FALSE(remove_orphan(url(), foreign));
    EXPECT_FALSE(list_orphans("file:" + directory_ + "/missing"));
    const std::string file = leave("swap", dead_lease());
    const auto orphans = list_orphans("file:" + file);
    ASSERT_TRUE(orphans);
    EXPECT_TRUE(orphans->empty());
}

}  // namespace
}  // namespace farswap
