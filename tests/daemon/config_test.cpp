// farswapd.toml: what it may say, and that each mistake is named with its place.
#include "daemon/config.h"
#include "base/units.h"

#include <gmock/gmock.h>

namespace farswap::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

Result<Config> parse(std::string_view text) {
    return parse_config(text, "f.toml",
                        {.ram = 16 * kGiB,
                         .user = [](const std::string& name) -> std::optional<uid_t> {
                             return name == "sim" ? std::optional<uid_t>(1000) : std::nullopt;
                         },
                         .group = [](const std::string& name) -> std::optional<gid_t> {
                             return name == "students" ? std::optional<gid_t>(500) : std::nullopt;
                         }});
}

std::string error_of(std::string_view text) {
    const auto config = parse(text);
    return config ? "no error" : config.error().message;
}

TEST(DaemonConfig, NothingIsNoBudget) {
    const auto config = parse("# [machine]\n# ram = \"75%\"\n");
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->ram, 0u);
}

TEST(DaemonConfig, AllOfItIsTaken) {
    const auto config = parse(R"(
[machine]
ram = "12G"
jobs-max = 20
others = "refuse"

[defaults]
swap = ["nfs://nas/export/swap", "file:/scratch?size=2G"]
ram = "2G"
ram-least = "100M"
compress = "zstd"
on-full = "wait"

[[user]]
name = "sim"
ram-max = "8G"
jobs-max = 3
weight = 4
stores = ["nfs://nas/export"]

[[user]]
id = 1001
allow = false

[[group]]
name = "students"
ram-max = "1G"
)");
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->ram, 12 * kGiB);
    EXPECT_EQ(config->jobs_max, 20u);
    EXPECT_FALSE(config->others.is_allowed);
    EXPECT_THAT(config->defaults.swap, ElementsAre("nfs://nas/export/swap", "file:/scratch?size=2G"));
    EXPECT_EQ(config->defaults.ram_max, 2 * kGiB);
    EXPECT_EQ(config->defaults.ram_least, 100 * kMiB);
    EXPECT_EQ(config->defaults.compress, "zstd");
    EXPECT_EQ(config->defaults.on_full, "wait");
    const auto sim = rule_for(*config, {.user = 1000});
    EXPECT_TRUE(sim.is_allowed);
    EXPECT_EQ(sim.ram_max, 8 * kGiB);
    EXPECT_EQ(sim.jobs_max, 3u);
    EXPECT_EQ(sim.weight, 4u);
    EXPECT_THAT(sim.stores, ElementsAre("nfs://nas/export"));
    EXPECT_FALSE(rule_for(*config, {.user = 1001, .group = 500}).is_allowed) << "the user's own entry holds";
    EXPECT_EQ(rule_for(*config, {.user = 1002, .group = 500}).ram_max, kGiB);
    EXPECT_EQ(rule_for(*config, {.user = 1002, .group = 7, .groups = {8, 500}}).ram_max, kGiB);
    EXPECT_FALSE(rule_for(*config, {.user = 1002, .group = 7}).is_allowed);
    EXPECT_TRUE(rule_for(*config, {.user = 0}).is_allowed) << "root may always";
}

TEST(DaemonConfig, APercentageIsOfTheMachine) {
    EXPECT_EQ(parse("[machine]\nram = \"75%\"\n")->ram, 12 * kGiB);
    EXPECT_EQ(parse("[machine]\nram = \"12.5%\"\n")->ram, 2 * kGiB);
}

struct Mistake {
    std::string_view text, place, words;
};

class DaemonConfigMistake : public testing::TestWithParam<Mistake> {};

TEST_P(DaemonConfigMistake, IsNamedWithItsPlace) {
    const auto error = error_of(GetParam().text);
    EXPECT_THAT(error, StartsWith(fmt::format("f.toml:{}: ", GetParam().place)));
    EXPECT_THAT(error, HasSubstr(std::string(GetParam().words)));
    EXPECT_EQ(error.find('\n'), std::string::npos);
}

#define MACHINE "[machine]\nram = \"8G\"\n"
INSTANTIATE_TEST_SUITE_P(
    All, DaemonConfigMistake,
    testing::Values(Mistake{"[machine\n", "1:9", "no TOML"}, Mistake{"x = 1\n", "1:1", "has no 'x'"},
                    Mistake{"[machine]\nrum = \"8G\"\n", "2:1", "it has ram, jobs-max, others"},
                    Mistake{"[machine]\nram = 8\n", "2:7", "a size in quotes"},
                    Mistake{"[machine]\nram = \"8 gigs\"\n", "2:7", "a size in quotes"},
                    Mistake{"[machine]\nram = \"1M\"\n", "2:7", "too small"},
                    Mistake{"[machine]\nram = \"0%\"\n", "2:7", "above 0"},
                    Mistake{"[machine]\nram = \"101%\"\n", "2:7", "at most 100"},
                    Mistake{"[machine]\nram = \"x%\"\n", "2:7", "percentage"},
                    Mistake{"[machine]\nram = \"0.001%\"\n", "2:7", "too small"},
                    Mistake{"[machine]\njobs-max = 2\n", "1:1", "needs ram"},
                    Mistake{"machine = 3\n", "1:11", "[machine]"},
                    Mistake{MACHINE "jobs-max = 0\n", "3:12", "from 1 to 128"},
                    Mistake{MACHINE "jobs-max = 1.5\n", "3:12", "whole number"},
                    Mistake{MACHINE "others = \"maybe\"\n", "3:10", "\"allow\" or \"refuse\""},
                    Mistake{"[defaults]\nram = \"1G\"\n", "1:2", "nothing to share"},
                    Mistake{MACHINE "[defaults]\nswap = \"file:/x\"\n", "4:8", "[\"URL\""},
                    Mistake{MACHINE "[defaults]\nswap = [\"/x\"]\n", "4:9", "store's URL"},
                    Mistake{MACHINE "[defaults]\nswap = [\"file:/x\\n\"]\n", "4:9", "store's URL"},
                    Mistake{MACHINE "[defaults]\ncompress = \"gzip\"\n", "4:12", "\"lz4\" or \"zstd\""},
                    Mistake{MACHINE "[defaults]\nram-least = \"9G\"\n", "3:2", "ram-least"},
                    Mistake{MACHINE "[user]\nname = \"sim\"\n", "3:1", "[[user]]"},
                    Mistake{MACHINE "[[user]]\nweight = 2\n", "3:1", "needs name"},
                    Mistake{MACHINE "[[user]]\nname = \"off\"\n", "4:8", "no user 'off'"},
                    Mistake{MACHINE "[[user]]\nid = -1\n", "4:6", "number"},
                    Mistake{MACHINE "[[user]]\nid = 1\nname = \"sim\"\n", "5:1", "not both"},
                    Mistake{MACHINE "[[user]]\nid = 1\nallow = \"yes\"\n", "5:9", "true or false"},
                    Mistake{MACHINE "[[user]]\nid = 1\nfoo = 1\n", "5:1", "has no 'foo'"},
                    Mistake{MACHINE "[[user]]\nid = 1000\n[[user]]\nname = \"sim\"\n", "5:1", "a second"},
                    Mistake{MACHINE "[[group]]\nname = \"sim\"\n", "4:8", "no group 'sim'"}));
#undef MACHINE

TEST(DaemonConfig, AFileThatIsNotThereIsNamed) {
    const auto config = read_config("/nowhere/f.toml", surroundings());
    ASSERT_FALSE(config);
    EXPECT_EQ(config.error().message, "/nowhere/f.toml: No such file or directory");
}

}  // namespace
}  // namespace farswap::daemon
