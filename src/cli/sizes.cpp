// Parses and formats sizes; see sizes.h.
#include "cli/sizes.h"

#include <array>
#include <charconv>
#include <cmath>
#include <optional>

namespace farswap::cli {

namespace {

constexpr std::uint64_t kMiB = 1ull << 20;

struct Number {
    double value = 0;
    std::string_view suffix;
};

/// The leading decimal number. Nothing for signs, exponents, "inf" and the like, which from_chars would take.
std::optional<Number> leading_number(std::string_view text) {
    const auto length = std::min(text.find_first_not_of("0123456789."), text.size());
    Number number;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + length, number.value, std::chars_format::fixed);
    if (length == 0 || error != std::errc() || end != text.data() + length) return std::nullopt;
    number.suffix = text.substr(length);
    return number;
}

/// The power of 1024 that a suffix stands for, or nothing.
std::optional<int> suffix_power(std::string_view suffix) {
    if (suffix.empty()) return 0;
    constexpr std::string_view kUnits = "KMGT";
    const auto unit = kUnits.find(static_cast<char>(suffix[0] & ~0x20));  // upper case
    if (unit == std::string_view::npos) return std::nullopt;
    const auto rest = suffix.substr(1);
    if (!rest.empty() && rest != "B" && rest != "b" && rest != "iB" && rest != "ib" && rest != "IB")
        return std::nullopt;
    return static_cast<int>(unit) + 1;
}

std::optional<std::uint64_t> bytes_of(std::string_view text) {
    const auto number = leading_number(text);
    if (!number) return std::nullopt;
    const auto power = suffix_power(number->suffix);
    if (!power) return std::nullopt;
    const double bytes = std::ldexp(number->value, 10 * *power);
    if (!(bytes < 0x1p63)) return std::nullopt;
    return static_cast<std::uint64_t>(bytes);
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
    if (const auto bytes = bytes_of(text)) return *bytes;
    return fail(EINVAL, "{} {}: not a size; write a number with K, M, G or T (512M)", option, text);
}

Result<RamSize> parse_ram_size(std::string_view option, std::string_view text) {
    if (text.ends_with('%')) {
        const auto number = leading_number(text);
        if (number && number->suffix == "%" && number->value > 0 && number->value <= 100)
            return RamSize{.percent = number->value};
        return fail(EINVAL, "{} {}: a percentage is above 0 and at most 100 (25%)", option, text);
    }
    if (const auto bytes = bytes_of(text); bytes && *bytes > 0) return RamSize{.bytes = *bytes};
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

}  // namespace farswap::cli
