#include "daemon/ledger.h"

#include <algorithm>
#include <cmath>

#include "base/size_text.h"
#include "base/units.h"

namespace farswap::daemon {
namespace {

using namespace std::chrono_literals;
using cli::ShareReply;
using cli::ShareReplyKind;
using cli::ShareRequest;

constexpr auto kWaitForShare = 5s;              // then a new job begins with less than its share
constexpr auto kWaitForFloor = 30s;             // then it is refused
constexpr auto kComingDown = 20s;               // then one that holds more than its cap is said to be stuck
constexpr auto kStuck = 60s;                    // and is left at that for so long
constexpr auto kDemandFades = 30s;              // what was needed once is kept for about so long
constexpr double kHotRefaults = 500;            // a second: all that is outside of such a job is wanted
constexpr std::uint64_t kHeadroom = 16 * kMiB;  // a job that is near its cap is paged already

ShareReply refused(const Error& error) {
    ShareReply reply{.kind = ShareReplyKind::kRefused, .error = error.code};
    error.message.copy(reply.text, sizeof reply.text - 1);
    return reply;
}

constexpr const char* kMistaken =
    "the configuration of this machine's budget has a mistake: ask the administrator, who finds it in the "
    "journal of farswapd";

std::string name_of(const Peer& peer) {
    return fmt::format("user {}, process {}", peer.user, peer.process);
}

/// 1.4 GiB, 512 MiB: for lines that are read.
std::string size_of(std::uint64_t bytes) {
    return format_size(bytes >= 10 * kMiB ? (bytes + kMiB / 2) / kMiB * kMiB : bytes);
}

}  // namespace

std::size_t Ledger::jobs_of(uid_t user) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(shares_, [&](const auto& entry) { return entry.second.peer.user == user; }));
}

std::uint64_t Ledger::held() const {
    std::uint64_t sum = 0;
    for (const auto& [id, share] : shares_) sum += std::max(share.now.held, share.now.told);
    return sum;
}

/// "user 1000: 3 jobs, 2 GiB; user 1001: ...", the greatest first.
std::string Ledger::who_holds() const {
    constexpr std::size_t kNamedMax = 4;
    std::map<uid_t, std::pair<std::uint64_t, unsigned>> users;
    for (const auto& [id, share] : shares_) {
        auto& [bytes, jobs] = users[share.peer.user];
        bytes += std::max(share.now.held, share.now.told);
        ++jobs;
    }
    std::vector<std::pair<std::uint64_t, std::string>> words;
    words.reserve(users.size());
    for (const auto& [user, holds] : users)
        words.emplace_back(holds.first, fmt::format("user {}: {} in {} job{}", user, size_of(holds.first),
                                                    holds.second, holds.second == 1 ? "" : "s"));
    std::ranges::sort(words, std::greater());
    std::string text;
    for (std::size_t i = 0; i < std::min(words.size(), kNamedMax); ++i)
        text += (i > 0 ? ", " : "") + words[i].second;
    return text + (words.size() > kNamedMax ? ", and others" : "");
}

/// What of its wish the rules allow.
void Ledger::limit(Share& share) const {
    std::uint64_t most = share.wanted;
    if (share.takes_default && config_.defaults.ram_max > 0) most = std::min(most, config_.defaults.ram_max);
    if (share.rule.ram_max > 0) most = std::min(most, share.rule.ram_max);
    if (config_.ram > 0) most = std::min(most, config_.ram);
    share.now.most = most;
    share.now.weight = share.rule.weight;
    share.now.user_most = share.rule.ram_max;
}

/// What the job cannot do with less than, and what the rules leave to everybody.
std::uint64_t Ledger::floor_of(Share& share, std::uint64_t least) const {
    share.least = least;
    const std::uint64_t floor = std::max(least, std::min(config_.defaults.ram_least, share.now.most));
    // Who runs may refuse to come down, and can do no more by it than to keep what he has.
    return share.now.told > 0 ? std::min(floor, share.now.told) : floor;
}

