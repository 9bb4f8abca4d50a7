// Draws farswap top; see top_screen.h.
#include "cli/top_screen.h"

#include <algorithm>
#include <cmath>

#include "cli/sizes.h"
#include "cli/top_table.h"

namespace farswap::cli {

namespace {

constexpr std::size_t kRowsForDetails = 14, kRowsForTallGraphs = 24;
constexpr std::size_t kLabel = 9;        // columns before a graph
constexpr std::size_t kFigures = 21;     // columns behind it
constexpr std::size_t kStoresShown = 3;  // lines at most

std::string duration(double seconds) {
    const auto s = static_cast<std::uint64_t>(seconds);
    if (s < 60) return fmt::format("{} s", s);
    if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
    if (s < 86400) return fmt::format("{} h {} min", s / 3600, s / 60 % 60);
    return fmt::format("{} d {} h", s / 86400, s / 3600 % 24);
}

std::string text_of(const Percentiles& latency) {
    if (latency.p99_us == 0) return "-";
    return fmt::format("p50 {}  p99 {}", format_latency(latency.p50_us), format_latency(latency.p99_us));
}

std::size_t store_lines(const TopJob& job) {
    return std::clamp<std::size_t>(job.stores.size(), 1, kStoresShown);
}

/// One drawing of the screen.
class Screen {
  public:
    Screen(const TopView& view, const std::vector<TopJob>& jobs, const ScreenOptions& options)
        : view_(view),
          options_(options),
          order_(in_order(jobs, view.sort)),
          grid_(options.rows, options.columns) {}

    TextGrid draw() &&;

  private:
    void head();
    void table(std::size_t first_row, std::size_t end_row);
    void details(const TopJob& job, std::size_t row);
    void meter(std::size_t row, std::size_t column, std::size_t width, const TopJob& job);
    void graph(std::size_t row, std::size_t height, std::string_view label, const History& history,
               bool bytes);
    void bar(std::size_t row, std::size_t column, std::size_t height, double share);
    void share(std::size_t row, const TopShare& share);
    void store(std::size_t row, const TopStore& store);
    void foot();
    std::string question() const;

    std::size_t graph_rows() const { return options_.rows >= kRowsForTallGraphs ? 2 : 1; }
    std::size_t detail_rows(const TopJob& job) const {
        return 2 + (job.share ? 1 : 0) + 3 * graph_rows() + 3 + store_lines(job);
    }

