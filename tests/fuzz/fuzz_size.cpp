// Sizes from the command line and from ?size=: what is accepted lies within the limits and survives being
// printed.
#include "base/units.h"
#include "cli/sizes.h"
#include "fuzz.h"
#include "store/url.h"

namespace farswap::cli {
namespace {

constexpr std::uint64_t kSizeMax = std::uint64_t{1} << 62;

void use(std::uint64_t bytes) {
    PROMISE(bytes >= 1 && bytes <= kSizeMax);
    PROMISE(!farswap::format_size(bytes).empty() && !format_size(bytes).empty());
    // A least size that is printed is enough when it is typed in.
    const auto again = farswap::parse_size(format_size_argument(bytes));
    PROMISE(again);
    PROMISE(*again >= bytes && *again - bytes < kMiB);
}

}  // namespace
}  // namespace farswap::cli

using namespace farswap::cli;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text = farswap::fuzz::text_of(data, size);
    const auto bytes = farswap::parse_size(text);
    if (bytes) use(*bytes);
    PROMISE(bytes.has_value() == parse_size("--pool", text).has_value());

    const auto ram = parse_ram_size("--ram", text);
    PROMISE(!bytes || (ram && ram->bytes == *bytes && ram->percent == 0));
    if (ram && ram->percent != 0) {
        PROMISE(text.ends_with('%') && ram->bytes == 0 && ram->percent > 0 && ram->percent <= 100);
        for (const std::uint64_t whole :
             {std::uint64_t{0}, farswap::kMiB, farswap::kMiB * 16384 + 1, kSizeMax})
            PROMISE(resolve(*ram, whole) <= whole);
    }
    return 0;
}
