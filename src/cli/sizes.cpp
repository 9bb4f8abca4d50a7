// Parses and formats sizes; see sizes.h.
#include "cli/sizes.h"

#include <array>
#include <charconv>
#include <optional>

#include "base/units.h"
#include "store/url.h"

namespace farswap::cli {

namespace {

/// The number before a '%'. Nothing for what is not above 0 and at most 100.
std::optional<double> percentage_of(std::string_view text) {
    text.remove_suffix(1);
    double value = 0;
    const auto* const end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, value, std::chars_format::fixed);
    if (result.ec != std::errc() || result.ptr != end || !(value > 0 && value <= 100)) return std::nullopt;
    return value;
}

std::string with_unit(double value, double step, const std::array<const char*, 5>& units) {
    std::size_t unit = 0;
    // 999.5 and more would print as 1000: the next unit reads better.
    while (unit + 1 < units.size() && value >= step - 0.5) {
        value /= step;
        ++unit;
    }
    if (unit > 0 && value < 9.95) return fmt::format("{:.1f} {}", value, units[unit]);
    return fmt::format("{:.0f}{}{}", value, *units[unit] != '\0' ? " " : "", units[unit]);
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view option, std::string_view text) {
    if (const auto bytes = farswap::parse_size(text)) return *bytes;
    return fail(EINVAL, "{} {}: not a size; write a number with K, M, G or T (512M)", option, text);
}

Result<RamSize> parse_ram_size(std::string_view option, std::string_view text) {
    if (text.ends_with('%')) {
        if (const auto percent = percentage_of(text)) return RamSize{.percent = *percent};
        return fail(EINVAL, "{} {}: a percentage is above 0 and at most 100 (25%)", option, text);
    }
    if (const auto bytes = farswap::parse_size(text)) return RamSize{.bytes = *bytes};
    return fail(EINVAL, "{} {}: not a size; write a number with K, M, G or T (512M) or a percentage (25%)",
                option, text);
}

std::uint64_t resolve(const RamSize& size, std::uint64_t whole) noexcept {
    if (size.percent == 0) return size.bytes;
    return static_cast<std::uint64_t>(static_cast<double>(whole) * (size.percent / 100));
}

std::string format_size(std::uint64_t bytes) {
    return with_unit(static_cast<double>(bytes), 1024, {"B", "KiB", "MiB", "GiB", "TiB"});
}

std::string format_size_argument(std::uint64_t bytes) {
    return fmt::format("{}M", (bytes + kMiB - 1) / kMiB);
}

std::string format_count(double count) {
    return with_unit(count, 1000, {"", "k", "M", "G", "T"});
}

std::string format_rate(double bytes_per_s) {
    return with_unit(bytes_per_s, 1000, {"B", "kB", "MB", "GB", "TB"}) + "/s";
}

std::string format_latency(double microseconds) {
    const auto text = [](double value, const char* unit) {
        return fmt::format("{:.{}f} {}", value, value < 9.95 ? 1 : 0, unit);
    };
    if (microseconds < 999.5) return fmt::format("{:.0f} us", microseconds);
    if (microseconds < 999.5e3) return text(microseconds / 1e3, "ms");
    return text(microseconds / 1e6, "s");
}

}  // namespace farswap::cli