std::optional<Error> Ledger::refusal(const Share& share) const {
    const uid_t user = share.peer.user;
    if (!share.rule.is_allowed)
        return Error{EACCES, "this user may not run jobs here: ask the administrator"};
    if (shares_.size() >= config_.jobs_max)
        return Error{EAGAIN,
                     fmt::format("as many jobs run already as this machine allows ({})", shares_.size())};
    if (jobs_of(user) >= share.rule.jobs_max)
        return Error{EAGAIN,
                     fmt::format("as many jobs of this user run already as are allowed ({})", jobs_of(user))};
    std::uint64_t floors = share.now.floor, of_user = share.now.floor;
    for (const auto& [id, other] : shares_) {
        floors += other.now.floor;
        if (other.peer.user == user) of_user += other.now.floor;
    }
    if (share.now.most < share.now.floor)
        return Error{EINVAL, fmt::format("a job may have {} here, and this one cannot do with less than {}",
                                         size_of(share.now.most), size_of(share.now.floor))};
    if (share.rule.ram_max > 0 && of_user > share.rule.ram_max)
        return Error{
            ENOMEM, fmt::format("the jobs of this user may have {} together, and cannot do with less than {} "
                                "with this one: wait until one has ended",
                                size_of(share.rule.ram_max), size_of(of_user))};
    if (floors > config_.ram)
        return Error{
            ENOMEM,
            fmt::format("no room: the machine's budget is {}, and its jobs cannot do with less than {} "
                        "with this one ({}); wait until one has ended",
                        size_of(config_.ram), size_of(floors), who_holds())};
    return std::nullopt;
}

std::optional<ShareReply> Ledger::ask(Id id, const Peer& peer, const ShareRequest& request,
                                      Clock::time_point now) {
    if (!config_.mistake.empty() && request.cap == 0) {
        lines_.push_back(fmt::format("{}: refused: the configuration has a mistake", name_of(peer)));
        return refused({EINVAL, kMistaken});
    }
    if (config_.ram == 0) return ShareReply{.kind = ShareReplyKind::kNone};
    if (shares_.contains(id)) return std::nullopt;
    Share share;
    share.peer = peer;
    share.rule = rule_for(config_, peer);
    share.wanted = request.most;
    share.takes_default = request.takes_default != 0;
    share.asked = share.reported = share.told_at = now;
    share.now.user = peer.user;
    limit(share);
    share.now.told = share.now.held = std::min(request.cap, share.now.most);
    share.now.floor = floor_of(share, request.least);
    share.now.demand = share.now.most;  // until it is known better
    share.ram = request.ram;
    share.far = request.far;
    share.refaults = request.refaults;
    const bool comes_back = request.cap > 0;  // it runs already, whatever we would say
    if (comes_back && jobs_of(peer.user) < share.rule.jobs_max && shares_.size() < config_.jobs_max) {
        lines_.push_back(
            fmt::format("{}: came back with a cap of {}", name_of(peer), size_of(share.now.told)));
        share.said = share.now.told;
    } else if (const auto why = refusal(share)) {
        lines_.push_back(fmt::format("{}: refused: {}", name_of(peer), why->message));
        return refused(*why);
    }
    shares_.emplace(id, std::move(share));
    return std::nullopt;
}

/// What it could use well: what it has and some more, and of what is outside the more, the more of it is
/// wanted back. Rises at once and falls slowly, so that a job that pauses is not emptied.
void Ledger::take_demand(Share& share, const ShareRequest& request, std::chrono::duration<double> since) {
    const double seconds = std::max(since.count(), 0.05);
    const double rate =
        static_cast<double>(request.refaults - std::min(request.refaults, share.refaults)) / seconds;
    share.refault_rate += (rate - share.refault_rate) * std::min(1.0, seconds / 2);
    const double heat = std::min(1.0, share.refault_rate / kHotRefaults);
    const std::uint64_t need = request.ram + request.far;
    const auto demand = std::min(request.ram + request.ram / 4 +
                                     static_cast<std::uint64_t>(static_cast<double>(request.far) * heat),
                                 need + need / 10) +
                        kHeadroom;
    const double kept = std::exp(-seconds / std::chrono::duration<double>(kDemandFades).count());
    const auto faded =
        static_cast<std::uint64_t>(static_cast<double>(std::min(share.now.demand, share.now.most)) * kept);
    share.now.demand = std::max({demand, faded, share.now.floor});
}

