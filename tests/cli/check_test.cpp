// farswap check as its caller sees it.
#include "command_fixture.h"

namespace farswap::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class CheckTest : public CommandTest {
  protected:
    /// A job that is killed leaves its file: the program kills its parent, farswap.
    void leave_an_orphan() {
        run({"--keeper", "off", "sh", "-c", "kill -KILL $PPID"});
        ASSERT_FALSE(store_is_empty());
    }
    /// The kernel ends the dead one's io_uring, which holds the file's lock, a moment later.
    Outcome clean_until_dead() {
        Outcome shown;
        do shown = farswap({"check", "--clean", "file:" + store()}, [] { ::close(STDIN_FILENO); });
        while (shown.out.starts_with("live  "));
        return shown;
    }
};

TEST_F(CheckTest, TellsOfTheMachine) {
    const auto outcome = farswap({"check"});
    EXPECT_THAT(outcome.out,
                AllOf(HasSubstr("kernel         Linux "), HasSubstr("userfaultfd"), HasSubstr("io_uring")));
    const bool refused = outcome.out.starts_with("no ") || outcome.out.find("\nno ") != std::string::npos;
    EXPECT_EQ(outcome.status(), refused ? 1 : 0);
}

TEST_F(CheckTest, TriesAStoreAndGivesItUp) {
    const auto outcome = farswap({"check", url()});
    EXPECT_THAT(outcome.out, AllOf(HasSubstr("ok    store          file:"), HasSubstr("64 MiB free  write "),
                                   HasSubstr("  flush "), HasSubstr("  read ")));
    EXPECT_TRUE(store_is_empty());
}

TEST_F(CheckTest, FailsForAStoreThatCannotBeOpened) {
    const auto outcome = farswap({"check", "file:/no/such/place"});
    EXPECT_EQ(outcome.status(), 1);
    EXPECT_THAT(outcome.out, HasSubstr("no    store          "));
}

TEST_F(CheckTest, CleanFindsNothingOnACleanStore) {
    const auto outcome = farswap({"check", "--clean", "file:" + store()});
    EXPECT_EQ(outcome.status(), 0);
    EXPECT_EQ(outcome.out, "nothing to remove on file:" + store() + "\n");
}

TEST_F(CheckTest, CleanRemovesNothingWithoutBeingAsked) {
    leave_an_orphan();
    const auto shown = clean_until_dead();
    EXPECT_EQ(shown.status(), 1);
    EXPECT_THAT(shown.out, AllOf(HasSubstr("dead  "), HasSubstr("add --yes")));
    EXPECT_FALSE(store_is_empty());
    const auto removed = farswap({"check", "--clean", "--yes", "file:" + store()});
    EXPECT_EQ(removed.status(), 0);
    EXPECT_THAT(removed.out, HasSubstr("removed "));
    EXPECT_TRUE(store_is_empty());
}

TEST_F(CheckTest, NameThatWouldMoveACursorIsShownWithoutIt) {
    leave_an_orphan();
    const auto file = std::filesystem::directory_iterator(store())->path();
    std::filesystem::rename(file, store() + "/farswap-\x1b[2J-\xc2\x9b-h\xc3\xb6he");
    const std::string shown_as = "/farswap-?[2J-?\x9b-h\xc3\xb6he";
    EXPECT_THAT(clean_until_dead().out, HasSubstr(shown_as));
    EXPECT_THAT(farswap({"check", "--clean", "--yes", "file:" + store()}).out,
                HasSubstr("removed " + store() + shown_as));
}

TEST_F(CheckTest, HelpAndVersionGoToStandardOutput) {
    EXPECT_THAT(farswap({"--version"}).out, HasSubstr("farswap 0."));
    EXPECT_EQ(farswap({"--help"}).status(), 0);
    EXPECT_EQ(farswap({}).status(), 2);
}

}  // namespace
}  // namespace farswap::cli
