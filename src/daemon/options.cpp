#include "daemon/options.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "target/helper_protocol.h"

namespace farswap::daemon {
namespace {

constexpr const char* kHelp =
    "farswapd: hands out what an ordinary user's farswap lacks: a descriptor of /dev/userfaultfd, and the "
    "fork\n"
    "event of userfaultfd; and divides a machine's budget of RAM between the jobs of all users. Runs as "
    "root, or\n"
    "as a systemd service whose sockets it takes.\n"
    "\n"
    "  --socket PATH        where it listens (/run/farswapd.sock)\n"
    "  --group NAME         the group whose members may ask (farswap, where there is one; else root alone)\n"
    "  --allow-uid UID      another user who may ask; may be given several times\n"
    "  --config PATH        the budget and who has a part in it (/etc/farswap/farswapd.toml); SIGHUP reads "
    "it anew\n"
    "  --check-config PATH  say whether such a file is in order, and end\n"
    "  --help, --version\n";

constexpr std::string_view kWithValue[] = {"--socket", "--group", "--allow-uid", "--config",
                                           "--check-config"};

Status take(Options& options, std::string_view name, const char* value) {
    if (name == "--socket") {
        options.socket = value;
    } else if (name == "--group") {
        options.group = value;
    } else if (name == "--config") {
        options.config = value;
    } else if (name == "--check-config") {
        options.checked_config = value;
    } else {
        const std::string_view text = value;
        uid_t user = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), user);
        if (error != std::errc() || end != text.data() + text.size())
            return fail(EINVAL, "--allow-uid {}: a user's number is wanted", text);
        options.users.push_back(user);
    }
    return {};
}

}  // namespace

Result<Options> parse_options(std::span<const char* const> words) {
    Options options{.socket = target::kHelperSocket, .group = {}, .users = {}, .print = {}};
    for (std::size_t i = 0; i < words.size(); ++i) {
        const std::string_view name = words[i];
        if (name == "--help") {
            options.print = kHelp;
        } else if (name == "--version") {
            options.print = "farswapd " FARSWAP_VERSION "\n";
        } else if (std::ranges::find(kWithValue, name) != std::end(kWithValue)) {
            if (i + 1 == words.size()) return fail(EINVAL, "{} needs a value", name);
            if (auto taken = take(options, name, words[++i]); !taken) return std::unexpected(taken.error());
        } else {
            return fail(EINVAL, "there is no option {}; see farswapd --help", name);
        }
    }
    return options;
}

}  // namespace farswap::daemon
