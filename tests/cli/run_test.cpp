// farswap run as its caller sees it: statuses, signals, streams, files. The pager is a pretended one.
#include <fcntl.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "command_fixture.h"

namespace farswap::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class RunTest : public CommandTest {
  protected:
    nlohmann::json stats() { return nlohmann::json::parse(text_of("stats.json"), nullptr, false); }
};

TEST_F(RunTest, EndsWithTheProgramsStatus) {
    EXPECT_EQ(run({"true"}).status(), 0);
    EXPECT_EQ(run({"--", "sh", "-c", "exit 7"}).status(), 7);
    EXPECT_TRUE(store_is_empty());
}

TEST_F(RunTest, TellsNotFoundFromNotExecutable) {
    const auto missing = run({"no-such-program-here"});
    EXPECT_EQ(missing.status(), 127);
    EXPECT_THAT(missing.err,
                AllOf(HasSubstr("farswap: no-such-program-here: No such file"), HasSubstr("\n")));
    EXPECT_EQ(std::count(missing.err.begin(), missing.err.end(), '\n'), 1) << missing.err;
    EXPECT_EQ(run({"/etc/passwd"}).status(), 126);
    EXPECT_EQ(run({"/etc"}).status(), 126);
    EXPECT_TRUE(store_is_empty());
}

TEST_F(RunTest, DiesOfTheProgramsSignal) {
    for (const int signal : {SIGTERM, SIGKILL, SIGSEGV, SIGINT}) {
        const auto outcome = run({"sh", "-c", "kill -" + std::to_string(signal) + " $$"});
        EXPECT_EQ(outcome.wait_status, signal) << "the wait status, without a core dump";
        EXPECT_TRUE(store_is_empty());
    }
}

TEST_F(RunTest, LeavesStandardStreamsAlone) {
    const auto outcome = run({"cat"}, [this] {
        std::ofstream(path("in")) << "through and through";
        ::dup2(::open(path("in").c_str(), O_RDONLY | O_CLOEXEC), STDIN_FILENO);
    });
    EXPECT_EQ(outcome.out, "through and through");
    EXPECT_THAT(outcome.err, StartsWith("farswap: no page left RAM"));
    EXPECT_EQ(run({"--quiet", "sh", "-c", "echo mine >&2"}).err, "mine\n");
}

TEST_F(RunTest, ProgramFindsClosedStreamsClosed) {
    const auto outcome =
        run({"sh", "-c", "for n in 0 3 4 5 6; do [ -e /proc/$$/fd/$n ] && echo $n; done; true"}, [] {
            ::close(STDIN_FILENO);
            ::close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);  // what whoever runs the tests has left open
        });
    EXPECT_EQ(outcome.out, "") << "neither ours nor a replacement";
}

TEST_F(RunTest, ProgramGetsTheCallersSignalDispositions) {
    const std::vector<std::string> show{"sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status"};
    const auto setting = [] {
        ::signal(SIGPIPE, SIG_DFL);
        ::signal(SIGHUP, SIG_IGN);
    };
    const auto under = run(show, setting);
    EXPECT_EQ(under.out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\n");
}

TEST_F(RunTest, SummaryTellsWhatLeftRam) {
    const auto outcome = run({"true"}, [] { ::setenv("FAKE_EVICTED", "5000", 1); });
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("farswap: memory   need"), HasSubstr("farswap: store    file:"),
                                   Not(HasSubstr("\x1b"))));
    EXPECT_EQ(run({"-q", "true"}, [] { ::setenv("FAKE_EVICTED", "5000", 1); }).err, "");
}

TEST_F(RunTest, FailureOfThePagerIsOneLineAnd125) {
    const auto outcome = run({"-q", "--stats", path("stats.json"), "true"}, [] {
        ::setenv("FAKE_FAILURE", "page 7f00 slot 3: checksum does not match", 1);
    });
    EXPECT_EQ(outcome.status(), 125);
    EXPECT_EQ(outcome.err, "farswap: page 7f00 slot 3: checksum does not match\n");
    EXPECT_EQ(stats()["failure"], "page 7f00 slot 3: checksum does not match");
    EXPECT_EQ(stats()["exit"]["status"], 125);
}

TEST_F(RunTest, StatsAreWrittenWhateverHappens) {
    EXPECT_EQ(run({"--stats", path("stats.json"), "sh", "-c", "exit 3"}).status(), 3);
    EXPECT_EQ(stats()["exit"]["status"], 3);
    EXPECT_EQ(stats()["program"], "sh");
    EXPECT_EQ(stats()["memory"]["cap_bytes"], 64 << 20);
    EXPECT_EQ(stats()["pool"]["bytes"], 4 << 20);
    EXPECT_EQ(stats()["stores"].size(), 1u);

    EXPECT_EQ(
        farswap({"run", "--swap", "file:/no/such/place", "--stats", path("stats.json"), "true"}).status(),
        125);
    EXPECT_EQ(stats()["started"], false);
    EXPECT_THAT(stats()["failure"].get<std::string>(), HasSubstr("/no/such"));
}

TEST_F(RunTest, StatsFileThatCannotBeWrittenIsRefusedFirst) {
    const auto outcome = run({"--stats", "/no/such/folder/s.json", "touch", path("ran")});
    EXPECT_EQ(outcome.status(), 125);
    EXPECT_THAT(outcome.err, HasSubstr("--stats /no/such/folder/s.json: cannot be written"));
    EXPECT_EQ(text_of("ran"), "absent");
}

