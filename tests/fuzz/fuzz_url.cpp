// Store URLs from the command line: what is accepted has the shape that the stores rely on, and can be
// written down again.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string>

#include "fuzz.h"
#include "store/url.h"

namespace farswap {
namespace {

std::string encode(std::string_view text) {
    std::string encoded;
    for (const unsigned char c : text) encoded += fmt::format("%{:02x}", c);
    return encoded;
}

/// The same URL in other words: every byte of path and values as %XX.
std::string write_down(const Url& url) {
    const bool ip6 = url.host.find(':') != std::string::npos;
    std::string text = url.scheme + ":";
    const bool socket = url.scheme.ends_with("+unix");
    if (!url.host.empty()) text += "//" + (ip6 ? "[" + url.host + "]" : url.host);
    if (url.port != 0) text += ":" + std::to_string(url.port);
    if (socket) text += "//";
    if ((!url.host.empty() || socket) && !url.path.empty()) text += "/";
    text += encode(url.host.empty() && !socket ? url.path : url.path.substr(url.path.empty() ? 0 : 1));
    char mark = '?';
    for (const auto& [name, value] : url.parameters) {
        text += mark + name + "=" + encode(value);
        mark = '&';
    }
    return text;
}

void use(const Url& url) {
    const bool nbd = url.scheme.starts_with("nbd");
    PROMISE(!url.scheme.empty() && (nbd || !url.path.empty()));
    PROMISE(std::ranges::none_of(url.scheme, [](unsigned char c) { return std::isupper(c) != 0; }));
    PROMISE(url.path.find('\0') == std::string::npos);
    PROMISE((url.scheme == "file" || url.scheme == "plugin" || url.scheme == "nbd+unix" ||
             url.scheme == "nbds+unix") == url.host.empty());
    PROMISE(url.host.empty() || (nbd && url.path.empty()) || url.path.starts_with('/'));
    for (const auto& [name, value] : url.parameters)
        PROMISE(!name.empty() && value.find('\0') == std::string::npos);

    if (const auto number = url.number("port", 7, 1, 65535)) PROMISE(*number >= 1 && *number <= 65535);
    if (const auto bytes = url.size(Url::kSizeMin)) PROMISE(*bytes >= Url::kSizeMin);
    (void)url.allow_only({"size", "port"});
}

}  // namespace
}  // namespace farswap

using namespace farswap;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text = fuzz::text_of(data, size);
    if (text.find('\0') != std::string_view::npos) return 0;  // no argument of a command holds one
    const auto url = parse_url(text);
    if (!url) {
        PROMISE(url.error().code == EINVAL && !url.error().message.empty());
        return 0;
    }
    use(*url);
    const auto again = parse_url(write_down(*url));
    PROMISE(again);
    PROMISE(again->scheme == url->scheme && again->host == url->host && again->path == url->path);
    PROMISE(again->parameters == url->parameters);
    return 0;
}
