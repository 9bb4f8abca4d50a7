// Reads farswapd.toml with toml++; see config.h.
#include "daemon/config.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>

#include "base/fd.h"
#include "base/size_text.h"

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_ENABLE_WINDOWS_COMPAT 0
#include <toml++/toml.h>

namespace farswap::daemon {
namespace {

constexpr std::size_t kFileMax = 256 << 10;
constexpr std::size_t kEntriesMax = 256;  // of users, and of groups
constexpr std::size_t kUrlsMax = 16, kUrlsBytesMax = 1000;

/// One run through a file. The first error is kept, and what comes after it is not looked at.
class Reader {
  public:
    Reader(std::string_view file, const Surroundings& around) : file_(file), around_(around) {}

    Result<Config> read(const toml::table& root);

  private:
    void wrong(const toml::node& at, const std::string& text) { wrong(at.source(), text); }
    void wrong(const toml::source_region& at, const std::string& text) {
        if (!error_)
            error_ = Error{EINVAL, fmt::format("{}:{}:{}: {}", file_, at.begin.line, at.begin.column, text)};
    }
    bool is_one_of(const toml::key& key, std::initializer_list<std::string_view> known,
                   std::string_view where);
    std::uint64_t size(const toml::key& key, const toml::node& value, std::uint64_t least);
    std::uint64_t size_or_part(const toml::key& key, const toml::node& value);
    std::uint32_t count(const toml::key& key, const toml::node& value, std::uint32_t most);
    std::string word(const toml::key& key, const toml::node& value,
                     std::initializer_list<std::string_view> words);
    std::vector<std::string> urls(const toml::key& key, const toml::node& value);

    template <typename Take>
    void table(std::string_view name, const toml::node& value, const Take& take);
    void machine(Config& config, const toml::node& value);
    void defaults(JobDefaults& defaults, const toml::node& value);
    template <typename Id, typename Find>
    void entries(std::string_view kind, const toml::node& value, std::vector<std::pair<Id, Rule>>& into,
                 const Find& find);
    void rule(Rule& rule, const toml::key& key, const toml::node& value);

