// Collects the jobs' figures; see top_jobs.h.
#include "cli/top_jobs.h"

#include <poll.h>
#include <pwd.h>

#include <algorithm>

#include "farswap/request.h"

namespace farswap::cli {

namespace {

constexpr double kIntervalLeast_s = 0.02;  // rates over less say nothing
constexpr std::size_t kStoresMax = 64;

std::string name_of_user(uid_t user) {
    passwd entry{};
    passwd* found = nullptr;
    std::string room(4096, '\0');
    if (getpwuid_r(user, &entry, room.data(), room.size(), &found) == 0 && found != nullptr)
        return entry.pw_name;
    return std::to_string(user);
}

std::string base_name(const std::string& path) {
    return path.substr(path.rfind('/') + 1);
}

double rate(std::uint64_t now, std::uint64_t before, double seconds) {
    return now > before ? static_cast<double>(now - before) / seconds : 0;
}

void note(History& history, double value) {
    history.push_back(value);
    if (history.size() > kHistoryMax) history.pop_front();
}

TopStore store_of(const nlohmann::json& json) {
    return {.name = json.at("name"),
            .state = json.at("state"),
            .silent_s = json.at("silent_s"),
            .capacity = json.at("capacity_bytes"),
            .reserved = json.at("reserved_bytes"),
            .read = json.at("read_bytes"),
            .written = json.at("written_bytes")};
}

TopJob read_job(const nlohmann::json& stats) {
    TopJob job;
    job.pager = stats.at("pager");
    job.user = stats.at("user");
    job.command = stats.at("command");
    job.program = base_name(job.command.substr(0, job.command.find(' ')));
    job.elapsed_s = stats.at("elapsed_s");
    const auto& memory = stats.at("memory");
    job.used = memory.at("used_bytes");
    job.cap = memory.at("cap_bytes");
    job.pager_ram = memory.at("pager_bytes");
    job.far = memory.at("far_bytes");
    job.need = memory.at("need_bytes");
    job.pool_dirty = stats.at("pool").at("dirty_bytes");
    job.pool_clean = stats.at("pool").at("clean_bytes");
    const auto& faults = stats.at("faults");
    job.faults = faults.at("all");
    job.faults_cached = faults.at("cached");
    job.faults_stored = faults.at("stored");
    job.waited_ms = faults.at("waited_for_room_ms");
    job.pages_in = stats.at("pages").at("in");
    job.pages_written = stats.at("pages").at("written");
    if (faults.contains("latency")) {
        for (const auto& bucket : faults.at("latency").at("refaults").at("buckets"))
            job.refaults[bucket.at(0)] = bucket.at(1);
        job.latency = percentiles_between({}, job.refaults);
    }
    const auto& pids = stats.at("processes").at("pids");
    job.processes = pids.size();
    job.process = pids.empty() ? job.pager : pids.at(0).get<pid_t>();
    const double stored = stats.at("compression").at("stored_bytes");
    if (stored > 0) job.compression = stats.at("compression").at("page_bytes").get<double>() / stored;
    const double capacity = stats.at("slots").at("capacity");
    if (capacity > 0) job.slots_used = stats.at("slots").at("used").get<double>() / capacity;
    job.is_full = stats.at("slots").at("full");
    // A pager of an older version says nothing of it.
    if (const auto share = stats.find("share"); share != stats.end() && !share->is_null())
        job.share = {.cap = share->at("cap_bytes"),
                     .wanted = share->at("wanted_bytes"),
                     .budget = share->at("budget_bytes"),
                     .is_connected = share->at("connected")};
    for (const auto& store : stats.at("stores"))
        if (job.stores.size() < kStoresMax) job.stores.push_back(store_of(store));
    return job;
}

}  // namespace

Percentiles percentiles_between(const LatencyCounts& before, const LatencyCounts& now) {
    const auto more = [&](const LatencyCounts::value_type& bucket) {
        const auto earlier = before.find(bucket.first);
        const auto had = earlier == before.end() ? 0 : earlier->second;
        return bucket.second > had ? bucket.second - had : 0;
    };
    std::uint64_t all = 0;
    for (const auto& bucket : now) all += more(bucket);
    const auto quantile = [&](double share) {
        std::uint64_t seen = 0;
        for (const auto& bucket : now) {
            seen += more(bucket);
            if (seen > 0 && static_cast<double>(seen) >= share * static_cast<double>(all))
                return bucket.first;
        }
        return 0.0;
    };
    return {quantile(0.5), quantile(0.99)};
}

std::optional<TopJob> job_of(const nlohmann::json& stats) {
    try {
        auto job = read_job(stats);
        job.figures = stats;
        return job;
    } catch (const nlohmann::json::exception&) {
        return std::nullopt;
    }
}

void advance(TopJob& job, TopJob now) {
    const double seconds = now.elapsed_s - job.elapsed_s;
    now.pager = job.pager;  // whatever it says
    now.user = job.user;
    now.user_name = job.user_name;
    now.leaving = job.leaving;
    now.fault_rate = std::move(job.fault_rate);
    now.in_rate = std::move(job.in_rate);
    now.out_rate = std::move(job.out_rate);
    now.latency_now = job.latency_now;
    const bool is_first = job.figures.is_null();
    if (!is_first && seconds >= kIntervalLeast_s) {
        const auto page = static_cast<double>(kPageSize);
        note(now.fault_rate, rate(now.faults, job.faults, seconds));
        note(now.in_rate, rate(now.pages_in, job.pages_in, seconds) * page);
        note(now.out_rate, rate(now.pages_written, job.pages_written, seconds) * page);
        now.latency_now = percentiles_between(job.refaults, now.refaults);
        for (std::size_t i = 0; i < std::min(now.stores.size(), job.stores.size()); ++i) {
            now.stores[i].read_rate = rate(now.stores[i].read, job.stores[i].read, seconds);
            now.stores[i].written_rate = rate(now.stores[i].written, job.stores[i].written, seconds);
        }
    }
    now.has_rates = !now.fault_rate.empty();
    job = std::move(now);
}

void TopJobs::look(std::chrono::milliseconds patience) {
    const auto until = std::chrono::steady_clock::now() + patience;
    find();
    for (auto& link : links_) ask(link);
    for (;;) {
        take_answers();
        std::vector<pollfd> waited;
        for (std::size_t i = 0; i < links_.size(); ++i)
            if (is_waited_for(i)) waited.push_back({links_[i].socket.get(), POLLIN, 0});
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
        if (waited.empty() || left.count() <= 0) break;
        if (poll(waited.data(), waited.size(), static_cast<int>(left.count())) < 0) break;
    }
    for (std::size_t i = 0; i < links_.size(); ++i)
        if (links_[i].is_asked) jobs_[i].answers = false;
    bury();
}

void TopJobs::find() {
    for (const pid_t pager : running_pagers()) {
        if (std::ranges::find(links_, pager, &Link::pager) != links_.end()) continue;
        auto socket = connect_without_waiting(pager);
        if (!socket) continue;
        const auto user = user_of(socket->get());
        if (!user) continue;
        links_.push_back({.pager = pager, .socket = std::move(*socket), .detaching = {}});
        TopJob& job = jobs_.emplace_back();
        job.pager = job.process = pager;
        job.user = *user;
        job.user_name = name_of_user(*user);
    }
}

void TopJobs::ask(Link& link) {
    if (!link.is_asked) link.is_asked = send_json(link.socket.get(), {{"do", "stats"}});
}

void TopJobs::take_answers() {
    for (std::size_t i = 0; i < links_.size(); ++i) {
        auto& link = links_[i];
        if (link.detaching) take_progress(link, jobs_[i]);
        const auto answer = receive_json(link.socket.get());
        if (!answer && answer.error().code == EAGAIN) continue;
        if (!answer || !*answer) {
            link.is_gone = true;
            link.is_asked = false;
            continue;
        }
        link.is_asked = false;
        jobs_[i].answers = true;
        if (auto now = job_of(**answer)) advance(jobs_[i], std::move(*now));
    }
}

void TopJobs::take_progress(Link& link, TopJob& job) {
    for (;;) {
        const auto told = receive_json(link.detaching.get());
        if (!told && told.error().code == EAGAIN) return;
        const bool is_over = told && *told && (*told)->contains("done") && (**told)["done"] == true;
        if (told && *told && !is_over && (*told)->contains("far_bytes") &&
            (**told)["far_bytes"].is_number()) {
            job.leaving = (**told)["far_bytes"].get<std::uint64_t>();
            continue;
        }
        if (told && *told && (*told)->contains("error") && (**told)["error"].is_string())
            message_ = (**told)["error"].get<std::string>();
        else if (is_over || !told || !*told)
            message_ = fmt::format("{} runs without farswap now", job.process);
        job.leaving.reset();
        link.detaching.reset();
        return;
    }
}

void TopJobs::bury() {
    for (std::size_t i = links_.size(); i-- > 0;) {
        if (!links_[i].is_gone) continue;
        links_.erase(links_.begin() + static_cast<std::ptrdiff_t>(i));
        jobs_.erase(jobs_.begin() + static_cast<std::ptrdiff_t>(i));
    }
}

Status TopJobs::detach(pid_t pager) {
    const auto link = std::ranges::find(links_, pager, &Link::pager);
    if (link == links_.end()) return fail(ESRCH, "that job has ended");
    auto socket = connect_without_waiting(pager);
    if (!socket) return std::unexpected(socket.error());
    if (!send_json(socket->get(), {{"do", "detach"}, {"process", 0}}))
        return fail(EPIPE, "pager {} does not answer", pager);
    link->detaching = std::move(*socket);
    return {};
}

bool TopJobs::is_detaching() const {
    return std::ranges::any_of(links_, [](const Link& link) { return bool(link.detaching); });
}

}  // namespace farswap::cli
