#include "daemon/options.h"

#include <charconv>
#include <string_view>

#include "target/helper_protocol.h"

namespace farswap::daemon {
namespace {

constexpr const char* kHelp =
    "farswapd: hands out what an ordinary user's farswap lacks: a descriptor of /dev/userfaultfd, and the "
    "fork\n"
    "event of userfaultfd. Runs as root, or as a systemd service whose socket it takes.\n"
    "\n"
    "  --socket PATH     where it listens (/run/farswapd.sock)\n"
    "  --group NAME      the group whose members may ask (farswap, where there is one; else root alone)\n"
    "  --allow-uid UID   another user who may ask; may be given several times\n"
    "  --help, --version\n";

Status take(Options& options, std::string_view name, const char* value) {
    if (name == "--socket") {
        options.socket = value;
    } else if (name == "--group") {
        options.group = value;
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
        } else if (name == "--socket" || name == "--group" || name == "--allow-uid") {
            if (i + 1 == words.size()) return fail(EINVAL, "{} needs a value", name);
            if (auto taken = take(options, name, words[++i]); !taken) return std::unexpected(taken.error());
        } else {
            return fail(EINVAL, "there is no option {}; see farswapd --help", name);
        }
    }
    return options;
}

}  // namespace farswap::daemon
