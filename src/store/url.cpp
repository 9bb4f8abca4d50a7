// See url.h.
#include "store/url.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace farswap {

namespace {

constexpr std::string_view kForms =
    "use nfs://HOST/EXPORT/PATH?size=8G, nbd://HOST/EXPORT or file:PATH?size=8G";

/// Undoes %XX; nothing for a bad escape or an escaped NUL.
std::optional<std::string> percent_decode(std::string_view text) {
    std::string decoded;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (text[at] != '%') {
            decoded += text[at];
            continue;
        }
        unsigned value = 0;
        if (at + 2 >= text.size()) return std::nullopt;
        const auto [end, error] = std::from_chars(text.data() + at + 1, text.data() + at + 3, value, 16);
        if (error != std::errc{} || end != text.data() + at + 3 || value == 0) return std::nullopt;
        decoded += static_cast<char>(value);
        at += 2;
    }
    return decoded;
}

/// Cuts `text` at the first `mark`; what is behind it is returned, nothing when there is no mark.
std::optional<std::string_view> cut(std::string_view& text, char mark) {
    const std::size_t at = text.find(mark);
    if (at == std::string_view::npos) return std::nullopt;
    const std::string_view rest = text.substr(at + 1);
    text = text.substr(0, at);
    return rest;
}

Status parse_parameters(std::string_view query, Url& url) {
    for (std::optional<std::string_view> rest = query; rest;) {
        std::string_view item = *rest;
        rest = cut(item, '&');
        const auto value = cut(item, '=');
        const auto decoded = percent_decode(value.value_or(""));
        if (item.empty() || !value || !decoded)
            return fail(EINVAL,
                        "'{}': '{}' is no parameter: write NAME=VALUE, and quote the URL for the shell",
                        url.text, item);
        url.parameters.emplace_back(item, *decoded);
    }
    return {};
}

bool is_nbd(const Url& url) {
    return url.scheme == "nbd" || url.scheme == "nbds";
}

bool is_nbd_socket(const Url& url) {
    return url.scheme == "nbd+unix" || url.scheme == "nbds+unix";
}

/// Takes ":PORT" off the end of "HOST:PORT" or "[ADDRESS]:PORT".
Status parse_port(std::string_view& host, Url& url) {
    const std::size_t colon = host.rfind(':');
    if (colon == std::string_view::npos || host.ends_with(']')) return {};
    const std::string_view digits = host.substr(colon + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), url.port);
    if (error != std::errc{} || end != digits.data() + digits.size() || url.port == 0)
        return fail(EINVAL, "'{}': '{}' is no port: write a number from 1 to 65535", url.text, digits);
    host = host.substr(0, colon);
    return {};
}

/// What is named by a path of this machine: file:PATH, plugin:PATH.
bool is_of_this_machine(const Url& url) {
    return url.scheme == "file" || url.scheme == "plugin";
}

/// Takes the host off "//HOST/PATH"; the path stays in `rest`.
Status parse_host(std::string_view& rest, Url& url) {
    rest.remove_prefix(2);
    const std::size_t slash = rest.find('/');
    std::string_view host = rest.substr(0, slash);
    rest = slash == std::string_view::npos ? std::string_view{} : rest.substr(slash);
    if (is_of_this_machine(url)) {
        if (!host.empty() && host != "localhost")
            return fail(EINVAL, "'{}': a {}: URL names no host: write {}:/{}{}", url.text, url.scheme,
                        url.scheme, host, rest);
        return {};
    }
    if (is_nbd_socket(url)) {
        if (!host.empty())
            return fail(EINVAL, "'{}': a socket has no host: write {}:///EXPORT?socket=PATH", url.text,
                        url.scheme);
        return {};
    }
    if (is_nbd(url)) {
        if (Status port = parse_port(host, url); !port) return port;
    }
    if (host.find('@') != std::string_view::npos)
        return fail(EINVAL, "'{}': a store's URL holds no user name: use ?uid= and ?gid=", url.text);
    if (host.starts_with('[') && host.ends_with(']')) {
        host = host.substr(1, host.size() - 2);
    } else if (host.find(':') != std::string_view::npos) {
        return fail(EINVAL,
                    "'{}': no port behind the host: use ?nfsport= (an IPv6 address stands in brackets)",
                    url.text);
    }
    if (host.empty()) return fail(EINVAL, "'{}' names no host: {}", url.text, kForms);
    url.host = host;
    return {};
}

}  // namespace

