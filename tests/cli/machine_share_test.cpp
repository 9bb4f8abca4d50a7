// What the machine's defaults do to a command line. How shares are asked for is tested in daemon/ and e2e/.
#include "cli/machine_share.h"

#include <gmock/gmock.h>

namespace farswap::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(MachineDefaults, AreLinesOfKeysAndValues) {
    const auto defaults = parse_defaults(
        "swap file:/a\nswap nfs://b/c\nstore file:/\nnew thing\ncompress zstd\non-full wait\n");
    EXPECT_THAT(defaults.swap, ElementsAre("file:/a", "nfs://b/c"));
    EXPECT_THAT(defaults.stores, ElementsAre("file:/"));
    EXPECT_EQ(defaults.compress, "zstd");
    EXPECT_EQ(defaults.on_full, "wait");
    EXPECT_THAT(parse_defaults("").swap, IsEmpty());
    EXPECT_THAT(parse_defaults("swap").swap, IsEmpty());
}

TEST(MachineDefaults, HoldWhereTheCommandLineIsSilent) {
    RunOptions options;
    ASSERT_TRUE(
        take_defaults(options, {.swap = {"file:/a"}, .stores = {}, .compress = "zstd", .on_full = "wait"}));
    EXPECT_THAT(options.swap, ElementsAre("file:/a"));
    EXPECT_EQ(options.compression, Compression::kZstd);
    EXPECT_TRUE(options.wait_when_full);
    RunOptions said;
    said.swap = {"file:/mine"};
    said.compression_given = said.when_full_given = true;
    ASSERT_TRUE(
        take_defaults(said, {.swap = {"file:/a"}, .stores = {}, .compress = "zstd", .on_full = "wait"}));
    EXPECT_THAT(said.swap, ElementsAre("file:/mine"));
    EXPECT_EQ(said.compression, Compression::kLz4);
    EXPECT_FALSE(said.when_full_given && said.wait_when_full);
}

TEST(MachineDefaults, OtherStoresAreRefused) {
    const MachineDefaults defaults{
        .swap = {}, .stores = {"nfs://nas/export", "file:/scratch/"}, .compress = "", .on_full = ""};
    const auto verdict = [&](const char* url) {
        RunOptions options;
        options.swap = {url};
        return take_defaults(options, defaults).has_value();
    };
    EXPECT_TRUE(verdict("nfs://nas/export"));
    EXPECT_TRUE(verdict("nfs://nas/export/swap"));
    EXPECT_TRUE(verdict("nfs://nas/export?size=1G"));
    EXPECT_TRUE(verdict("file:/scratch/x"));
    EXPECT_TRUE(verdict("none"));
    EXPECT_FALSE(verdict("nfs://nas/exported"));
    EXPECT_FALSE(verdict("file:/scratch"));
    EXPECT_FALSE(verdict("file:/var/tmp"));
    RunOptions none;
    const auto refused = take_defaults(none, defaults);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("begins with nfs://nas/export or file:/scratch/"));
}

}  // namespace
}  // namespace farswap::cli
