// Lines of farswap top, and what a program gets instead; see top_table.h and top_screen.h.
#include "cli/top_table.h"

#include <algorithm>
#include <array>

#include "cli/top_screen.h"

namespace farswap::cli {

namespace {

constexpr std::size_t kMarker = 1;         // columns before the first, for '>'
constexpr std::size_t kProgramLeast = 10;  // columns; fewer only when nothing else can go

std::string rate_text(const TopJob& job, const History& history) {
    return job.has_rates ? compact(history.back(), 1000) : "-";
}

struct Column {
    std::string_view title;
    std::size_t width;
    bool is_left;
    int keep;  ///< those of the lowest go first
    std::optional<TopSort> sort;
    std::string (*text)(const TopJob&);
};

constexpr std::size_t kUser = 1, kProgram = 2, kShare = 5, kMeterPlace = 6;

const std::array<Column, 13>& columns() {
    static const std::array<Column, 13> all{{
        {"PID", 7, false, 99, TopSort::kPid,
         [](const TopJob& job) {
             // The number that `farswap resume` takes, where it is needed.
             return std::to_string(job.answers ? job.process : job.pager);
         }},
        {"USER", 8, true, 25, {}, [](const TopJob& job) { return job.user_name; }},
        {"PROGRAM", 0, true, 99, {}, [](const TopJob& job) { return job.program; }},
        {"RAM", 5, false, 90, TopSort::kRam,
         [](const TopJob& job) { return compact(static_cast<double>(job.used), 1024); }},
        {"CAP",
         5,
         false,
         80,
         {},
         [](const TopJob& job) { return compact(static_cast<double>(job.cap), 1024); }},
        {"SHARE",
         5,
         false,
         75,
         {},
         [](const TopJob& job) { return job.share ? fmt::format("{:.0f}%", job.share->part() * 100) : "-"; }},
        {"", TopTable::kMeter, true, 1, {}, [](const TopJob&) { return std::string(); }},
        {"FAR", 5, false, 70, TopSort::kFar,
         [](const TopJob& job) { return compact(static_cast<double>(job.far), 1024); }},
        {"FAULT/s", 7, false, 60, TopSort::kFaults,
         [](const TopJob& job) { return rate_text(job, job.fault_rate); }},
        {"IN/s", 5, false, 30, TopSort::kIn, [](const TopJob& job) { return rate_text(job, job.in_rate); }},
        {"OUT/s", 5, false, 20, TopSort::kOut,
         [](const TopJob& job) { return rate_text(job, job.out_rate); }},
        {"RATIO",
         5,
         false,
         3,
         {},
         [](const TopJob& job) {
             return job.compression > 0 ? fmt::format("{:.1f}", job.compression) : "-";
         }},
        {"STATE", 10, true, 50, {}, [](const TopJob& job) { return state_of(job); }},
    }};
    return all;
}

std::string cell(const Column& column, const TopJob& job) {
    return job.figures.is_null() && column.width != 0 && column.title != "PID" && column.title != "USER" &&
                   column.title != "STATE"
               ? "-"
               : column.text(job);
}

Style style_of(const Column& column, const std::string& text) {
    if (column.title == "STATE") return text == "ok" ? Style::kGood : Style::kBad;
    return Style::kPlain;
}

}  // namespace

TopTable::TopTable(std::size_t width, bool with_users, bool with_shares) {
    std::vector<std::size_t> shown;
    for (std::size_t i = 0; i < columns().size(); ++i)
        if ((i != kUser || with_users) && (i != kShare || with_shares)) shown.push_back(i);
    const auto taken = [&] {
        std::size_t sum = kMarker;
        for (const auto i : shown) sum += columns()[i].width + 1;
        return sum - 1;
    };
    while (taken() + kProgramLeast > width) {
        const auto least =
            std::ranges::min_element(shown, {}, [](std::size_t i) { return columns()[i].keep; });
        if (columns()[*least].keep >= 99) break;
        shown.erase(least);
    }
    const std::size_t program = width > taken() ? width - taken() : 1;
    std::size_t at = kMarker;
    for (const auto i : shown) {
        const std::size_t own = i == kProgram ? program : columns()[i].width;
        places_.push_back({i, at, own});
        at += own + 1;
    }
}

void TopTable::heading(TextGrid& grid, std::size_t row, std::optional<TopSort> sort) const {
    for (const auto& [which, begin, width] : places_) {
        const Column& column = columns()[which];
        const bool is_key = sort && column.sort == sort;
        if (column.is_left)
            grid.put(row, begin, column.title, Style::kPlain, width);
        else
            grid.put_right(row, begin + width, column.title, is_key ? Style::kSelected : Style::kPlain);
    }
}

void TopTable::line(TextGrid& grid, std::size_t row, const TopJob& job) const {
    for (const auto& [which, begin, width] : places_) {
        const Column& column = columns()[which];
        const auto text = cell(column, job);
        if (column.is_left)
            grid.put(row, begin, text, style_of(column, text), width);
        else
            grid.put_right(row, begin + width, text);
    }
}

std::optional<std::size_t> TopTable::meter_column() const {
    const auto found = std::ranges::find(places_, kMeterPlace, &Place::which);
    if (found == places_.end()) return std::nullopt;
    return found->begin;
}

bool has_shares(const std::vector<const TopJob*>& jobs) {
    return std::ranges::any_of(jobs, [](const TopJob* job) { return job->share.has_value(); });
}

std::string compact(double value, double step) {
    constexpr std::array<std::string_view, 6> kUnits{"", "K", "M", "G", "T", "P"};
    std::size_t unit = 0;
    while (unit + 1 < kUnits.size() && value >= step - 0.5) {
        value /= step;
        ++unit;
    }
    if (unit > 0 && value < 9.95) return fmt::format("{:.1f}{}", value, kUnits[unit]);
    return fmt::format("{:.0f}{}", value, kUnits[unit]);
}

std::string state_of(const TopJob& job) {
    if (!job.answers) return "no answer";
    if (job.figures.is_null()) return "unknown";
    if (job.leaving) return fmt::format("back {}", compact(static_cast<double>(*job.leaving), 1024));
    if (job.is_full) return "full";
    const auto bad =
        std::ranges::find_if(job.stores, [](const TopStore& store) { return store.state != "ok"; });
    if (bad == job.stores.end()) return "ok";
    return bad->state == "silent" ? fmt::format("silent {:.0f}s", bad->silent_s) : bad->state;
}

std::string top_table(const std::vector<TopJob>& jobs) {
    if (jobs.empty()) return "no job of farswap runs here, or none that you may see\n";
    const auto order = in_order(jobs, TopSort::kPid);
    const bool with_shares = has_shares(order);
    const std::size_t width = with_shares ? 95 : 89;  // the meter has no room
    const TopTable layout(width, true, with_shares);
    TextGrid grid(order.size() + 1, width);
    layout.heading(grid, 0, std::nullopt);
    for (std::size_t i = 0; i < order.size(); ++i) {
        layout.line(grid, i + 1, *order[i]);
    }
    return grid.text();
}

nlohmann::json top_json(const std::vector<TopJob>& jobs) {
    auto array = nlohmann::json::array();
    for (const auto* job : in_order(jobs, TopSort::kPid)) {
        auto one = job->figures.is_object() ? job->figures : nlohmann::json::object();
        one["pager"] = job->pager;
        one["user"] = job->user;
        one["answers"] = job->answers;
        one["rates"] = nullptr;
        if (job->has_rates)
            one["rates"] = {{"faults_per_second", job->fault_rate.back()},
                            {"in_bytes_per_second", job->in_rate.back()},
                            {"out_bytes_per_second", job->out_rate.back()}};
        array.push_back(std::move(one));
    }
    return array;
}

}  // namespace farswap::cli