Result<Url> parse_url(std::string_view text) {
    Url url;
    url.text = text;
    std::string_view rest = text;
    const auto behind_scheme = cut(rest, ':');
    if (!behind_scheme || rest.empty() ||
        !std::ranges::all_of(rest, [](unsigned char c) { return std::isalnum(c) || c == '+'; }))
        return fail(EINVAL, "'{}' is no store: {}", text, kForms);
    std::ranges::transform(rest, std::back_inserter(url.scheme),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    rest = *behind_scheme;
    const auto query = cut(rest, '?');
    if (rest.starts_with("//")) {
        if (Status host = parse_host(rest, url); !host) return std::unexpected(host.error());
    } else if (!is_of_this_machine(url)) {
        return fail(EINVAL, "'{}' names no host: {}", text, kForms);
    }
    const auto path = percent_decode(rest);
    if (!path)
        return fail(EINVAL,
                    "'{}': a '%' in a URL stands before two hexadecimal digits; write a plain one as %25",
                    text);
    const bool may_lack_path = is_nbd(url) || is_nbd_socket(url);
    if (!may_lack_path && (path->empty() || (!is_of_this_machine(url) && *path == "/")))
        return fail(EINVAL, "'{}' names no path: {}", text, kForms);
    url.path = *path;
    if (query) {
        if (Status parameters = parse_parameters(*query, url); !parameters)
            return std::unexpected(parameters.error());
    }
    return url;
}

std::optional<std::string_view> Url::parameter(std::string_view name) const {
    for (const auto& [key, value] : parameters)
        if (key == name) return value;
    return std::nullopt;
}

Result<std::uint64_t> Url::number(std::string_view name, std::uint64_t fallback, std::uint64_t least,
                                  std::uint64_t most) const {
    const auto value = parameter(name);
    if (!value) return fallback;
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), number);
    if (error != std::errc{} || end != value->data() + value->size() || number < least || number > most)
        return fail(EINVAL, "'{}': {}={} has to be a number from {} to {}", text, name, *value, least, most);
    return number;
}

Result<std::uint64_t> Url::size(std::uint64_t fallback) const {
    const auto value = parameter("size");
    if (!value) return fallback;
    const auto bytes = parse_size(*value);
    if (!bytes) return fail(EINVAL, "'{}': {}", text, bytes.error().message);
    if (*bytes < kSizeMin)
        return fail(EINVAL, "'{}': a size of {} is too small: give at least {}", text, *value,
                    format_size(kSizeMin));
    return *bytes;
}

Result<std::optional<int>> Url::priority() const {
    if (!parameter("prio")) return std::nullopt;
    const auto value = number("prio", 0, 0, kPriorityMax);
    if (!value) return std::unexpected(value.error());
    return static_cast<int>(*value);
}

Status Url::allow_only(std::initializer_list<std::string_view> names) const {
    for (const auto& [key, value] : parameters) {
        if (key != "prio" && std::ranges::find(names, key) == names.end())
            return fail(EINVAL, "'{}': there is no parameter '{}' for {}: (known: {}, prio)", text, key,
                        scheme, fmt::join(names, ", "));
        if (std::ranges::count(parameters, key, &std::pair<std::string, std::string>::first) > 1)
            return fail(EINVAL, "'{}': '{}' is given twice", text, key);
    }
    return {};
}

}  // namespace farswap
