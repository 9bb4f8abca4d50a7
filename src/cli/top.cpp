#include "cli/top.h"

#include <locale.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

// Behind this header many short words are macros.
#define NCURSES_NOMACROS 1
#define NCURSES_WIDECHAR 1
#include <ncurses.h>

#include <langinfo.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "cli/set.h"
#include "cli/setup_signals.h"
#include "cli/top_jobs.h"
#include "cli/top_screen.h"
#include "cli/top_view.h"

namespace farswap::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPatience{400};  // of a look, with those who answered the last time
constexpr std::chrono::milliseconds kSetPatience{2000};
constexpr std::chrono::milliseconds kSignalsLookedFor{500};

std::string host_name() {
    char name[65] = {};
    gethostname(name, sizeof name - 1);
    return name;
}

std::string time_of_day() {
    const time_t now = time(nullptr);
    tm parts{};
    localtime_r(&now, &parts);
    return fmt::format("{:02}:{:02}:{:02}", parts.tm_hour, parts.tm_min, parts.tm_sec);
}

/// The terminal while it is ours.
class Terminal {
  public:
    Terminal() : screen_(newterm(nullptr, stdout, stdin)) {
        if (screen_ == nullptr) return;
        cbreak();
        noecho();
        nodelay(stdscr, TRUE);
        keypad(stdscr, TRUE);
        set_escdelay(25);
        curs_set(0);
        if (getenv("NO_COLOR") == nullptr && has_colors()) choose_colours();
    }
    ~Terminal() {
        if (screen_ == nullptr) return;
        endwin();
        delscreen(screen_);
    }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;

    bool is_there() const { return screen_ != nullptr; }
    void show(const TextGrid& grid);
    /// The next key that was pressed; nothing: none was.
    static std::optional<char32_t> key();

  private:
    void choose_colours();
    void look_of(Style style, attr_t& attributes, short& pair) const;

    SCREEN* screen_;
    bool coloured_ = false;
};

void Terminal::choose_colours() {
    start_color();
    use_default_colors();
    short pair = 1;
    for (const int colour : {COLOR_CYAN, COLOR_GREEN, COLOR_YELLOW, COLOR_RED})
        init_pair(pair++, static_cast<short>(colour), -1);
    coloured_ = true;
}

void Terminal::look_of(Style style, attr_t& attributes, short& pair) const {
    attributes = A_NORMAL;
    pair = 0;
    const auto colour = [&](short which) { pair = coloured_ ? which : pair; };
    switch (style) {
        case Style::kPlain:
            break;
        case Style::kBold:
            attributes = A_BOLD;
            break;
        case Style::kDim:
            attributes = A_DIM;
            break;
        case Style::kHeading:
            attributes = A_UNDERLINE;
            break;
        case Style::kSelected:
            attributes = A_REVERSE;
            break;
        case Style::kGraph:
            colour(1);
            break;
        case Style::kGood:
            colour(2);
            break;
        case Style::kWarning:
            colour(3);
            break;
        case Style::kBad:
            attributes = A_BOLD;
            colour(4);
            break;
    }
}

void Terminal::show(const TextGrid& grid) {
    for (std::size_t row = 0; row < grid.rows(); ++row) {
        for (std::size_t column = 0; column < grid.columns(); ++column) {
            const Cell& cell = grid.at(row, column);
            const wchar_t text[2] = {static_cast<wchar_t>(cell.glyph), 0};
            attr_t attributes;
            short pair;
            look_of(cell.style, attributes, pair);
            cchar_t character;
            setcchar(&character, text, attributes, pair, nullptr);
            mvadd_wch(static_cast<int>(row), static_cast<int>(column), &character);
        }
    }
    refresh();
}

std::optional<char32_t> Terminal::key() {
    wint_t pressed = 0;
    const int kind = get_wch(&pressed);
    if (kind == ERR) return std::nullopt;
    if (kind != KEY_CODE_YES) {
        if (pressed == '\r') return key::kEnter;
        return pressed == '\b' ? key::kBackspace : static_cast<char32_t>(pressed);
    }
    switch (pressed) {
        case KEY_UP:
            return key::kUp;
        case KEY_DOWN:
            return key::kDown;
        case KEY_PPAGE:
            return key::kPageUp;
        case KEY_NPAGE:
            return key::kPageDown;
        case KEY_HOME:
            return key::kHome;
        case KEY_END:
            return key::kEnd;
        case KEY_ENTER:
            return key::kEnter;
        case KEY_BACKSPACE:
            return key::kBackspace;
        default:
            return U'\0';  // KEY_RESIZE too: the screen is drawn anew
    }
}

