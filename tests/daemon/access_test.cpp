// Who may ask.
#include "daemon/access.h"

#include <numeric>

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

/// Who is seen at a connection that a child with these groups has made.
Result<Peer> peer_with(const std::vector<gid_t>& groups) {
    Pair theirs;
    Child child([&] {
        if (setgroups(groups.size(), groups.data()) != 0 || setresgid(7, 7, 7) != 0 ||
            setresuid(kNobody, kNobody, kNobody) != 0)
            return 1;
        const Pair pair;
        return send_message(theirs.client.get(), "x", 1, pair.server.get());
    });
    EXPECT_EQ(child.status(), 0);
    char byte = 0;
    const auto received = receive_message(theirs.server.get(), &byte, 1);
    return peer_of(received.descriptor.get());
}

TEST(PeerTest, IsWhoConnected) {
    const Pair ours;
    const auto here = peer_of(ours.server.get());
    ASSERT_TRUE(here) << here.error().message;
    EXPECT_EQ(here->user, geteuid());
    EXPECT_EQ(here->process, getpid());

    for (const std::size_t count : {0u, 3u, 300u}) {
        std::vector<gid_t> groups(count);
        std::iota(groups.begin(), groups.end(), 41);
        const auto peer = peer_with(groups);
        ASSERT_TRUE(peer) << peer.error().message;
        EXPECT_EQ(peer->user, kNobody);
        EXPECT_EQ(peer->group, 7u);
        EXPECT_EQ(peer->groups, groups);
    }
}

}  // namespace
}  // namespace farswap::daemon
