// Who may ask.
#include "daemon/access.h"

#include "daemon_fixture.h"

namespace farswap::daemon {
namespace {

const Peer kRoot{.process = 1, .user = 0, .group = 0, .groups = {}};
const Peer kUser{.process = 2, .user = 1000, .group = 1000, .groups = {4, 27}};

TEST(Access, RootAloneWithoutAnyOption) {
    EXPECT_TRUE(may_ask({}, kRoot));
    EXPECT_FALSE(may_ask({}, kUser));
}

TEST(Access, AGroupOrAUserOrAnybody) {
    EXPECT_TRUE(may_ask({.anybody = false, .group = 27, .users = {}}, kUser));
    EXPECT_TRUE(may_ask({.anybody = false, .group = 1000, .users = {}}, kUser));
    EXPECT_FALSE(may_ask({.anybody = false, .group = 28, .users = {}}, kUser));
    EXPECT_TRUE(may_ask({.anybody = false, .group = {}, .users = {1000}}, kUser));
    EXPECT_FALSE(may_ask({.anybody = false, .group = {}, .users = {1001}}, kUser));
    EXPECT_TRUE(may_ask({.anybody = true, .group = {}, .users = {}}, kUser));
}

class AccessTest : public FolderTest {};

TEST_F(AccessTest, ThePeerIsWhoConnected) {
    const Pair ours;
    const auto here = peer_of(ours.server.get());
    ASSERT_TRUE(here) << here.error().message;
    EXPECT_EQ(here->user, geteuid());
    EXPECT_EQ(here->process, getpid());

    Pair theirs;
    Child child([&] {
        const gid_t groups[] = {41, 42, 43};
        if (setgroups(3, groups) != 0 || setresgid(7, 7, 7) != 0 || setresuid(kNobody, kNobody, kNobody) != 0)
            return 1;
        const Pair pair;
        return send_message(theirs.client.get(), "x", 1, pair.server.get());
    });
    ASSERT_EQ(child.status(), 0);
    char byte = 0;
    const auto received = receive_message(theirs.server.get(), &byte, 1);
    const auto peer = peer_of(received.descriptor.get());
    ASSERT_TRUE(peer) << peer.error().message;
    EXPECT_EQ(peer->user, kNobody);
    EXPECT_EQ(peer->group, 7u);
    EXPECT_THAT(peer->groups, testing::ElementsAre(41, 42, 43));
}

}  // namespace
}  // namespace farswap::daemon
