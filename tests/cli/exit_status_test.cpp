// Exit statuses and deaths by signal.
#include "cli/exit_status.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/job_name.h"
#include "cli/setup_signals.h"
#include "cli/stats_file.h"

namespace farswap::cli {
namespace {

/// The wait status of a child that ends so.
int wait_status_of(const Ending& ending, bool blocked = false) {
    const pid_t child = ::fork();
    if (child == 0) {
        if (blocked) {
            sigset_t all;
            sigfillset(&all);
            ::sigprocmask(SIG_SETMASK, &all, nullptr);
            ::signal(ending.signal, SIG_IGN);
        }
        end_process(ending);
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return status;
}

TEST(Ending, FollowsTheProgram) {
    EXPECT_EQ(ending_of(7 << 8).status, 7);
    EXPECT_EQ(ending_of(7 << 8).signal, 0);
    EXPECT_EQ(ending_of(SIGKILL).status, 137);
    EXPECT_EQ(ending_of(SIGSEGV | 0x80).signal, SIGSEGV) << "with a core dump";
}

TEST(Ending, TellsNotFoundFromNotExecutable) {
    EXPECT_EQ(ending_of_start_failure(ENOENT).status, 127);
    EXPECT_EQ(ending_of_start_failure(EACCES).status, 126);
    EXPECT_EQ(ending_of_start_failure(ENOEXEC).status, 126);
    EXPECT_EQ(ending_of_start_failure(E2BIG).status, 126) << "as a shell says";
    EXPECT_EQ(ending_of_start_failure(EPERM).status, 125);
    EXPECT_EQ(ending_of_start_failure(ENOMEM).status, 125);
}

TEST(EndProcess, LooksTheSameToTheParent) {
    EXPECT_EQ(wait_status_of({7, 0}), 7 << 8);
    for (const int signal : {SIGTERM, SIGKILL, SIGINT, SIGSEGV, SIGABRT, SIGPIPE, SIGRTMIN})
        EXPECT_EQ(wait_status_of({128 + signal, signal}), signal) << "and no core dump";
    EXPECT_EQ(wait_status_of({128 + SIGTERM, SIGTERM}, true), SIGTERM) << "though ignored and blocked";
}

TEST(SetupSignals, NotesTheFirstAndLeavesIgnoredOnesAlone) {
    ::signal(SIGHUP, SIG_IGN);
    {
        const SetupSignals signals;
        EXPECT_EQ(signals.taken(), 0);
        ::raise(SIGHUP);
        ::raise(SIGPIPE);
        EXPECT_EQ(signals.taken(), 0);
        ::raise(SIGTERM);
        ::raise(SIGINT);
        EXPECT_EQ(signals.taken(), SIGTERM);
    }
    struct sigaction now = {};
    ::sigaction(SIGTERM, nullptr, &now);
    EXPECT_EQ(now.sa_handler, SIG_DFL);
    ::signal(SIGHUP, SIG_DFL);
}

TEST(JobName, IsAPlainFileName) {
    EXPECT_EQ(job_name("node7.lab", 42, 0xbeef), "farswap-node7.lab-42-0000beef");
    EXPECT_EQ(job_name("a/b c_\xc3\xa4", 1, 0), "farswap-a-b-c----1-00000000");
    EXPECT_EQ(job_name("", 1, 0), "farswap-host-1-00000000");
    EXPECT_NE(make_job_name(), make_job_name());
}

TEST(StatsFile, KeepsTheOldContentUntilThereIsNew) {
    char path[] = "/tmp/farswap-stats-XXXXXX";
    const Fd made(::mkstemp(path));
    ASSERT_EQ(::write(made.get(), "a longer old text", 17), 17);
    auto file = StatsFile::open(path);
    ASSERT_TRUE(file);
    EXPECT_EQ(::lseek(made.get(), 0, SEEK_END), 17);
    EXPECT_TRUE(file->write("new"));
    EXPECT_EQ(::lseek(made.get(), 0, SEEK_END), 3);
    ::unlink(path);
}

TEST(StatsFile, IsRefusedWhenItCannotBeWritten) {
    EXPECT_EQ(StatsFile::open("/nonexistent/stats.json").error().code, ENOENT);
    EXPECT_EQ(StatsFile::open("/").error().code, EISDIR);
    EXPECT_TRUE(StatsFile::open("")->write("nowhere"));
    EXPECT_EQ(StatsFile::open("/dev/full")->write("x").error().code, ENOSPC);
}

}  // namespace
}  // namespace farswap::cli
