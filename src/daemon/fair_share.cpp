#include "daemon/fair_share.h"

#include <algorithm>
#include <map>

namespace farswap::daemon {
namespace {

constexpr std::uint64_t kSmallest = 8ull << 20;

/// One who takes part in a division: nothing below `low`, nothing above `high`.
struct Basin {
    std::uint64_t weight = 1, low = 0, high = 0;
    std::uint64_t at(std::uint64_t level) const {
        const bool is_above = level > high / weight;
        return std::clamp(is_above ? high : level * weight, low, std::max(low, high));
    }
};

/// Equal levels for all whose bounds allow it: the highest one at which the sum does not exceed `amount`.
std::vector<std::uint64_t> fill(const std::vector<Basin>& basins, std::uint64_t amount) {
    const auto sum_at = [&](std::uint64_t level) {
        std::uint64_t sum = 0;
        for (const Basin& basin : basins) sum += basin.at(level);
        return sum;
    };
    std::uint64_t level = 0;
    for (std::uint64_t step = std::uint64_t{1} << 62; step > 0; step /= 2) {
        if (sum_at(level + step) <= amount) level += step;
    }
    std::vector<std::uint64_t> amounts;
    for (const Basin& basin : basins) amounts.push_back(basin.at(level));
    return amounts;
}

/// The jobs of one user, by their place in the list.
struct User {
    std::vector<std::size_t> jobs;
    std::uint64_t weight = 1, most = 0, floor = 0, demand = 0, wanted = 0;
    std::uint64_t limited(std::uint64_t sum) const { return most > 0 ? std::min(sum, most) : sum; }
};

std::map<uid_t, User> by_user(const std::vector<ShareNow>& jobs) {
    std::map<uid_t, User> users;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        User& user = users[jobs[i].user];
        user.jobs.push_back(i);
        user.weight = jobs[i].weight;
        user.most = jobs[i].user_most;
        user.floor += jobs[i].floor;
        user.demand += std::max(jobs[i].floor, std::min(jobs[i].demand, jobs[i].most));
        user.wanted += std::max(jobs[i].floor, jobs[i].most);
    }
    return users;
}

/// What a user got, divided between his jobs: demands first, then what each would take.
void divide(const User& user, const std::vector<ShareNow>& jobs, std::uint64_t amount,
            std::vector<std::uint64_t>& shares) {
    std::vector<Basin> basins;
    for (const std::size_t i : user.jobs)
        basins.push_back({1, jobs[i].floor, std::min(jobs[i].demand, jobs[i].most)});
    auto filled = fill(basins, amount);
    for (std::size_t i = 0; i < basins.size(); ++i) basins[i] = {1, filled[i], jobs[user.jobs[i]].most};
    filled = fill(basins, amount);
    for (std::size_t i = 0; i < filled.size(); ++i) shares[user.jobs[i]] = filled[i];
}

}  // namespace

std::vector<std::uint64_t> fair_shares(const std::vector<ShareNow>& jobs, std::uint64_t budget) {
    const auto users = by_user(jobs);
    std::vector<Basin> basins;
    for (const auto& [id, user] : users)
        basins.push_back({user.weight, user.floor, user.limited(user.demand)});
    auto amounts = fill(basins, budget);
    std::size_t place = 0;
    for (const auto& [id, user] : users) {
        basins[place] = {user.weight, amounts[place], user.limited(user.wanted)};
        ++place;
    }
    amounts = fill(basins, budget);
    std::vector<std::uint64_t> shares(jobs.size());
    place = 0;
    for (const auto& [id, user] : users) divide(user, jobs, amounts[place++], shares);
    return shares;
}

bool is_small_change(std::uint64_t from, std::uint64_t to) {
    const std::uint64_t difference = from > to ? from - to : to - from;
    return difference < std::max(from / 16, kSmallest);
}

std::vector<std::uint64_t> next_caps(const std::vector<ShareNow>& jobs, std::uint64_t budget) {
    const auto shares = fair_shares(jobs, budget);
    std::vector<std::uint64_t> caps(jobs.size());
    std::uint64_t if_kept = 0, held = 0;
    const auto may_stay = [&](std::size_t i) {
        const ShareNow& job = jobs[i];
        return job.told >= job.floor && job.told <= std::max(job.floor, job.most) &&
               is_small_change(job.told, shares[i]);
    };
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        if_kept += may_stay(i) ? jobs[i].told : shares[i];
        held += std::max(jobs[i].held, jobs[i].told);
    }
    const bool is_room_short = if_kept > budget;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        const bool stays = may_stay(i) && (!is_room_short || shares[i] >= jobs[i].told);
        caps[i] = stays ? jobs[i].told : std::min(shares[i], jobs[i].told);
    }
    // What it held before a decrease is not free before it has come down.
    std::uint64_t room = budget - std::min(budget, held);
    for (std::size_t i = 0; i < jobs.size(); ++i) {  // who waits comes before who would like more
        if (jobs[i].told != 0) continue;
        const std::uint64_t now = std::min(room, shares[i]);
        if (now == shares[i] || (jobs[i].takes_less && now >= jobs[i].floor)) caps[i] = now;
        room -= now;
    }
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        if (jobs[i].told == 0 || shares[i] <= jobs[i].told || may_stay(i)) continue;
        // What it holds beyond its cap is its own already.
        const std::uint64_t own = std::max(jobs[i].held, jobs[i].told);
        const std::uint64_t cap = std::min(shares[i], own + room);
        if (cap < jobs[i].told || (cap < shares[i] && is_small_change(jobs[i].told, cap))) continue;
        caps[i] = cap;
        room -= cap > own ? cap - own : 0;
    }
    return caps;
}

}  // namespace farswap::daemon