TEST_F(RunTest, WritesAReport) {
    EXPECT_EQ(
        run({"--report", path("job.html"), "--stats", path("stats.json"), "sh", "-c", "exit 3"}).status(), 3);
    EXPECT_THAT(text_of("job.html"),
                AllOf(StartsWith("<!doctype html>"), HasSubstr("<title>sh under farswap</title>")));
    const auto outcome = farswap({"report", path("stats.json")});
    EXPECT_EQ(outcome.status(), 0) << outcome.err;
    EXPECT_EQ(text_of("stats.html"), text_of("job.html")) << "both are of the same";
    EXPECT_EQ(farswap({"report", path("stats.json"), "-o", "-"}).out, text_of("job.html"));
}

TEST_F(RunTest, ReportThatCannotBeWrittenIsRefusedFirst) {
    for (const auto& file : {std::string("/no/such/folder/r.html"), path("store")}) {
        const auto outcome = run({"--report", file, "touch", path("ran")});
        EXPECT_EQ(outcome.status(), 125);
        EXPECT_THAT(outcome.err, HasSubstr("farswap: --report " + file + ": cannot be written"));
        EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
        EXPECT_EQ(text_of("ran"), "absent");
    }
    EXPECT_EQ(run({"--report", path("x"), "--stats", path("x"), "touch", path("ran")}).status(), 2);
    EXPECT_EQ(text_of("ran"), "absent");
}

TEST_F(RunTest, ReportOfWhatIsNoStatisticsFileIsRefused) {
    std::ofstream(path("odd.json")) << "{\"format\": 7, \"memory\": 1, \"faults\": 1}";
    for (const auto& file :
         {path("odd.json"), path("absent.json"), path("store"), std::string("/dev/zero")}) {
        const auto outcome = farswap({"report", file});
        EXPECT_EQ(outcome.status(), 125) << file;
        EXPECT_THAT(outcome.err, StartsWith("farswap: " + file + ": "));
        EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    }
    EXPECT_EQ(text_of("odd.html"), "absent");
    EXPECT_EQ(farswap({"report"}).status(), 2);
}

TEST_F(RunTest, WrongWordsAreRefusedWithTwo) {
    EXPECT_EQ(farswap({"run", "--ram", "12Q", "true"}).status(), 2);
    EXPECT_EQ(farswap({"run", "--bad", "true"}).status(), 2);
    for (const char* url : {"banana", "ftp://host/export", "nfs://host", "nfs://host/x?version=2",
                            "nfs://host/x?size=many", "file:/var/tmp?size=12Q", "file:/var/tmp?colour=red"}) {
        const auto wrong = run({"--swap", url, "touch", path("ran")});
        EXPECT_EQ(wrong.status(), 2) << wrong.err;
        EXPECT_EQ(std::count(wrong.err.begin(), wrong.err.end(), '\n'), 1) << wrong.err;
    }
    const auto small = farswap({"run", "--ram", "10M", "touch", path("ran")});
    EXPECT_EQ(small.status(), 2);
    EXPECT_THAT(small.err, HasSubstr("the least that works is 20M"));
    EXPECT_EQ(text_of("ran"), "absent");
}

TEST_F(RunTest, StoreThatCannotBeOpenedEndsItBeforeTheProgram) {
    const auto outcome = run({"--swap", "file:/no/such/place", "touch", path("ran")});
    EXPECT_EQ(outcome.status(), 125);
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(text_of("ran"), "absent");
    EXPECT_TRUE(store_is_empty()) << "the first store is given up";
}

TEST_F(RunTest, UsesSeveralStores) {
    std::filesystem::create_directory(path("second"));
    EXPECT_EQ(run({"--swap", "file:" + path("second") + "?size=32M", "--stats", path("stats.json"), "true"})
                  .status(),
              0);
    EXPECT_EQ(stats()["stores"].size(), 2u);
    EXPECT_EQ(stats()["stores"][1]["capacity_bytes"], 32 << 20);
    EXPECT_TRUE(std::filesystem::is_empty(path("second")));
}

TEST_F(RunTest, LiveLineIsForTerminalsOnly) {
    const std::vector<std::string> words{"run", "--ram", "64M", "--swap", url(), "true"};
    const auto evicted = [] { ::setenv("FAKE_EVICTED", "5000", 1); };
    const auto live = farswap_on_terminal(words, evicted);
    const auto drawn = live.err.find("\r\x1b[KRAM 0/64 MiB");
    ASSERT_NE(drawn, std::string::npos) << live.err;
    EXPECT_THAT(live.err.substr(live.err.find("\r\x1b[K", drawn + 1)), StartsWith("\r\x1b[Kfarswap: memory"))
        << "cleared before the summary";
    EXPECT_THAT(farswap_on_terminal(words).err, Not(HasSubstr("\x1b"))) << "nothing evicted, nothing drawn";
    EXPECT_THAT(run({"true"}, evicted).err, Not(HasSubstr("\x1b")));
}

TEST_F(RunTest, FileSizeLimitIsNamed) {
    const auto outcome = run({"touch", path("ran")}, [] {
        const rlimit limit{1 << 20, 1 << 20};
        ::setrlimit(RLIMIT_FSIZE, &limit);
    });
    EXPECT_EQ(outcome.status(), 125);
    EXPECT_THAT(outcome.err, HasSubstr("ulimit -f"));
    EXPECT_EQ(text_of("ran"), "absent");
    EXPECT_TRUE(store_is_empty());
}

TEST_F(RunTest, SmallLockedMemoryLimitServesAndIsNamed) {
    const auto outcome = run({"true"}, [] {
        const rlimit limit{64 << 10, 64 << 10};
        ::setrlimit(RLIMIT_MEMLOCK, &limit);
    });
    EXPECT_EQ(outcome.status(), 0) << outcome.err;
}

}  // namespace
}  // namespace farswap::cli