/// What it holds, by what it says.
void Ledger::take_cap(Share& share, const ShareRequest& request, Clock::time_point now) {
    ShareNow& what = share.now;
    const bool is_latest = request.serial == share.serial;
    if (is_latest && request.cap > what.told && what.held > what.told) {
        // It could not come down, and has gone back to where it was, and to no more, whatever it says.
        what.told = what.held = share.said = std::min(request.cap, std::max(what.held, share.before));
        share.stuck_at = what.told;
        share.stuck_until = now + kStuck;
        lines_.push_back(
            fmt::format("{}: cannot come down, and has {}", name_of(share.peer), size_of(what.told)));
    }
    // Under its last cap it can only shrink; before it follows that, it may have all that it ever was told.
    // More than it may want is not believed.
    const bool follows = is_latest && request.cap <= what.told;
    what.held = std::max({follows ? 0 : what.held, what.told, std::min(request.ram, what.most)});
}

void Ledger::report(Id id, const ShareRequest& request, Clock::time_point now) {
    const auto found = shares_.find(id);
    if (found == shares_.end()) return;
    Share& share = found->second;
    share.wanted = request.most;
    limit(share);
    share.now.floor = floor_of(share, request.least);
    if (share.now.told > 0) {
        take_demand(share, request, now - share.reported);
        take_cap(share, request, now);
    }
    share.ram = request.ram;
    share.far = request.far;
    share.refaults = request.refaults;
    share.reported = now;
}

void Ledger::release(Id id) {
    const auto found = shares_.find(id);
    if (found == shares_.end()) return;
    const Share share = std::move(found->second);
    shares_.erase(found);
    if (share.now.told == 0) {
        lines_.push_back(fmt::format("{}: went away before it had its share", name_of(share.peer)));
        return;
    }
    lines_.push_back(fmt::format("{}: released {}; {} of {} are held", name_of(share.peer),
                                 size_of(share.now.told), size_of(held()), size_of(config_.ram)));
}

void Ledger::reconfigure(Config config) {
    config_ = std::move(config);
    for (auto& [id, share] : shares_) {
        share.rule = rule_for(config_, share.peer);
        limit(share);
        share.now.floor = floor_of(share, share.least);
    }
}

ShareReply Ledger::granted(const Share& share) const {
    ShareReply reply{.kind = ShareReplyKind::kGranted};
    std::string text;
    for (const auto& url : config_.defaults.swap) text += "swap " + url + "\n";
    for (const auto& prefix : share.rule.stores) text += "store " + prefix + "\n";
    if (!config_.defaults.compress.empty()) text += "compress " + config_.defaults.compress + "\n";
    if (!config_.defaults.on_full.empty()) text += "on-full " + config_.defaults.on_full + "\n";
    text.copy(reply.text, sizeof reply.text - 1);
    return reply;
}

/// One line for the first cap, and one when it has changed by a quarter since the last.
void Ledger::say_cap(Share& share, bool is_first) {
    const std::uint64_t cap = share.now.told;
    const std::uint64_t difference = cap > share.said ? cap - share.said : share.said - cap;
    if (is_first) {
        lines_.push_back(fmt::format("{}: granted {} of {} asked; {} of {} are held", name_of(share.peer),
                                     size_of(cap), size_of(share.wanted), size_of(held()),
                                     size_of(config_.ram)));
    } else if (difference >= share.said / 4) {
        lines_.push_back(
            fmt::format("{}: cap {} instead of {}", name_of(share.peer), size_of(cap), size_of(share.said)));
    } else {
        return;
    }
    share.said = cap;
}

