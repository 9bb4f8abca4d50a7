// The command line of farswapd.
#pragma once

#include <sys/types.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace farswap::daemon {

struct Options {
    std::string socket;                ///< --socket: its path
    std::optional<std::string> group;  ///< --group: whose members may ask
    std::vector<uid_t> users;          ///< --allow-uid: who else may ask
    std::optional<std::string>
        config{};                  ///< --config: the file of the budget; none: the usual one, if there is one
    std::string checked_config{};  ///< --check-config: nothing but to say what is wrong with it
    std::string print;             ///< --help, --version: nothing but this text is wanted
};

/// EINVAL: the words are no command line, and the message says which one is wrong.
Result<Options> parse_options(std::span<const char* const> words);

}  // namespace farswap::daemon
