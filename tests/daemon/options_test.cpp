// The command line of farswapd.
#include "daemon/options.h"

#include <gmock/gmock.h>

namespace farswap::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<Options> parse(std::vector<const char*> words) {
    return parse_options(words);
}

TEST(DaemonOptions, AreTaken) {
    const auto nothing = parse({});
    ASSERT_TRUE(nothing);
    EXPECT_EQ(nothing->socket, "/run/farswapd.sock");
    EXPECT_FALSE(nothing->group);
    const auto all = parse({"--socket", "/x", "--group", "g", "--allow-uid", "1", "--allow-uid", "2"});
    ASSERT_TRUE(all);
    EXPECT_EQ(all->socket, "/x");
    EXPECT_EQ(all->group, "g");
    EXPECT_THAT(all->users, ElementsAre(1, 2));
    EXPECT_THAT(parse({"--help"})->print, HasSubstr("--allow-uid"));
    EXPECT_THAT(parse({"--version"})->print, HasSubstr("farswapd 0."));
}

TEST(DaemonOptions, WrongOnesAreNamed) {
    EXPECT_THAT(parse({"--frobnicate"}).error().message, HasSubstr("--frobnicate"));
    EXPECT_THAT(parse({"--socket"}).error().message, HasSubstr("--socket needs a value"));
    for (const char* user : {"", "sim", "-1", "12x", "99999999999"})
        EXPECT_THAT(parse({"--allow-uid", user}).error().message, HasSubstr("number"));
}

}  // namespace
}  // namespace farswap::daemon