    std::string_view file_;
    const Surroundings& around_;
    std::optional<Error> error_;
};

bool Reader::is_one_of(const toml::key& key, std::initializer_list<std::string_view> known,
                       std::string_view where) {
    if (std::ranges::find(known, key.str()) != known.end()) return true;
    wrong(key.source(), fmt::format("{} has no '{}'; it has {}", where, key.str(), fmt::join(known, ", ")));
    return false;
}

std::uint64_t Reader::size(const toml::key& key, const toml::node& value, std::uint64_t least) {
    const auto* text = value.as_string();
    const auto bytes = text != nullptr ? parse_size(text->get()) : fail(EINVAL, "no text");
    if (!bytes) {
        wrong(value, fmt::format("{}: write a size in quotes, such as \"512M\" or \"2G\"", key.str()));
    } else if (*bytes < least) {
        wrong(value, fmt::format("{}: {} is too small; write at least \"{}M\"", key.str(), text->get(),
                                 least >> 20));
    }
    return bytes.value_or(0);
}

std::uint64_t Reader::size_or_part(const toml::key& key, const toml::node& value) {
    const auto* text = value.as_string();
    if (text == nullptr || !text->get().ends_with('%')) return size(key, value, kRamLeastMin);
    const std::string& words = text->get();
    double percent = 0;
    const auto parsed =
        std::from_chars(words.data(), words.data() + words.size() - 1, percent, std::chars_format::fixed);
    if (parsed.ec != std::errc() || parsed.ptr != words.data() + words.size() - 1 || !(percent > 0) ||
        percent > 100)
        wrong(value, fmt::format("{}: a percentage is above 0 and at most 100, such as \"75%\"", key.str()));
    const auto bytes = static_cast<std::uint64_t>(static_cast<double>(around_.ram) / 100 * percent);
    if (!error_ && bytes < kRamLeastMin)
        wrong(value,
              fmt::format("{}: {} of {} is too small for a job", key.str(), words, format_size(around_.ram)));
    return bytes;
}

std::uint32_t Reader::count(const toml::key& key, const toml::node& value, std::uint32_t most) {
    const auto number = value.value_exact<std::int64_t>();
    if (!number || *number < 1 || *number > most)
        wrong(value, fmt::format("{}: write a whole number from 1 to {}", key.str(), most));
    return error_ ? 1 : static_cast<std::uint32_t>(*number);
}

std::string Reader::word(const toml::key& key, const toml::node& value,
                         std::initializer_list<std::string_view> words) {
    const auto text = value.value_exact<std::string>().value_or("");
    if (std::ranges::find(words, text) == words.end())
        wrong(value, fmt::format("{}: write \"{}\"", key.str(), fmt::join(words, "\" or \"")));
    return text;
}

std::vector<std::string> Reader::urls(const toml::key& key, const toml::node& value) {
    std::vector<std::string> texts;
    std::size_t bytes = 0;
    const auto* array = value.as_array();
    if (array == nullptr) wrong(value, fmt::format("{}: write [\"URL\", ...]", key.str()));
    for (std::size_t i = 0; array != nullptr && i < array->size() && !error_; ++i) {
        const auto text = (*array)[i].value_exact<std::string>().value_or("");
        const bool is_plain = std::ranges::all_of(text, [](unsigned char c) { return c > ' ' && c != 0x7f; });
        if (!is_plain || (text != "none" && text.find(':') == std::string::npos))
            wrong((*array)[i], fmt::format("{}: write a store's URL, such as \"nfs://nas/export/swap\" or "
                                           "\"file:/scratch\"",
                                           key.str()));
        bytes += text.size() + 1;
        texts.push_back(text);
    }
    if (texts.size() > kUrlsMax || bytes > kUrlsBytesMax)
        wrong(value,
              fmt::format("{}: at most {} URLs of {} bytes together", key.str(), kUrlsMax, kUrlsBytesMax));
    return texts;
}

template <typename Take>
void Reader::table(std::string_view name, const toml::node& value, const Take& take) {
    const auto* table = value.as_table();
    if (table == nullptr) return wrong(value, fmt::format("write [{}] on a line of its own", name));
    for (const auto& [key, entry] : *table) {
        if (error_) return;
        take(key, entry);
    }
}

void Reader::machine(Config& config, const toml::node& value) {
    table("machine", value, [&](const toml::key& key, const toml::node& entry) {
        if (!is_one_of(key, {"ram", "jobs-max", "others"}, "[machine]")) return;
        if (key == "ram") config.ram = size_or_part(key, entry);
        if (key == "jobs-max") config.jobs_max = count(key, entry, kJobsMax);
        if (key == "others") config.others.is_allowed = word(key, entry, {"allow", "refuse"}) == "allow";
    });
    if (!error_ && config.ram == 0 && !value.as_table()->empty())
        wrong(value, "[machine] needs ram = \"SIZE\" or \"PERCENT%\": what all jobs may have together");
}

void Reader::defaults(JobDefaults& defaults, const toml::node& value) {
    table("defaults", value, [&](const toml::key& key, const toml::node& entry) {
        if (!is_one_of(key, {"swap", "ram", "ram-least", "compress", "on-full"}, "[defaults]")) return;
        if (key == "swap") defaults.swap = urls(key, entry);
        if (key == "ram") defaults.ram_max = size(key, entry, kRamLeastMin);
        if (key == "ram-least") defaults.ram_least = size(key, entry, kRamLeastMin);
        if (key == "compress") defaults.compress = word(key, entry, {"lz4", "zstd", "off"});
        if (key == "on-full") defaults.on_full = word(key, entry, {"wait", "stop"});
    });
}

void Reader::rule(Rule& rule, const toml::key& key, const toml::node& value) {
    if (key == "allow") {
        const auto allowed = value.value_exact<bool>();
        if (!allowed) wrong(value, "allow: write true or false");
        rule.is_allowed = allowed.value_or(false);
    }
    if (key == "ram-max") rule.ram_max = size(key, value, kRamLeastMin);
    if (key == "jobs-max") rule.jobs_max = count(key, value, kJobsMax);
    if (key == "weight") rule.weight = count(key, value, 1000);
    if (key == "stores") rule.stores = urls(key, value);
}

template <typename Id, typename Find>
void Reader::entries(std::string_view kind, const toml::node& value, std::vector<std::pair<Id, Rule>>& into,
                     const Find& find) {
    const auto heading = fmt::format("[[{}]]", kind);
    const auto* array = value.as_array();
    if (array == nullptr) return wrong(value, fmt::format("write {} on a line of its own", heading));
    if (array->size() > kEntriesMax)
        return wrong(value, fmt::format("more than {} {}", kEntriesMax, heading));
    for (const toml::node& one : *array) {
        std::optional<Id> id;
        Rule taken;
        table(heading, one, [&](const toml::key& key, const toml::node& entry) {
            if (!is_one_of(key, {"name", "id", "allow", "ram-max", "jobs-max", "weight", "stores"}, heading))
                return;
            if (key != "name" && key != "id") return rule(taken, key, entry);
            if (id) return wrong(key.source(), fmt::format("{}: name or id, not both", heading));
            const auto name = entry.value_exact<std::string>();
            const auto number = entry.value_exact<std::int64_t>();
            if (key == "name" ? !name : !number || *number < 0 || *number >= UINT32_MAX)
                return wrong(entry, key == "name" ? "name: write a name in quotes" : "id: write a number");
            id = name ? find(*name) : std::optional(static_cast<Id>(*number));
            if (!id) wrong(entry, fmt::format("name: there is no {} '{}' on this machine", kind, *name));
        });
        if (error_) return;
        if (!id) return wrong(one, fmt::format("{} needs name = \"NAME\" or id = NUMBER", heading));
        if (std::ranges::find(into, *id, &std::pair<Id, Rule>::first) != into.end())
            return wrong(one, fmt::format("a second {} for {} {}", heading, kind, *id));
        into.emplace_back(*id, std::move(taken));
    }
}

Result<Config> Reader::read(const toml::table& root) {
    Config config;
    for (const auto& [key, value] : root) {
        if (error_ || !is_one_of(key, {"machine", "defaults", "user", "group"}, "farswapd.toml")) break;
        if (key == "machine") machine(config, value);
        if (key == "defaults") defaults(config.defaults, value);
        if (key == "user") entries("user", value, config.users, around_.user);
        if (key == "group") entries("group", value, config.groups, around_.group);
    }
    if (!error_ && config.ram == 0 && !root.empty())
        wrong(root.begin()->first.source(), "without [machine] ram = \"SIZE\" there is nothing to share");
    if (!error_ && config.ram > 0 && config.defaults.ram_least > config.ram)
        wrong(root.begin()->first.source(),
              fmt::format("ram-least of [defaults], {}, is more than ram of [machine], {}",
                          format_size(config.defaults.ram_least), format_size(config.ram)));
    if (error_) return std::unexpected(std::move(*error_));
    return config;
}

}  // namespace

Surroundings surroundings() {
    struct sysinfo info {};
    sysinfo(&info);
    return {.ram = std::uint64_t{info.totalram} * info.mem_unit,
            .user = [](const std::string& name) -> std::optional<uid_t> {
                const passwd* entry = getpwnam(name.c_str());
                return entry != nullptr ? std::optional(entry->pw_uid) : std::nullopt;
            },
            .group = [](const std::string& name) -> std::optional<gid_t> {
                const group* entry = getgrnam(name.c_str());
                return entry != nullptr ? std::optional(entry->gr_gid) : std::nullopt;
            }};
}

Result<Config> parse_config(std::string_view text, std::string_view file, const Surroundings& around) {
    const auto parsed = toml::parse(text, file);
    if (!parsed) {
        const auto& error = parsed.error();
        std::string words(error.description());
        std::ranges::replace_if(
            words, [](unsigned char c) { return c < ' ' || c == 0x7f; }, ' ');
        return fail(EINVAL, "{}:{}:{}: no TOML: {}", file, error.source().begin.line,
                    error.source().begin.column, words);
    }
    return Reader(file, around).read(parsed.table());
}

Result<Config> read_config(const std::string& file, const Surroundings& around) {
    const Fd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return fail_errno(errno, "{}", file);
    std::string text;
    std::array<char, 4096> part{};
    for (ssize_t got = 0; (got = ::read(fd.get(), part.data(), part.size())) != 0;) {
        if (got < 0) return fail_errno(errno, "{}", file);
        text.append(part.data(), static_cast<std::size_t>(got));
        if (text.size() > kFileMax) return fail(EFBIG, "{}: more than {}", file, format_size(kFileMax));
    }
    return parse_config(text, file, around);
}

Rule rule_for(const Config& config, const Peer& peer) {
    Rule rule = config.others;
    const auto user = std::ranges::find(config.users, peer.user, &std::pair<uid_t, Rule>::first);
    const auto group = std::ranges::find_if(config.groups, [&](const auto& entry) {
        return peer.group == entry.first || std::ranges::find(peer.groups, entry.first) != peer.groups.end();
    });
    if (user != config.users.end())
        rule = user->second;
    else if (group != config.groups.end())
        rule = group->second;
    if (peer.user == 0) rule.is_allowed = true;
    return rule;
}

}  // namespace farswap::daemon
