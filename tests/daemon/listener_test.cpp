// The socket: its mode, its place, and systemd's.
#include "daemon/listener.h"

#include "daemon_fixture.h"

namespace farswap::daemon {
namespace {

using testing::HasSubstr;

class ListenerTest : public FolderTest {
  protected:
    Options options() const { return {.socket = socket_path(), .group = {}, .users = {}, .print = {}}; }
    struct stat status() const {
        struct stat result {};
        EXPECT_EQ(stat(socket_path().c_str(), &result), 0);
        return result;
    }
};

TEST_F(ListenerTest, TheModeAgreesWithWhoMayAsk) {
    auto some = options();
    some.group = "daemon";
    const auto listener = listen_for_clients(some);
    ASSERT_TRUE(listener) << listener.error().message;
    const auto group = getgrnam("daemon")->gr_gid;
    EXPECT_EQ(status().st_mode & 0777u, 0660u);
    EXPECT_EQ(status().st_gid, group);
    EXPECT_EQ(listener->access.group, group);
    EXPECT_FALSE(listener->access.anybody);
}

TEST_F(ListenerTest, NamedUsersConnectAndAreLookedAt) {
    auto some = options();
    some.users = {kNobody};
    const auto listener = listen_for_clients(some);
    ASSERT_TRUE(listener) << listener.error().message;
    EXPECT_EQ(status().st_mode & 0777u, 0666u);
    EXPECT_FALSE(listener->access.anybody);
}

TEST_F(ListenerTest, WithoutTheGroupItIsRootsAlone) {
    const auto listener = listen_for_clients(options());
    ASSERT_TRUE(listener) << listener.error().message;
    const auto* group = getgrnam("farswap");
    EXPECT_EQ(status().st_mode & 0777u, group != nullptr ? 0660u : 0600u);
    EXPECT_EQ(listener->access.group.has_value(), group != nullptr);
}

TEST_F(ListenerTest, OneThatServesIsNotReplacedAndOneThatIsGoneIs) {
    {
        const auto first = listen_for_clients(options());
        ASSERT_TRUE(first) << first.error().message;
        const auto second = listen_for_clients(options());
        ASSERT_FALSE(second);
        EXPECT_EQ(second.error().code, EADDRINUSE);
    }
    const auto third = listen_for_clients(options());
    EXPECT_TRUE(third) << third.error().message;
}

TEST_F(ListenerTest, ItsOwnSocketsAreRemovedAtTheEnd) {
    {
        const auto listener = listen_for_clients(options());
        const auto shares = listen_for_shares(options(), true);
        ASSERT_TRUE(listener && shares);
    }
    ASSERT_TRUE(std::filesystem::exists(socket_path() + ".budget"));
    remove_own_sockets(options());
    EXPECT_FALSE(std::filesystem::exists(socket_path()));
    EXPECT_FALSE(std::filesystem::exists(socket_path() + ".budget"));
}

TEST_F(ListenerTest, WhatIsNoSocketStays) {
    const Fd file(open(socket_path().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    const auto listener = listen_for_clients(options());
    ASSERT_FALSE(listener);
    EXPECT_THAT(listener.error().message, HasSubstr("no socket"));
    EXPECT_TRUE(std::filesystem::is_regular_file(socket_path()));
}

TEST_F(ListenerTest, WrongPlacesAndGroupsAreNamed) {
    auto some = options();
    some.group = "no-such-group";
    EXPECT_THAT(listen_for_clients(some).error().message, HasSubstr("no-such-group"));
    some = options();
    some.socket = "/no/such/place";
    EXPECT_THAT(listen_for_clients(some).error().message, HasSubstr("/no/such/place"));
    some.socket = std::string(200, 'x');
    EXPECT_THAT(listen_for_clients(some).error().message, HasSubstr("--socket"));
}

/// What systemd does for a service with one socket unit.
int listen_as_a_service(int socket, const Options& options, bool anybody) {
    dup2(socket, 3);
    setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
    setenv("LISTEN_FDS", "1", 1);
    const auto listener = listen_for_clients(options);
    if (!listener) return 1;
    return listener->socket.get() == 3 && listener->access.anybody == anybody ? 0 : 2;
}

TEST_F(ListenerTest, SystemdsSocketIsTaken) {
    const Fd good(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    const Fd bad(socket(AF_UNIX, SOCK_STREAM, 0));
    auto some = options();
    EXPECT_EQ(Child([&] { return listen_as_a_service(good.get(), some, true); }).status(), 0);
    EXPECT_EQ(Child([&] { return listen_as_a_service(bad.get(), some, true); }).status(), 1);
    some.users = {kNobody};
    EXPECT_EQ(Child([&] { return listen_as_a_service(good.get(), some, false); }).status(), 0);
    EXPECT_FALSE(std::filesystem::exists(socket_path()));
    const Fd there(open(socket_path().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    EXPECT_EQ(Child([&] {
                  const int listened = listen_as_a_service(good.get(), some, false);
                  remove_own_sockets(some);
                  return listened;
              }).status(),
              0);
    EXPECT_TRUE(std::filesystem::exists(socket_path()));
}

/// The one for the budget is told from the other by its path, whichever comes first.
TEST_F(ListenerTest, SystemdsSocketForTheBudgetIsTaken) {
    const auto bound = [&](const std::string& at) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        at.copy(address.sun_path, sizeof address.sun_path - 1);
        Fd fd(socket(AF_UNIX, SOCK_SEQPACKET, 0));
        EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        return fd;
    };
    const Fd helper = bound(socket_path()), budget = bound(socket_path() + ".budget");
    const auto take = [&](int first, int second) {
        return Child([&] {
                   const int one = fcntl(first, F_DUPFD, 100), two = fcntl(second, F_DUPFD, 100);
                   dup2(one, 3);
                   dup2(two, 4);
                   setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
                   setenv("LISTEN_FDS", "2", 1);
                   const auto listener = listen_for_clients(options());
                   const auto shares = listen_for_shares(options(), false);
                   if (!listener || !shares) return 99;
                   return listener->socket.get() * 10 + shares->get();
               })
            .status();
    };
    EXPECT_EQ(take(helper.get(), budget.get()), 34);
    EXPECT_EQ(take(budget.get(), helper.get()), 43);
    EXPECT_EQ(take(budget.get(), budget.get()), 99);
}

TEST_F(ListenerTest, ItsOwnSocketForTheBudgetIsOpenToAllAndMadeOnlyIfWanted) {
    EXPECT_FALSE(*listen_for_shares(options(), false));
    const auto shares = listen_for_shares(options(), true);
    ASSERT_TRUE(shares && *shares);
    struct stat status {};
    ASSERT_EQ(stat((socket_path() + ".budget").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0666u);
}

}  // namespace
}  // namespace farswap::daemon
