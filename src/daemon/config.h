// What the administrator has written about the machine's budget: farswapd.toml. Knows its text and its rules,
// not who holds what.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "daemon/access.h"

namespace farswap::daemon {

inline constexpr const char* kUsualConfig = "/etc/farswap/farswapd.toml";
inline constexpr std::uint32_t kJobsMax = 128;              ///< of a machine: each has a process here
inline constexpr std::uint64_t kRamLeastMin = 32ull << 20;  ///< below, a pager has no room of its own

/// What a job gets that does not say otherwise.
struct JobDefaults {
    std::vector<std::string> swap{};        ///< URLs; none: the pager's own default
    std::uint64_t ram_max = 0;              ///< bytes; 0: as much as there is
    std::uint64_t ram_least = 64ull << 20;  ///< bytes: a job that cannot have so much is refused
    std::string compress, on_full;          ///< as the options of farswap run; empty: its own default
};

/// What holds for a user. Limits are for each user, also where the entry is a group's.
struct Rule {
    bool is_allowed = true;
    std::uint64_t ram_max = 0;  ///< bytes of all jobs together; 0: no limit
    std::uint32_t jobs_max = 32;
    std::uint32_t weight = 1;           ///< against other users, where there is not enough for all
    std::vector<std::string> stores{};  ///< URLs that those of jobs begin with; none: any
};

struct Config {
    std::string mistake{};  ///< why the file cannot be followed; empty: it can
    std::uint64_t ram = 0;  ///< bytes that all jobs may have together; 0: there is no budget
    std::uint32_t jobs_max = kJobsMax;
    JobDefaults defaults{};
    Rule others{};  ///< for whom no entry is
    std::vector<std::pair<uid_t, Rule>> users{};
    std::vector<std::pair<gid_t, Rule>> groups{};  ///< in the order of the file: the first that fits holds
};

/// What text is read against.
struct Surroundings {
    std::uint64_t ram = 0;  ///< bytes of the machine: what percentages are of
    std::function<std::optional<uid_t>(const std::string& name)> user;
    std::function<std::optional<gid_t>(const std::string& name)> group;
};
/// This machine's.
Surroundings surroundings();

/// EINVAL: one line that begins with FILE:LINE:COLUMN and says what to write there.
Result<Config> parse_config(std::string_view text, std::string_view file, const Surroundings& around);
/// Reads and parses the file. An errno of open(2) or read(2), too; EFBIG.
Result<Config> read_config(const std::string& file, const Surroundings& around);

/// The user's own entry, else that of one of his groups, else what holds for others. Root is always allowed.
Rule rule_for(const Config& config, const Peer& peer);

}  // namespace farswap::daemon
