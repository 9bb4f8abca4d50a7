// See size_text.h.
#include "base/size_text.h"

#include <cctype>
#include <charconv>

namespace farswap {
namespace {

constexpr std::uint64_t kSizeMax = std::uint64_t{1} << 62;

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
    const auto bad = [&] { return fail(EINVAL, "'{}' is no size: write bytes, or 512M, 1.5G, 2T", text); };
    double value = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
    if (error != std::errc{} || !(value > 0)) return bad();
    std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    unsigned shift = 0;
    if (!unit.empty()) {
        constexpr std::string_view kUnits = "BKMGT";
        const std::size_t place =
            kUnits.find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit.front()))));
        if (place == std::string_view::npos) return bad();
        const std::string_view tail = unit.substr(1);
        if (!tail.empty() && (place == 0 || (tail != "B" && tail != "iB"))) return bad();
        shift = static_cast<unsigned>(10 * place);
    }
    const double bytes = value * static_cast<double>(std::uint64_t{1} << shift);
    if (bytes < 1 || bytes > static_cast<double>(kSizeMax)) return bad();
    return static_cast<std::uint64_t>(bytes);
}

std::string format_size(std::uint64_t bytes) {
    constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    std::size_t unit = 0;
    auto value = static_cast<double>(bytes);
    for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
    const bool whole = value == static_cast<double>(static_cast<std::uint64_t>(value));
    return whole ? fmt::format("{:.0f} {}", value, kUnits[unit])
                 : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace farswap
