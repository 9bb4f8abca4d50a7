// Which engine serves: what is asked for, what the machine refuses.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <array>
#include <cstddef>
#include <cstdlib>

#include "io_fixture.h"

namespace farswap::io {
namespace {

/// From here on `call`, io_uring_setup(2) or another, fails with `error` in this process.
void refuse_io_uring(unsigned error, unsigned call = SYS_io_uring_setup) {
    std::array code{
        sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{.len = code.size(), .filter = code.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) std::_Exit(100);
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) std::_Exit(101);
}

/// What a child of this process says: the engine that it gets, or the error.
[[noreturn]] void tell_engine(const LoopOptions& options) {
    auto loop = Loop::create(options);
    std::fputs(loop ? name_of((*loop)->engine()) : loop.error().message.c_str(), stderr);
    std::_Exit(loop ? 0 : loop.error().code);
}

class LoopEngineDeathTest : public ::testing::Test {
  protected:
    LoopEngineDeathTest() {
        GTEST_FLAG_SET(death_test_style, "threadsafe");
        ::unsetenv("FARSWAP_IO_ENGINE");
    }
    ~LoopEngineDeathTest() override { ::unsetenv("FARSWAP_IO_ENGINE"); }
    static void ask_for(const char* engine) { ::setenv("FARSWAP_IO_ENGINE", engine, 1); }
};

TEST_F(LoopEngineDeathTest, IoUringWhereItIsPermitted) {
    EXPECT_EXIT(tell_engine({}), testing::ExitedWithCode(0), "^io_uring$");
    ask_for("");
    EXPECT_EXIT(tell_engine({}), testing::ExitedWithCode(0), "^io_uring$");
}

TEST_F(LoopEngineDeathTest, EpollWhereIoUringIsRefused) {
    for (const unsigned error : {EPERM, EACCES, ENOSYS}) {
        const auto serve = [error] {
            refuse_io_uring(error);
            tell_engine({});
        };
        EXPECT_EXIT(serve(), testing::ExitedWithCode(0), "^epoll$") << error;
    }
}

TEST_F(LoopEngineDeathTest, EpollWhereARingMayBeMadeAndNotEntered) {
    for (const unsigned error : {EPERM, EACCES, ENOSYS}) {
        const auto serve = [error] {
            refuse_io_uring(error, SYS_io_uring_enter);
            if (try_io_uring() != static_cast<int>(error)) std::_Exit(102);
            tell_engine({});
        };
        EXPECT_EXIT(serve(), testing::ExitedWithCode(0), "^epoll$") << error;
    }
    EXPECT_EQ(try_io_uring(), 0);
}

TEST_F(LoopEngineDeathTest, OtherFailuresAreTold) {
    const auto fail = [] {
        refuse_io_uring(EMFILE);
        tell_engine({});
    };
    EXPECT_EXIT(fail(), testing::ExitedWithCode(EMFILE), "io_uring cannot be set up");
}

TEST_F(LoopEngineDeathTest, EnvironmentAsksAndOptionsComeFirst) {
    ask_for("epoll");
    EXPECT_EXIT(tell_engine({}), testing::ExitedWithCode(0), "^epoll$");
    EXPECT_EXIT(tell_engine({.engine = EngineKind::kIoUring}), testing::ExitedWithCode(0), "^io_uring$");
    ask_for("io_uring");
    EXPECT_EXIT(tell_engine({.engine = EngineKind::kEpoll}), testing::ExitedWithCode(0), "^epoll$");
    const auto insist = [] {
        refuse_io_uring(EPERM);
        tell_engine({});
    };
    EXPECT_EXIT(insist(), testing::ExitedWithCode(EPERM), "io_uring is not available");
}

TEST_F(LoopEngineDeathTest, UnknownEngineIsRefused) {
    ask_for("kqueue");
    EXPECT_EXIT(tell_engine({}), testing::ExitedWithCode(EINVAL),
                "FARSWAP_IO_ENGINE=kqueue .* io_uring or epoll");
}

}  // namespace
}  // namespace farswap::io
