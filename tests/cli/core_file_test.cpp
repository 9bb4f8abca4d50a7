// Core files on disk: as long as what was written, without space for zeros, and gone if they were not
// finished.
#include "cli/core_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace farswap::cli {
namespace {

namespace fs = std::filesystem;

class CoreFileTest : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string pattern = (fs::path("/var/tmp") / "farswap-core-XXXXXX").string();
        directory_ = mkdtemp(pattern.data());
    }
    void TearDown() override { fs::remove_all(directory_); }

    std::string path() const { return (directory_ / "core").string(); }
    Result<CoreFile> create() const {
        return CoreFile::create(path(), [] { return false; });
    }
    fs::path directory_;
};

TEST_F(CoreFileTest, HoldsWhatWasWrittenAndNoSpaceForZeros) {
    const std::string content(10'000, 'x');
    constexpr std::uint64_t kZeros = 64 << 20;
    {
        auto file = create();
        ASSERT_TRUE(file) << file.error().message;
        ASSERT_TRUE(file->write(std::as_bytes(std::span(content))));
        ASSERT_TRUE(file->write(std::vector<std::byte>(kZeros / 2)));
        ASSERT_TRUE(file->write_zeros(kZeros / 2));
        EXPECT_EQ(file->bytes_written(), content.size() + kZeros);
        ASSERT_TRUE(file->keep());
    }
    struct stat info {};
    ASSERT_EQ(stat(path().c_str(), &info), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(info.st_size), content.size() + kZeros);
    EXPECT_LT(static_cast<std::uint64_t>(info.st_blocks) * 512, kZeros / 64);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
    std::ifstream in(path(), std::ios::binary);
    std::string read(content.size() + 1, '?');
    in.read(read.data(), static_cast<std::streamsize>(read.size()));
    EXPECT_EQ(read, content + '\0');
}

TEST_F(CoreFileTest, IsGoneIfItWasNotKept) {
    {
        auto file = create();
        ASSERT_TRUE(file);
        EXPECT_TRUE(fs::exists(path()));
    }
    EXPECT_FALSE(fs::exists(path()));
}

TEST_F(CoreFileTest, ReplacesNothing) {
    std::ofstream(path()) << "somebody's";
    EXPECT_EQ(create().error().code, EEXIST);
    EXPECT_EQ(fs::file_size(path()), 10u);
    fs::remove(path());
    fs::create_symlink("/etc/passwd", path());
    EXPECT_FALSE(create());
}

TEST_F(CoreFileTest, APipeThatNobodyReadsIsLeftWhenAskedTo) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const Fd reader(ends[0]), writer(ends[1]), before(dup(STDOUT_FILENO));
    ASSERT_GE(dup2(writer.get(), STDOUT_FILENO), 0);
    auto file = CoreFile::create("-", [] { return true; });
    dup2(before.get(), STDOUT_FILENO);
    ASSERT_TRUE(file);
    const auto written = file->write_zeros(1 << 20);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code, EINTR);
}

}  // namespace
}  // namespace farswap::cli