void Ledger::look_for_stuck(Share& share, Clock::time_point now) {
    if (share.stuck_at > 0 && now >= share.stuck_until) share.stuck_at = 0;
    if (share.now.held <= share.now.told) share.stuck_said = 0;
    if (share.stuck_at > 0 || share.now.told == 0 || share.now.held <= share.now.told ||
        now - share.told_at < kComingDown)
        return;
    share.stuck_at = share.now.told;
    share.stuck_until = now + kStuck;
    if (std::exchange(share.stuck_said, share.now.held) == share.now.held) return;
    lines_.push_back(fmt::format("{}: has {} for {} s although its cap is {}: it counts as {}",
                                 name_of(share.peer), size_of(share.ram), kComingDown.count(),
                                 size_of(share.now.told), size_of(share.now.held)));
}

std::vector<Ledger::Outgoing> Ledger::take_replies(Clock::time_point now) {
    std::vector<Outgoing> outgoing;
    std::vector<ShareNow> jobs;
    for (auto& [id, share] : shares_) {
        look_for_stuck(share, now);
        share.now.takes_less = now - share.asked >= kWaitForShare;
        ShareNow job = share.now;
        if (share.stuck_at > 0)
            job.floor = std::clamp(share.stuck_at, job.floor, std::max(job.floor, job.told));
        if (job.told > 0) job.most = std::max(job.most, job.floor);
        jobs.push_back(job);
    }
    // Without a budget any more everybody gets what he wants.
    const auto caps = next_caps(jobs, config_.ram > 0 ? config_.ram : std::uint64_t{1} << 60);
    std::size_t place = 0;
    for (auto& [id, share] : shares_) {
        const std::uint64_t cap = caps[place++];
        if (cap == share.now.told) {
            if (cap > 0 || now - share.asked < kWaitForFloor) continue;
            const Error why{ENOMEM,
                            fmt::format("no room came free within {} s: the machine's budget is {} ({})",
                                        kWaitForFloor.count(), size_of(config_.ram), who_holds())};
            lines_.push_back(fmt::format("{}: refused: {}", name_of(share.peer), why.message));
            outgoing.push_back({id, refused(why), true});
            continue;
        }
        const bool is_first = share.now.told == 0;
        Outgoing one{id, is_first ? granted(share) : ShareReply{.kind = ShareReplyKind::kCap}};
        const bool is_up_to_it = share.now.held <= share.now.told;
        share.before = std::max(is_up_to_it ? 0 : share.before, share.now.told);
        share.now.told = cap;
        share.now.held = std::max(share.now.held, cap);
        share.told_at = now;
        one.reply.serial = ++share.serial;
        one.reply.cap = cap;
        one.reply.budget = config_.ram;
        say_cap(share, is_first);
        outgoing.push_back(one);
    }
    for (const Outgoing& one : outgoing) {
        if (one.is_last) shares_.erase(one.id);
    }
    return outgoing;
}

std::vector<ShareReply> Ledger::entries() const {
    if (!config_.mistake.empty()) return {refused({EINVAL, kMistaken})};
    std::vector<ShareReply> entries;
    for (const auto& [id, share] : shares_) {
        if (share.now.told == 0) continue;
        entries.push_back({.kind = ShareReplyKind::kEntry,
                           .serial = share.serial,
                           .cap = share.now.told,
                           .budget = config_.ram,
                           .held = std::max(share.now.held, share.now.told),
                           .ram = share.ram,
                           .far = share.far,
                           .user = share.peer.user,
                           .process = static_cast<std::uint32_t>(share.peer.process)});
    }
    entries.push_back({.kind = config_.ram > 0 ? ShareReplyKind::kEnd : ShareReplyKind::kNone,
                       .budget = config_.ram,
                       .held = held()});
    return entries;
}

}  // namespace farswap::daemon