    const TopView& view_;
    const ScreenOptions& options_;
    std::vector<const TopJob*> order_;
    TextGrid grid_;
};

TextGrid Screen::draw() && {
    if (options_.rows == 0 || options_.columns == 0) return std::move(grid_);
    head();
    const std::size_t foot_row = options_.rows - 1;
    std::size_t end = foot_row;
    if (!order_.empty() && options_.rows >= kRowsForDetails) {
        const TopJob& job = *order_[selected_place(view_, order_)];
        // At least the heading and a line of jobs.
        end = std::max<std::size_t>(4, foot_row > detail_rows(job) ? foot_row - detail_rows(job) : 0);
        details(job, end);
    }
    if (order_.empty()) {
        grid_.put(3, 2, "No job of farswap runs here, or none that you may see.", Style::kBold);
        grid_.put(4, 2, "farswap run --ram 2G -- PROGRAM starts one.");
    } else {
        table(2, end);
    }
    foot();
    return std::move(grid_);
}

void Screen::head() {
    std::uint64_t used = 0, cap = 0, far = 0;
    for (const auto* job : order_) used += job->used, cap += job->cap, far += job->far;
    std::size_t at = grid_.put(0, 0, "farswap top", Style::kBold);
    at = grid_.put(0, at + 2, options_.host, Style::kPlain, 20);
    at = grid_.put(0, at + 2,
                   fmt::format("{} job{}  RAM {} of {}  far {}", order_.size(), order_.size() == 1 ? "" : "s",
                               format_size(used), format_size(cap), format_size(far)));
    const auto end = options_.columns;
    if (at + 2 + options_.time.size() <= end) grid_.put_right(0, end, options_.time);
}

void Screen::table(std::size_t first_row, std::size_t end_row) {
    bool several_users = false;
    for (const auto* job : order_) several_users |= job->user != order_[0]->user;
    const TopTable layout(options_.columns, several_users, has_shares(order_));
    const auto selected = selected_place(view_, order_);
    std::size_t at = first_row;
    layout.heading(grid_, at, view_.sort);
    grid_.style_row(at++, Style::kHeading);
    const std::size_t lines = end_row > at ? end_row - at : 0;
    if (lines == 0) return;
    const std::size_t from = selected < lines ? 0 : selected - lines + 1;
    for (std::size_t i = from; i < order_.size() && at < end_row; ++i, ++at) {
        const TopJob& job = *order_[i];
        layout.line(grid_, at, job);
        if (const auto column = layout.meter_column()) meter(at, *column, TopTable::kMeter, job);
        if (i != selected) continue;
        grid_.put(at, 0, U'>', Style::kBold);
        grid_.style_row(at, Style::kSelected);
    }
}

/// As much of `width` as the job has of its cap.
void Screen::meter(std::size_t row, std::size_t column, std::size_t width, const TopJob& job) {
    const double share = job.cap > 0 ? static_cast<double>(job.used) / static_cast<double>(job.cap) : 0;
    const auto style = share > 1.02 ? Style::kBad : share > 0.97 ? Style::kWarning : Style::kGood;
    const auto eighths =
        static_cast<std::size_t>(std::lround(std::clamp(share, 0.0, 1.0) * static_cast<double>(width * 8)));
    for (std::size_t i = 0; i < width; ++i) {
        const auto part = std::min<std::size_t>(8, eighths > i * 8 ? eighths - i * 8 : 0);
        if (!options_.unicode)
            grid_.put(row, column + i, part >= 4 ? U'#' : U'.', part >= 4 ? style : Style::kDim);
        else if (part > 0)
            grid_.put(row, column + i, static_cast<char32_t>(0x2590 - part), style);  // left eighths
        else
            grid_.put(row, column + i, U'\u00b7', Style::kDim);
    }
}

void Screen::details(const TopJob& job, std::size_t row) {
    const auto rule = options_.unicode ? U'\u2500' : U'-';
    for (std::size_t i = 0; i < options_.columns; ++i) grid_.put(row, i, rule, Style::kDim);
    auto title = fmt::format(" {} {} ", job.process, job.command);
    std::ranges::replace_if(
        title, [](char c) { return c == '\n' || c == '\t'; }, ' ');
    grid_.put(row++, 2, title, Style::kBold, options_.columns > 4 ? options_.columns - 4 : 0);

    const std::size_t width =
        options_.columns > kLabel + kFigures + 8 ? options_.columns - kLabel - kFigures : 8;
    grid_.put(row, 1, "RAM");
    meter(row, kLabel, width - 2, job);
    grid_.put(row++, kLabel + width, fmt::format("{} of {}", format_size(job.used), format_size(job.cap)));
    if (job.share) share(row++, *job.share);
    graph(row, graph_rows(), "faults", job.fault_rate, false);
    graph(row += graph_rows(), graph_rows(), "in", job.in_rate, true);
    graph(row += graph_rows(), graph_rows(), "out", job.out_rate, true);
    row += graph_rows();

    const auto ratio = job.compression > 0 ? fmt::format("  ratio {:.1f}", job.compression) : std::string();
    const auto text = fmt::format("far {}{}  need {}  pager {}  cache {}", format_size(job.far), ratio,
                                  format_size(job.need), format_size(job.pager_ram),
                                  format_size(job.pool_clean + job.pool_dirty));
    grid_.put(row++, 1, text);
    const auto percent = [&](std::uint64_t part) { return job.faults > 0 ? part * 100 / job.faults : 0; };
    grid_.put(
        row++, 1,
        fmt::format("up {}  processes {}  faults: cache {}%, store {}%  waited {:.1f} s  swap {:.0f}% full",
                    duration(job.elapsed_s), job.processes, percent(job.faults_cached),
                    percent(job.faults_stored), static_cast<double>(job.waited_ms) / 1000,
                    job.slots_used * 100));
    grid_.put(row++, 1,
              fmt::format("latency {}  since the start {}", text_of(job.latency_now), text_of(job.latency)));
    const auto shown = std::min(job.stores.size(), kStoresShown);
    for (std::size_t i = 0; i < shown; ++i) store(row + i, job.stores[i]);
    if (job.stores.size() > shown)
        grid_.put_right(row + shown - 1, options_.columns,
                        fmt::format("  and {} more", job.stores.size() - shown));
}

void Screen::graph(std::size_t row, std::size_t height, std::string_view label, const History& history,
                   bool bytes) {
    const std::size_t width =
        options_.columns > kLabel + kFigures + 8 ? options_.columns - kLabel - kFigures : 8;
    const std::size_t room = width - 2;
    const std::size_t count = std::min(history.size(), room);
    double most = 0;
    for (std::size_t i = history.size() - count; i < history.size(); ++i) most = std::max(most, history[i]);
    for (std::size_t i = 0; i < count; ++i) {
        const double value = history[history.size() - count + i];
        bar(row, kLabel + room - count + i, height, most > 0 ? value / most : 0);
    }
    const auto text = [&](double value) { return bytes ? format_rate(value) : format_count(value) + "/s"; };
    grid_.put(row, 1, label);
    grid_.put(row, kLabel + width, text(last(history)), Style::kBold);
    const auto top = fmt::format("max {}", text(most));
    if (height > 1)
        grid_.put(row + 1, kLabel + width, top, Style::kDim);
    else
        grid_.put(row, kLabel + width + 10, top, Style::kDim);
}

/// A column of a graph, upwards from the lowest of `height` rows.
void Screen::bar(std::size_t row, std::size_t column, std::size_t height, double share) {
    constexpr std::u32string_view kAscii = U" ..::||##";
    auto eighths = static_cast<std::size_t>(std::lround(share * static_cast<double>(height * 8)));
    if (share > 0) eighths = std::max<std::size_t>(eighths, 1);
    for (std::size_t i = 0; i < height; ++i) {
        const auto part = std::min<std::size_t>(8, eighths > i * 8 ? eighths - i * 8 : 0);
        const std::size_t at = row + height - 1 - i;
        if (part > 0 && options_.unicode)
            grid_.put(at, column, static_cast<char32_t>(0x2580 + part), Style::kGraph);  // lower eighths
        else if (part > 0)
            grid_.put(at, column, kAscii[part], Style::kGraph);
        else if (i == 0)
            grid_.put(at, column, options_.unicode ? U'\u2581' : U'_', Style::kDim);
    }
}

void Screen::share(std::size_t row, const TopShare& share) {
    grid_.put(row, 1, "share");
    const auto at = grid_.put(row, kLabel,
                              fmt::format("{}, {:.0f}% of this machine's {}", format_size(share.cap),
                                          share.part() * 100, format_size(share.budget)));
    if (!share.is_connected)
        grid_.put(row, at, "; farswapd is away, it stays", Style::kWarning);
    else if (share.wanted > share.cap)
        grid_.put(row, at, fmt::format("; it may have {}", format_size(share.wanted)));
}

void Screen::store(std::size_t row, const TopStore& store) {
    const bool is_good = store.state == "ok";
    const auto state = store.state == "silent" ? fmt::format("silent {:.0f} s", store.silent_s) : store.state;
    grid_.put(row, 1, "store");
    const auto at = grid_.put(row, kLabel, state, is_good ? Style::kGood : Style::kBad) + 2;
    const auto figures = fmt::format("  {}  read {}  written {}", format_size(store.reserved),
                                     format_rate(store.read_rate), format_rate(store.written_rate));
    const bool fits = at + figures.size() + 8 <= options_.columns;
    const std::size_t end = fits ? options_.columns - figures.size() : options_.columns;
    grid_.put(row, at, store.name, Style::kPlain, end > at ? end - at : 0);
    if (fits) grid_.put_right(row, options_.columns, figures);
}

std::string Screen::question() const {
    const auto job = std::ranges::find(order_, view_.asked_about, &TopJob::pager);
    if (view_.prompt == TopPrompt::kNone || job == order_.end()) return {};
    if (view_.prompt == TopPrompt::kCap)
        return fmt::format("new cap of {} (now {}): {}_", (*job)->process, format_size((*job)->cap),
                           view_.typed);
    return fmt::format("detach {} from farswap, and bring {} back into RAM? (y/n)", (*job)->process,
                       format_size((*job)->far));
}

void Screen::foot() {
    const std::size_t row = options_.rows - 1;
    if (const auto asked = question(); !asked.empty()) {
        grid_.put(row, 0, asked, Style::kBold);
    } else if (!view_.message.empty()) {
        grid_.put(row, 0, view_.message, Style::kBold);
    } else {
        const auto text =
            fmt::format("q quit  {} job  c cap  d detach  sort: r RAM a far f faults i in o out p PID",
                        options_.unicode ? "\u2191\u2193" : "up/down");
        grid_.put(row, 0, text, Style::kDim);
    }
}

}  // namespace

TextGrid draw_top(const TopView& view, const std::vector<TopJob>& jobs, const ScreenOptions& options) {
    return Screen(view, jobs, options).draw();
}

}  // namespace farswap::cli
