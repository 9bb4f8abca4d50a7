// URLs and sizes: what is taken, and that what is refused is named.
#include "store/url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace farswap {
namespace {

using ::testing::HasSubstr;

TEST(ParseUrl, NfsInFull) {
    const auto url = parse_url("nfs://nas.example:/export/swap");
    EXPECT_FALSE(url) << "a port is not taken";
    const auto full = parse_url("nfs://nas/export/swap?version=3&size=8G&uid=1000");
    ASSERT_TRUE(full) << full.error().message;
    EXPECT_EQ(full->scheme, "nfs");
    EXPECT_EQ(full->host, "nas");
    EXPECT_EQ(full->path, "/export/swap");
    EXPECT_EQ(full->parameter("version"), "3");
    EXPECT_EQ(full->parameter("gid"), std::nullopt);
    EXPECT_EQ(*full->size(1), 8ull << 30);
    EXPECT_EQ(*full->number("uid", 0, 0, 65535), 1000u);
    EXPECT_EQ(*full->number("gid", 7, 0, 65535), 7u);
}

TEST(ParseUrl, FileForms) {
    for (const char* text :
         {"file:/var/tmp", "file:///var/tmp", "file://localhost/var/tmp", "FILE:/var/tmp"}) {
        const auto url = parse_url(text);
        ASSERT_TRUE(url) << url.error().message;
        EXPECT_EQ(url->scheme, "file");
        EXPECT_EQ(url->path, "/var/tmp") << text;
        EXPECT_EQ(url->host, "");
    }
    EXPECT_EQ(parse_url("file:swap")->path, "swap");
    EXPECT_EQ(parse_url("file:/a%3Fb%25c")->path, "/a?b%c");
    EXPECT_EQ(parse_url("nfs://[fd00::1]/export")->host, "fd00::1");
}

TEST(ParseUrl, NbdForms) {
    const auto tcp = parse_url("nbd://nas:10810/swap?size=1G");
    ASSERT_TRUE(tcp) << tcp.error().message;
    EXPECT_EQ(tcp->host, "nas");
    EXPECT_EQ(tcp->port, 10810);
    EXPECT_EQ(tcp->path, "/swap");
    EXPECT_EQ(parse_url("nbd://[fd00::1]:99/")->host, "fd00::1");
    EXPECT_EQ(parse_url("nbd://[fd00::1]")->port, 0);
    const auto local = parse_url("nbd+unix:///swap?socket=/run/nbd%3Fsock");
    ASSERT_TRUE(local) << local.error().message;
    EXPECT_EQ(local->host, "");
    EXPECT_EQ(local->path, "/swap");
    EXPECT_EQ(local->parameter("socket"), "/run/nbd?sock");
    for (const char* text : {"nbd:export", "nbd:///export", "nbd://nas:0/a", "nbd://nas:65536/a",
                             "nbd://nas:x/a", "nbd://u@nas/a", "nbd+unix://nas/a?socket=/s"})
        EXPECT_FALSE(parse_url(text)) << text;
}

TEST(ParseUrl, RefusesWithOneLine) {
    for (const char* text :
         {"", "file", "file:", "file:?size=1G", "nfs:/export", "nfs:///export", "nfs://nas", "nfs://nas/",
          "://", "n fs://a/b", "nfs://user:secret@nas/export", "nfs://nas:2049/export", "file://nas/path",
          "file:/a%zz", "file:/a%0", "file:/a%00", "file:/a?size", "file:/a?=3", "file:/a?size=1G&"}) {
        const auto url = parse_url(text);
        ASSERT_FALSE(url) << text;
        EXPECT_EQ(url.error().code, EINVAL);
        EXPECT_EQ(url.error().message.find('\n'), std::string::npos);
        EXPECT_THAT(url.error().message, HasSubstr(text));
    }
}

TEST(ParseUrl, ParametersAreCheckedByName) {
    const auto url = parse_url("file:/a?sise=1G");
    ASSERT_TRUE(url);
    const Status known = url->allow_only({"size"});
    ASSERT_FALSE(known);
    EXPECT_THAT(known.error().message, HasSubstr("sise"));
    EXPECT_FALSE(parse_url("file:/a?size=1G&size=2G")->allow_only({"size"}));
    EXPECT_TRUE(parse_url("file:/a?size=1G")->allow_only({"size"}));
    EXPECT_FALSE(parse_url("file:/a?size=12Q")->size(0));
    EXPECT_FALSE(parse_url("file:/a?size=4k")->size(0)) << "smaller than any store";
    EXPECT_FALSE(parse_url("nfs://a/b?uid=x")->number("uid", 0, 0, 10));
    EXPECT_FALSE(parse_url("nfs://a/b?uid=-1")->number("uid", 0, 0, 10));
    EXPECT_FALSE(parse_url("nfs://a/b?uid=11")->number("uid", 0, 0, 10));
}

TEST(ParseSize, UnitsArePowersOf1024) {
    EXPECT_EQ(*parse_size("4096"), 4096u);
    EXPECT_EQ(*parse_size("100B"), 100u);
    EXPECT_EQ(*parse_size("4k"), 4096u);
    EXPECT_EQ(*parse_size("512M"), 512ull << 20);
    EXPECT_EQ(*parse_size("1.5G"), 3ull << 29);
    EXPECT_EQ(*parse_size("2GiB"), 2ull << 30);
    EXPECT_EQ(*parse_size("2GB"), 2ull << 30);
    EXPECT_EQ(*parse_size("1T"), 1ull << 40);
}

TEST(ParseSize, RefusesWhatIsNone) {
    for (const char* text : {"", "G", "-1G", "0", "1X", "1GG", "1 G", " 1G", "1e3", "nan", "inf", "0x10",
                             "1GiBs", "1BB", "99999999999T", "0.1"})
        EXPECT_FALSE(parse_size(text)) << text;
}

TEST(FormatSize, ReadsWell) {
    EXPECT_EQ(format_size(512), "512 bytes");
    EXPECT_EQ(format_size(1 << 20), "1 MiB");
    EXPECT_EQ(format_size(3ull << 29), "1.5 GiB");
}

}  // namespace
}  // namespace farswap
