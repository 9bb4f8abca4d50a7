// farswap run; see run.h.
#include "cli/run.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

#include "base/log.h"
#include "cli/budget.h"
#include "cli/chaos_store.h"
#include "cli/control_server.h"
#include "cli/job_name.h"
#include "cli/job_pool.h"
#include "cli/live_line.h"
#include "cli/live_stats.h"
#include "cli/machine_share.h"
#include "cli/metrics_server.h"
#include "cli/metrics_text.h"
#include "cli/pager_protection.h"
#include "cli/probe.h"
#include "cli/report.h"
#include "cli/report_page.h"
#include "cli/setup_signals.h"
#include "cli/size_text.h"
#include "cli/stats_file.h"
#include "cli/store_set.h"
#include "cli/user_time.h"
#include "keeper/keeper.h"
#include "pager/budget.h"
#include "pager/kill_census.h"
#include "store/no_store.h"
#include "store/open.h"
#include "target/attachable.h"
#include "target/proc.h"

/// Where the linker has put the program: ld(1), its default script.
extern const char __executable_start;  // NOLINT(bugprone-reserved-identifier)

namespace farswap::cli {

namespace {

/// A write-out in flight to a slow server may take this long to end; what has not begun is dropped.
constexpr std::chrono::seconds kShutdownLimit{10};
/// Where farswap size chooses the cap: this at first, and then the need divided by so much.
constexpr std::uint64_t kSizesFrom = std::uint64_t{20} << 20;
constexpr std::uint64_t kSizesPart = 5;

/// One execution of `farswap run`. Members are in the order in which they depend on each other.
class Run {
  public:
    explicit Run(const RunOptions& options) : options_(options) {
        report_.program = options.processes.empty()
                              ? options.argv[0]
                              : fmt::format("process {}", fmt::join(options.processes, ", "));
    }
    Ending execute();

  private:
    bool follows_need() const { return options_.ram.bytes == 0 && options_.ram.percent == 0; }
    Status check_processes();
    Status check_urls();
    Status refuse_unfit_machine();
    Status ask_for_share();
    Status decide_budget();
    Status listen_for_scrapes();
    Status prepare_overcommit();
    Status write_lines_aside();
    Status start_keeper();
    Status make_pool();
    Status open_stores();
    Status prepare();
    void run_job(Job& job);
    void stop_or_go_on(Job& job, ControlServer& control);
    void go_on_as_heir(ControlServer& control);
    std::string command() const;
    JobReport report_of(const Job& job) const;
    LiveFacts facts_of(const Job& job) const;
    void follow_need(const JobStats& stats);
    void end_in_time(const JobStats& stats);
    Result<nlohmann::json> set_ram(Job& job, const RamSize& ram);
    void follow_share(Job& job);
    void describe_stores(JobReport& report) const;
    void clean_up();
    void end_with(const Error& error, int status);
    void add_notes();
    void say();

