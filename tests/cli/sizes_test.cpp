// Sizes on the command line and in messages.
#include "cli/sizes.h"
#include "base/units.h"

#include <gtest/gtest.h>

namespace farswap::cli {
namespace {

TEST(ParseSize, TakesSuffixesOfEitherCase) {
    EXPECT_EQ(parse_size("--pool", "4096").value(), 4096u);
    EXPECT_EQ(parse_size("--pool", "4k").value(), 4096u);
    EXPECT_EQ(parse_size("--pool", "512M").value(), 512 * kMiB);
    EXPECT_EQ(parse_size("--pool", "512MB").value(), 512 * kMiB);
    EXPECT_EQ(parse_size("--pool", "1.5GiB").value(), kGiB * 3 / 2);
    EXPECT_EQ(parse_size("--pool", "2T").value(), 2048 * kGiB);
    EXPECT_EQ(parse_size("--pool", ".5g").value(), kGiB / 2);
}

TEST(ParseSize, RefusesWhatIsNoSize) {
    for (const char* text : {"", "12Q", "M", "-1M", "+1M", "1e3", "inf", "nan", "0x10", "1.2.3M", "1 M",
                             " 1M", "1MM", "1Mi", "9999999999T", "25%", "."})
        EXPECT_EQ(parse_size("--pool", text).error().code, EINVAL) << text;
}

TEST(ParseRamSize, TakesPercentages) {
    EXPECT_EQ(resolve(parse_ram_size("--ram", "25%").value(), 400), 100u);
    EXPECT_EQ(resolve(parse_ram_size("--ram", "12.5%").value(), 800), 100u);
    EXPECT_EQ(resolve(parse_ram_size("--ram", "100%").value(), 24 * kGiB), 24 * kGiB);
    EXPECT_EQ(resolve(parse_ram_size("--ram", "2G").value(), 400), 2 * kGiB);
}

TEST(ParseRamSize, RefusesWithAnExample) {
    EXPECT_EQ(parse_ram_size("--ram", "12Q").error().message,
              "--ram 12Q: not a size; write a number with K, M, G or T (512M) or a percentage (25%)");
    for (const char* text : {"0%", "101%", "-5%", "%", "5%%", "5M%"})
        EXPECT_EQ(parse_ram_size("--ram", text).error().message,
                  std::string("--ram ") + text + ": a percentage is above 0 and at most 100 (25%)");
    EXPECT_FALSE(parse_ram_size("--ram", "0"));
}

TEST(FormatSize, HasOneDecimalBelowTen) {
    EXPECT_EQ(format_size(0), "0 B");
    EXPECT_EQ(format_size(1023), "1023 B");
    EXPECT_EQ(format_size(1024), "1.0 KiB");
    EXPECT_EQ(format_size(251 * kMiB), "251 MiB");
    EXPECT_EQ(format_size(kGiB + kGiB / 5), "1.2 GiB");
    EXPECT_EQ(format_size(kGiB - 1), "1.0 GiB") << "not 1024 MiB";
    EXPECT_EQ(format_size(10 * kGiB - 1), "10 GiB") << "not 10.0";
    EXPECT_EQ(format_size(~0ull), "16777216 TiB");
}

TEST(FormatSize, ArgumentIsRoundedUpAndParses) {
    EXPECT_EQ(format_size_argument(20 * kMiB), "20M");
    EXPECT_EQ(format_size_argument(20 * kMiB + 1), "21M");
    EXPECT_EQ(parse_size("--ram", format_size_argument(20 * kMiB + 1)).value(), 21 * kMiB);
}

TEST(FormatCount, AndRate) {
    EXPECT_EQ(format_count(0), "0");
    EXPECT_EQ(format_count(999), "999");
    EXPECT_EQ(format_count(1234), "1.2 k");
    EXPECT_EQ(format_count(12345), "12 k");
    EXPECT_EQ(format_count(3.4e6), "3.4 M");
    EXPECT_EQ(format_rate(312e6), "312 MB/s");
    EXPECT_EQ(format_rate(0), "0 B/s");
}

}  // namespace
}  // namespace farswap::cli