/// The live screen.
class Top {
  public:
    explicit Top(const TopOptions& options)
        : interval_(std::chrono::duration_cast<Clock::duration>(
              std::chrono::duration<double>(options.interval_s))) {
        screen_.host = host_name();
        screen_.unicode = std::string_view(nl_langinfo(CODESET)) == "UTF-8";
    }
    Ending run();

  private:
    void draw();
    bool take_keys();
    void act(const TopAction& action);
    void wait() const;

    const Clock::duration interval_;
    Clock::time_point next_look_ = Clock::now();
    TopJobs jobs_;
    TopView view_;
    ScreenOptions screen_;
    std::unique_ptr<Terminal> terminal_;
};

Ending Top::run() {
    const SetupSignals signals;
    terminal_ = std::make_unique<Terminal>();
    if (!terminal_->is_there()) {
        const char* type = getenv("TERM");
        log::write_line(
            fmt::format("the terminal type '{}' is not known here; set TERM, or use farswap top --once",
                        type == nullptr ? "" : type));
        return {kExitFailure, 0};
    }
    for (;;) {
        if (Clock::now() >= next_look_) {
            jobs_.look(kPatience);
            next_look_ = Clock::now() + interval_;
            if (auto told = jobs_.take_message(); !told.empty()) view_.message = std::move(told);
        }
        draw();
        wait();
        if (const int signal = signals.taken()) {
            terminal_.reset();
            return {128 + signal, signal};
        }
        if (!take_keys()) return {0, 0};
    }
}

void Top::draw() {
    screen_.rows = static_cast<std::size_t>(std::max(LINES, 1));
    screen_.columns = static_cast<std::size_t>(std::max(COLS, 1));
    screen_.time = time_of_day();
    terminal_->show(draw_top(view_, jobs_.jobs(), screen_));
}

/// For a key, a signal or the next look. A signal may come just before poll(2): it is looked for twice a
/// second.
void Top::wait() const {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next_look_ - Clock::now());
    const auto limit =
        std::clamp<std::chrono::milliseconds>(left, std::chrono::milliseconds(1), kSignalsLookedFor);
    pollfd key{STDIN_FILENO, POLLIN, 0};
    poll(&key, 1, static_cast<int>(limit.count()));
    // The terminal is gone, and so is whoever looks at it.
    if ((key.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) raise(SIGHUP);
}

bool Top::take_keys() {
    while (const auto pressed = Terminal::key()) {
        const auto action = press(view_, jobs_.jobs(), *pressed);
        if (action.kind == TopAction::Kind::kQuit) return false;
        act(action);
    }
    return true;
}

void Top::act(const TopAction& action) {
    if (action.kind == TopAction::Kind::kNone) return;
    const TopJob* job = find_job(jobs_.jobs(), action.pager);
    if (job == nullptr) {
        view_.message = "that job has ended";
    } else if (action.kind == TopAction::Kind::kSetCap) {
        const auto change = set_ram_of(job->process, action.ram, kSetPatience);
        view_.message = change ? what_budget_leaves(*change, action.ram) : change.error().message;
        if (view_.message.empty()) view_.message = describe(*change);
    } else if (auto begun = jobs_.detach(action.pager); !begun) {
        view_.message = begun.error().message;
    } else {
        view_.message =
            fmt::format("{} gets its memory back; to quit before it has stops that", job->process);
    }
    next_look_ = Clock::now();
}

int print_once(const TopOptions& options) {
    TopJobs jobs;
    jobs.look(std::chrono::seconds(2));
    if (!jobs.jobs().empty()) {
        poll(nullptr, 0, static_cast<int>(options.interval_s * 1000));
        jobs.look(std::chrono::seconds(2));
    }
    const auto text =
        options.json
            ? top_json(jobs.jobs()).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"
            : top_table(jobs.jobs());
    return std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0 ? 0 : kExitFailure;
}

}  // namespace

Ending top_command(const TopOptions& options) {
    if (options.once || options.json || isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1)
        return {print_once(options), 0};
    setlocale(LC_CTYPE, "");
    return Top(options).run();
}

}  // namespace farswap::cli