    RunOptions options_;
    SetupSignals signals_;
    std::optional<log::Aside> aside_;
    JobReport report_;
    StatsFile stats_file_, report_file_;
    std::shared_ptr<Recording> recording_;  ///< for these two; neither: nothing is recorded
    std::shared_ptr<MissCurve> misses_;
    UserTime user_time_;
    MetricsListener metrics_;
    MachineFacts facts_;
    Budget budget_;
    std::uint64_t ram_limit_ = 0;          ///< what the cap is a part of
    std::unique_ptr<MachineShare> share_;  ///< of the machine's budget; none: there is none
    std::uint64_t ram_wanted_ = 0;         ///< where the share is more
    std::vector<int> priorities_;          ///< of the stores, mirrors counting as one
    std::unique_ptr<OvercommitSwitch> overcommit_;
    std::unique_ptr<io::Loop> loop_;
    std::unique_ptr<Pool> pool_;
    std::unique_ptr<SwapArea> area_;
    int failure_status_ = kExitFailure;  ///< of a failure in prepare()
    std::function<void(int)> signal_came_;
    std::function<void()> was_replaced_;
    std::function<void()> ticked_;
    Job* job_ = nullptr;          ///< while it runs
    bool limit_is_over_ = false;  ///< that of farswap size
};

/// A wrong command line is refused before any store has been opened for it.
Status Run::check_urls() {
    auto plan = plan_stores(options_.swap, options_.mirror);
    if (!plan) {
        failure_status_ = kExitUsage;
        return std::unexpected(plan.error());
    }
    priorities_ = std::move(*plan);
    if (keeps_in_memory(options_.swap) && options_.compression == Compression::kOff) {
        failure_status_ = kExitUsage;
        return fail(EINVAL, "--swap none --compress off: nothing would be won; leave one of them out");
    }
    return {};
}

Status Run::check_processes() {
    for (const pid_t process : options_.processes) {
        if (auto checked = target::check_attachable(process); !checked) return checked;
    }
    return {};
}

Status Run::refuse_unfit_machine() {
    facts_ = probe_machine();
    for (const auto& finding : assess(facts_)) {
        if (finding.verdict != Verdict::kNo) continue;
        const auto remedy = finding.remedy.empty() ? std::string() : "; to mend it: " + finding.remedy;
        return fail(ENOSYS, "{}: {}{}", finding.subject, finding.text, remedy);
    }
    return {};
}

/// Where farswapd divides the machine's RAM between jobs, the cap is what it grants; the machine's defaults
/// come along.
Status Run::ask_for_share() {
    const auto limit = tightest_memory_limit(read_text_file);
    if (!limit) return std::unexpected(limit.error());
    const std::uint64_t least = least_cap(options_.pool.value_or(kPoolMin), 0) + kProgramLeast;
    ram_wanted_ = resolve(options_.ram, limit->bytes);
    auto share = MachineShare::ask(
        {.least = least, .most = std::max(least, ram_wanted_), .takes_default = !options_.ram_given},
        [this] { return signals_.taken() != 0; });
    if (!share) return std::unexpected(share.error());
    share_ = std::move(*share);
    if (!share_) return {};
    options_.ram = {.bytes = std::min(share_->cap(), ram_wanted_), .percent = 0};
    if (auto taken = take_defaults(options_, share_->defaults()); !taken) return taken;
    return check_urls();
}

Status Run::decide_budget() {
    const auto limit = tightest_memory_limit(read_text_file);
    if (!limit) return std::unexpected(limit.error());
    // Pages that stay in memory only pass through the pool.
    const auto pool =
        options_.pool || !keeps_in_memory(options_.swap) ? options_.pool : std::optional(kPoolMin);
    const auto budget = follows_need()
                            ? make_budget({.bytes = kSizesFrom}, pool.value_or(kPoolMin), limit->bytes)
                            : make_budget(options_.ram, pool, limit->bytes);
    if (!budget) {
        failure_status_ = kExitUsage;
        return std::unexpected(budget.error());
    }
    budget_ = *budget;
    ram_limit_ = limit->bytes;
    report_.pool = budget_.pool;
    if (budget_.cap > limit->bytes)
        log::warning("--ram {} is more than {} allows ({}): the job may be killed before it reaches its cap",
                     format_size(budget_.cap), limit->source, format_size(limit->bytes));
    log::info("cap {} ({}% of {}), pool {}", format_size(budget_.cap),
              (budget_.cap * 100 + limit->bytes / 2) / limit->bytes, limit->source,
              format_size(budget_.pool));
    return {};
}

Status Run::listen_for_scrapes() {
    if (options_.metrics.empty()) return {};
    auto listener = MetricsListener::open(options_.metrics);
    if (!listener) {
        if (listener.error().code == EINVAL) failure_status_ = kExitUsage;
        return std::unexpected(listener.error());
    }
    metrics_ = std::move(*listener);
    return {};
}

Status Run::prepare_overcommit() {
    if (options_.overcommit) {
        auto set = OvercommitSwitch::set();
        if (!set) return std::unexpected(set.error());
        overcommit_ = std::move(*set);
    } else if (facts_.overcommit.mode == 2) {
        log::warning("{}", overcommit_advice(facts_.overcommit));
    }
    return {};
}

/// Without one the job runs as well, until its pager is killed. After the loop's threads have been made, and
/// before leases name it.
Status Run::start_keeper() {
    if (!options_.keeper) return {};
    const auto started = keeper::start(kills::note);
    if (!started)
        log::info("no keeper, so that a pager that is killed ends its job: {}", started.error().message);
    return {};
}

/// From here on nobody waits for standard error: a program that we page may hold its lock.
Status Run::write_lines_aside() {
    try {
        aside_.emplace();
    } catch (const std::system_error& error) {
        return fail(EAGAIN, "cannot start a thread: {}", error.what());
    }
    return {};
}

Status Run::make_pool() {
    auto loop = io::Loop::create({.outlives_its_thread = options_.keeper, .workers_nice = kPagerNice});
    if (!loop) return std::unexpected(loop.error());
    loop_ = std::move(*loop);
    report_.io_engine = loop_->engine();
    auto pool = create_job_pool(budget_.pool, options_.seal);
    if (!pool) return std::unexpected(pool.error());
    pool_ = std::move(*pool);
    report_.pool_wanted = budget_.pool;
    report_.pool = budget_.pool = pool_->memory().size();
    report_.pool_locked = pool_->locked();
    const std::size_t ready = std::size_t{pool_->ready_frames()} * kPageSize;
    if (auto registered = loop_->register_memory(pool_->memory(), ready); !registered)
        log::info("the pool is not registered: {}", registered.error().message);
    return {};
}

Status Run::open_stores() {
    const StoreOptions store_options{.job = make_job_name()};
    std::vector<std::unique_ptr<Store>> stores;
    Status status;
    const auto take = [&](Result<std::unique_ptr<Store>> store) {
        if (store) {
            log::info("store {}: {} at most", (*store)->name(), format_size((*store)->capacity()));
            stores.push_back(std::move(*store));
        } else {
            status = std::unexpected(store.error());
        }
    };
    if (options_.swap.empty()) take(open_default_store(store_options, *loop_));
    const std::uint64_t in_memory = keeps_in_memory(options_.swap) ? budget_.cap / 5 * 4 : 0;
    if (in_memory > 0) take(make_no_store(in_memory * 8));
    for (const auto& url : options_.swap) {
        if (in_memory > 0) break;
        if (!status || signals_.taken() != 0) break;
        take(open_store(url, store_options, *loop_));
    }
    if (!status || signals_.taken() != 0) {
        for (const auto& store : stores) store->close();
        return status;
    }
    if (options_.chaos > 0 && in_memory == 0) {
        for (auto& store : stores) store = make_chaotic(std::move(store), *loop_);
    }
    if (options_.mirror == 2) {
        auto mirrors = mirror_in_pairs(std::move(stores), *loop_);
        if (!mirrors) return std::unexpected(mirrors.error());
        stores = std::move(*mirrors);
    }
    auto area = SwapArea::create(*pool_, *loop_, std::move(stores),
                                 {.priorities = priorities_,
                                  .seal = options_.seal,
                                  .seal_memory = !can_lock_all_memory(),
                                  .compression = options_.compression,
                                  .keep_in_memory = in_memory,
                                  .cache_tier = options_.cache_tier ? cache_tier_max(budget_.cap) : 0,
                                  .births = keeper::births});
    if (!area) return std::unexpected(area.error());
    area_ = std::move(*area);
    kills::watch(area_.get());
    return {};
}

/// Everything before the program: what may be refused cheaply comes first.
Status Run::prepare() {
    auto stats_file = StatsFile::open(options_.stats_file);
    if (!stats_file) return std::unexpected(stats_file.error());
    stats_file_ = std::move(*stats_file);
    auto report_file = StatsFile::open(options_.report_file, "--report");
    if (!report_file) return std::unexpected(report_file.error());
    report_file_ = std::move(*report_file);
    if (!options_.stats_file.empty() || !options_.report_file.empty())
        report_.recording = recording_ = std::make_shared<Recording>();
    report_.misses = misses_ = std::make_shared<MissCurve>();
    for (auto step :
         {&Run::check_urls, &Run::check_processes, &Run::refuse_unfit_machine, &Run::ask_for_share,
          &Run::decide_budget, &Run::listen_for_scrapes, &Run::prepare_overcommit, &Run::write_lines_aside,
          &Run::make_pool, &Run::start_keeper, &Run::open_stores}) {
        if (auto status = (this->*step)(); !status) return status;
        if (signals_.taken() != 0) break;
    }
    return {};
}

void Run::run_job(Job& job) {
    report_.started = true;
    protect_pager();
    // One that came after the last look and before the job took signals over is the program's.
    if (const int signal = signals_.taken()) ::kill(::getpid(), signal);
    ControlServer control(
        *loop_, job,
        {.stats = [this, &job] { return live_stats_json(report_of(job), facts_of(job)); },
         .size_facts = [this,
                        &job] { return size_facts_of(job.stats(), user_time_.so_far(job.processes())); },
         .misses = misses_.get(),
         .set_ram = [this, &job](const RamSize& ram) { return set_ram(job, ram); }});
    if (auto started = control.start(); !started) log::warning("{}", started.error().message);
    std::optional<MetricsServer> metrics;
    if (metrics_)
        metrics.emplace(*loop_, metrics_,
                        [this, &job] { return metrics_text(report_of(job), facts_of(job)); });
    signal_came_ = [&](int) { stop_or_go_on(job, control); };
    was_replaced_ = [&] { go_on_as_heir(control); };
    if (share_) {
        ticked_ = [&] { follow_share(job); };
        share_->watch(*loop_, ticked_);
    }
    if (!options_.processes.empty()) user_time_.attached(job.processes());
    if (!options_.processes.empty())
        log::info("attached to {}; Ctrl-C or farswap detach lets go", report_.program);
    job_ = &job;
    auto end = job.run();
    job_ = nullptr;
    if (share_) share_->unwatch();
    signal_came_ = nullptr;
    was_replaced_ = nullptr;
    ticked_ = nullptr;
    if (options_.processes.empty()) report_.user_s = children_user_s();
    for (auto& left : end.left_behind) report_.notes.push_back(std::move(left));
    report_.stats = end.stats;
    report_.pool_registered = loop_->memory_registered();
    if (end.failure)
        report_.ending = ending_of(end.wait_status);
    else
        end_with(end.failure.error(), limit_is_over_ ? kExitLimit : kExitFailure);
}

/// A signal would end a pager that is attached: it lets its processes go instead, and a second one changes
/// its mind.
void Run::stop_or_go_on(Job& job, ControlServer& control) {
    if (job.is_departing()) {
        job.stay();
        log::write_line("stays attached to those that have not left");
        return;
    }
    if (auto begun = control.detach_all(false); !begun)
        log::write_line(fmt::format("stays attached: {}", begun.error().message));
    else
        log::info("lets go; another signal stops that");
}

/// What the kernel keeps for a process and not for its memory is ours to do once more.
void Run::go_on_as_heir(ControlServer& control) {
    protect_pager();
    if (auto started = control.restart(); !started) log::warning("{}", started.error().message);
    const auto killed = keeper::last_kill();
    log::debug("killed in system call {} with {:#x}, at {:#x}", killed.system_call, killed.argument,
               killed.instruction - reinterpret_cast<std::uintptr_t>(&__executable_start));
    log::debug("the pager was killed so far: {}", kills::so_far());
    log::write_line(fmt::format("process {} pages on in place of one that was killed", ::getpid()));
}

std::string Run::command() const {
    constexpr std::size_t kCommandMax = 512;
    auto text = options_.processes.empty() ? fmt::format("{}", fmt::join(options_.argv, " "))
                                           : target::read_name(options_.processes[0]);
    if (text.empty()) text = report_.program;  // it has ended, and others have not
    if (text.size() > kCommandMax) text.resize(kCommandMax);
    return text;
}

JobReport Run::report_of(const Job& job) const {
    auto report = report_;
    report.stats = job.stats();
    report.pool_registered = loop_->memory_registered();
    describe_stores(report);
    report.notes = notes_of(report);
    return report;
}

LiveFacts Run::facts_of(const Job& job) const {
    LiveFacts facts{.pager = ::getpid(),
                    .user = ::geteuid(),
                    .command = command(),
                    .processes = job.processes(),
                    .slots_used = area_->slots_used(),
                    .slots_capacity = area_->slots_capacity(),
                    .is_full = area_->slots_exhausted()};
    if (share_)
        facts.share = {.cap = share_->cap(),
                       .wanted = ram_wanted_,
                       .budget = share_->budget(),
                       .is_connected = share_->is_connected()};
    const auto waits = area_->waits();
    for (const auto& store : area_->stores())
        facts.stores.push_back(state_of(*store, waits, io::Clock::now()));
    return facts;
}

/// The pool stays as it is, and the pager's tables grow with what is outside.
Result<nlohmann::json> Run::set_ram(Job& job, const RamSize& ram) {
    const auto before = job.stats();
    auto cap = resolve(ram, ram_limit_);
    if (const auto least = least_cap(budget_.pool, before.pager_ram); cap < least)
        return fail(EINVAL,
                    "--ram {} is too small for this job: the least that works is {}, as its pager has {}",
                    format_size(cap), format_size_argument(least), format_size(before.pager_ram));
    if (share_) {
        ram_wanted_ = cap;
        cap = std::min(cap, share_->cap());
    }
    job.set_ram_cap(cap);
    log::info("cap {} instead of {}", format_size(cap), format_size(before.ram_cap));
    return nlohmann::json{{"cap_bytes", cap},
                          {"cap_before_bytes", before.ram_cap},
                          {"used_bytes", before.ram_now},
                          {"limit_bytes", ram_limit_}};
}

/// A cap that leaves the pager no room is followed as far as it goes; farswapd hears what is in force.
void Run::follow_share(Job& job) {
    const auto now = MachineShare::Clock::now();
    const auto least = least_cap(budget_.pool, job.stats().pager_ram);
    if (const auto told = share_->take_cap(now)) {
        const auto before = job.stats().ram_cap;
        const auto cap = std::max(std::min(*told, ram_wanted_), least);
        if (cap != before) job.set_ram_cap(cap);
        log::info("farswapd: cap {} instead of {}", format_size(cap), format_size(before));
    }
    const auto stats = job.stats();
    share_->tell({.cap = stats.ram_cap,
                  .least = least,
                  .most = ram_wanted_,
                  .ram = stats.ram_now,
                  .far = stats.far_pages * kPageSize,
                  .refaults = stats.second_chances + stats.faults_cached + stats.faults_stored},
                 now);
}

/// The cap of farswap size: a part of what the job needs so far, what does the paging not counted. Where a
/// machine's budget is divided, that decides.
void Run::follow_need(const JobStats& stats) {
    if (job_ == nullptr || !follows_need() || share_) return;
    const auto cap = std::max(kSizesFrom, std::min(stats.need_peak / kSizesPart, ram_limit_));
    if (cap > stats.ram_cap) job_->set_ram_cap(cap);
}

/// What a run that is short of memory takes cannot be foreseen, and what has been seen of it may do.
void Run::end_in_time(const JobStats& stats) {
    const auto limit = options_.sizes_limit;
    if (job_ == nullptr || !limit || limit_is_over_ || stats.elapsed_s < static_cast<double>(limit->count()))
        return;
    limit_is_over_ = true;
    job_->stop(Error{ETIME, fmt::format("size: {} was ended after {} s (--limit): what is predicted is for "
                                        "what it has done by then",
                                        report_.program, limit->count())});
}

void Run::end_with(const Error& error, int status) {
    report_.failure = error.message;
    report_.ending = {status, 0};
}

void Run::describe_stores(JobReport& report) const {
    if (!area_) return;
    for (const auto& store : area_->stores())
        report.stores.push_back({store->name(), store->capacity(), store->reserved(), store->counters()});
}

void Run::clean_up() {
    if (area_) area_->shutdown(kShutdownLimit);
    kills::watch(nullptr);
    area_.reset();
    pool_.reset();
    loop_.reset();
    overcommit_.reset();
    keeper::stop();
    aside_.reset();  // a thread that ends is nothing for a keeper
}

void Run::add_notes() {
    if (!report_.started) return;
    for (auto& note : notes_of(report_)) report_.notes.push_back(std::move(note));
    const bool early_death =
        report_.ending.status != 0 && report_.failure.empty() && report_.stats.pages_evicted == 0;
    if (early_death && !options_.overcommit && facts_.overcommit.mode == 0)
        report_.notes.push_back("if the program says that it is out of memory: " +
                                overcommit_advice(facts_.overcommit));
}

void Run::say() {
    if (!report_.failure.empty()) log::write_line(report_.failure);
    if (!options_.quiet) {
        for (const auto& line : summary_lines(report_)) log::write_line(line);
    }
    if (options_.sizes && report_.started)
        for (const auto& line :
             size_lines(estimate_size(size_facts_of(report_.stats, report_.user_s), *misses_)))
            log::write_line(line);
    const auto stats = full_stats_json(report_);
    if (const auto written = stats_file_.write(stats_text(stats)); !written)
        log::write_line(written.error().message);
    if (!report_file_) return;
    if (const auto written = report_file_.write(report_page(stats)); !written)
        log::write_line(written.error().message);
    else if (!options_.quiet)
        log::write_line(fmt::format("report   {}", options_.report_file));
}

Ending Run::execute() {
    const auto prepared = prepare();
    if (const int signal = signals_.taken()) {
        report_.ending = {128 + signal, signal};
    } else if (!prepared) {
        end_with(prepared.error(), failure_status_);
    } else {
        LiveLine live(!options_.quiet);
        const JobOptions job_options{.argv = options_.argv,
                                     .attach = options_.processes,
                                     .ram_cap = budget_.cap,
                                     .ram_limit = ram_limit_,
                                     .outage_max = options_.outage_max,
                                     .wait_when_full = options_.wait_when_full,
                                     .chaos = options_.chaos,
                                     .recording = recording_.get(),
                                     .misses = misses_.get(),
                                     .on_tick =
                                         [this, &live](const JobStats& stats) {
                                             live.update(stats);
                                             if (ticked_) ticked_();
                                             follow_need(stats);
                                             end_in_time(stats);
                                         },
                                     .on_signal =
                                         [this](int taken) {
                                             if (signal_came_) signal_came_(taken);
                                         },
                                     .on_replaced =
                                         [this] {
                                             if (was_replaced_) was_replaced_();
                                         }};
        auto job = Job::start(job_options, *loop_, *pool_, *area_);
        if (job)
            run_job(**job);
        else
            end_with(job.error(), options_.processes.empty()
                                      ? ending_of_start_failure(job.error().code).status
                                      : kExitFailure);
    }
    describe_stores(report_);
    clean_up();
    add_notes();
    say();
    return report_.ending;
}

}  // namespace

Ending run_command(const RunOptions& options) {
    using log::Level;
    if (options.quiet) log::set_level(Level::kQuiet);
    if (options.verbose) log::set_level(Level::kInfo);
    const char* wanted = ::getenv("FARSWAP_LOG");
    if (wanted != nullptr && std::string_view(wanted) == "debug") log::set_level(Level::kDebug);
    return Run(options).execute();
}

}  // namespace farswap::cli
