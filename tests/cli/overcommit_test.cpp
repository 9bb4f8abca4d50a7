// Switching vm.overcommit_memory for several jobs, on files of our own.
#include "cli/overcommit.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace farswap::cli {
namespace {

using ::testing::HasSubstr;

class Overcommit : public ::testing::Test {
  protected:
    void SetUp() override {
        char name[] = "/tmp/farswap-overcommit-XXXXXX";
        ASSERT_NE(::mkdtemp(name), nullptr);
        folder_ = name;
        paths_ = {.setting = folder_ + "/setting", .directory = folder_ + "/run"};
        write_setting("0\n");
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    void write_setting(const char* text) { std::ofstream(paths_.setting) << text; }
    std::string setting() { return read_text_file(paths_.setting).value_or("").substr(0, 1); }
    std::unique_ptr<OvercommitSwitch> hold() {
        auto held = OvercommitSwitch::set(paths_);
        EXPECT_TRUE(held) << held.error().message;
        return std::move(held).value_or(nullptr);
    }

    std::string folder_;
    OvercommitPaths paths_;
};

TEST_F(Overcommit, LastHolderGoesBack) {
    auto first = hold();
    EXPECT_EQ(setting(), "1");
    EXPECT_EQ(overcommit_to_restore(paths_), "0");
    auto second = hold();
    first.reset();
    EXPECT_EQ(setting(), "1");
    second.reset();
    EXPECT_EQ(setting(), "0");
    EXPECT_EQ(overcommit_to_restore(paths_), "");
    EXPECT_FALSE(std::filesystem::exists(paths_.directory)) << "nothing is left behind";
}

TEST_F(Overcommit, HoldersThatComeAndGoNeverFindItOff) {
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) {
        children.push_back(::fork());
        if (children.back() != 0) continue;
        for (int round = 0; round < 100; ++round) {
            const auto held = OvercommitSwitch::set(paths_);
            if (!held || setting() != "1") ::_exit(1);
        }
        ::_exit(0);
    }
    for (const pid_t child : children) {
        int status = -1;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
    }
    EXPECT_EQ(setting(), "0");
    EXPECT_FALSE(std::filesystem::exists(paths_.directory));
}

TEST_F(Overcommit, GoesBackToWhateverItWas) {
    write_setting("2\n");
    hold().reset();
    EXPECT_EQ(setting(), "2");
}

TEST_F(Overcommit, LeavesAnAdministratorsChangeAlone) {
    auto held = hold();
    write_setting("2\n");
    held.reset();
    EXPECT_EQ(setting(), "2");
}

TEST_F(Overcommit, HolderWhoComesAfterAChangeSwitchesAgain) {
    auto first = hold();
    write_setting("0\n");
    auto second = hold();
    EXPECT_EQ(setting(), "1");
}

TEST_F(Overcommit, NextHolderMendsWhatAKilledOneLeft) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        auto held = OvercommitSwitch::set(paths_);
        [[maybe_unused]] const auto told = ::write(ready[1], "x", 1);
        while (true) ::pause();
    }
    char byte;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_EQ(setting(), "1") << "nobody was there to go back";
    hold().reset();
    EXPECT_EQ(setting(), "0") << "the value of before the killed one, not its 1";
}

TEST_F(Overcommit, SaysWhatToTypeWhenItMayNot) {
    paths_.setting = folder_ + "/none/setting";
    EXPECT_FALSE(OvercommitSwitch::set(paths_));
    EXPECT_EQ(overcommit_to_restore(paths_), "") << "nothing noted for a switch that failed";
    EXPECT_FALSE(std::filesystem::exists(paths_.directory)) << "nor left behind";
}

TEST(OvercommitAdvice, NamesTheLimit) {
    EXPECT_EQ(overcommit_advice({.mode = 1}), "");
    EXPECT_THAT(overcommit_advice({.mode = 0, .largest_mapping = 24ull << 30}),
                HasSubstr("larger than 24 GiB"));
    EXPECT_THAT(overcommit_advice({.mode = 2, .commit_limit = 12ull << 30}),
                HasSubstr("commit limit of 12 GiB"));
}

TEST(OvercommitState, IsRead) {
    const auto state = read_overcommit([](const std::string& path) -> std::optional<std::string> {
        if (path == "/proc/sys/vm/overcommit_memory") return "2\n";
        return "MemTotal: 1000 kB\nSwapTotal: 24 kB\nCommitLimit:      500 kB\nCommitted_AS: 100 kB\n";
    });
    ASSERT_TRUE(state);
    EXPECT_EQ(state->mode, 2);
    EXPECT_EQ(state->largest_mapping, 1024u * 1024);
    EXPECT_EQ(state->commit_limit, 500u * 1024);
    EXPECT_EQ(state->committed, 100u * 1024);
}

}  // namespace
}  // namespace farswap::cli
