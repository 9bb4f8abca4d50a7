// The summary, the JSON and the live line, from given figures.
#include "cli/report.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "cli/live_line.h"

namespace farswap::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

JobReport busy_job() {
    JobReport report{.program = "sort",
                     .started = true,
                     .pool = 16 << 20,
                     .pool_locked = true,
                     .pool_registered = true,
                     .io_engine = io::EngineKind::kIoUring};
    auto& stats = report.stats;
    stats.elapsed_s = 12.34;
    stats.ram_cap = 256 << 20;
    stats.ram_peak = 251 << 20;
    stats.pager_ram = 18 << 20;
    stats.far_peak = 250000;
    stats.need_peak = 1200ull << 20;
    stats.faults = 312000;
    stats.faults_first = 12000;
    stats.second_chances = 300;
    stats.faults_cached = 100000;
    stats.faults_stored = 199700;
    stats.prefetched = 90000;
    stats.pages_evicted = 400000;
    stats.processes_seen = stats.processes_managed = 2;
    stats.throttled_ms = 1500;
    report.stats.swap = {
        .pages_out = 399000, .pages_written = 300000, .pages_in = 290000, .cache_hits = 100000};
    report.stores.push_back(
        {"nfs://nas/swap", 1ull << 40, 2ull << 30, {.reads = 3000, .writes = 5000, .flushes = 12}});
    return report;
}

TEST(Summary, IsAFewAlignedLines) {
    const auto lines = summary_lines(busy_job());
    EXPECT_THAT(lines,
                ElementsAre("memory   need 1.2 GiB  cap 256 MiB  peak 251 MiB  pager 18 MiB",
                            "pages    out 400 k (1.5 GiB)  unchanged 0  one word 0  written 300 k (1.1 GiB)  "
                            "in 290 k (1.1 GiB)  prefetched 90 k",
                            "faults   312 k  first touch 12 k  second chance 300  cache 100 k  store 200 k",
                            "store    nfs://nas/swap  reads 3.0 k (0 B)  writes 5.0 k (0 B)  flushes 12",
                            "time     12.3 s  waited for room 1.5 s  processes 2"));
}

TEST(Summary, IsOneShortLineWhenNothingLeftRam) {
    auto report = busy_job();
    report.stats.pages_evicted = 0;
    EXPECT_THAT(summary_lines(report), ElementsAre("no page left RAM: need 1.2 GiB, cap 256 MiB, 12.3 s"));
    report.started = false;
    EXPECT_THAT(summary_lines(report), IsEmpty());
}

TEST(Notes, SayWhatTheOperatorShouldKnow) {
    auto report = busy_job();
    EXPECT_THAT(notes_of(report), IsEmpty());
    report.pool_registered = false;
    EXPECT_THAT(notes_of(report), ElementsAre(HasSubstr("not registered")));
    report.io_engine = io::EngineKind::kEpoll;  // which knows no registering
    EXPECT_THAT(notes_of(report), IsEmpty());
    report.pool_wanted = 64 << 20;
    EXPECT_THAT(notes_of(report), ElementsAre(HasSubstr("the pool has 16 MiB instead of 64 MiB")));
    report.pool_locked = false;  // with --seal off
    EXPECT_THAT(notes_of(report), ElementsAre(HasSubstr("pool of 16 MiB is not locked")));
    report.stats.processes_unmanaged = 1;
    report.stores[0].counters.lost_writes = 1;
    EXPECT_THAT(notes_of(report), ElementsAre(HasSubstr("not locked"), HasSubstr("1 of 2 processes"),
                                              HasSubstr("nfs://nas/swap: connected anew 0 times")));
}

TEST(StatsJson, HoldsTheFigures) {
    auto report = busy_job();
    report.ending = {137, 9};
    const auto json = stats_json(report);
    EXPECT_EQ(json["format"], 1);
    EXPECT_EQ(json["exit"]["status"], 137);
    EXPECT_EQ(json["exit"]["signal"], 9);
    EXPECT_TRUE(json["failure"].is_null());
    EXPECT_EQ(json["io_engine"], "io_uring");
    EXPECT_EQ(json["memory"]["cap_bytes"], 256 << 20);
    EXPECT_EQ(json["memory"]["far_peak_bytes"], 250000ull * 4096);
    EXPECT_EQ(json["pages"]["written"], 300000);
    EXPECT_EQ(json["faults"]["stored"], 199700);
    EXPECT_EQ(json["stores"][0]["writes"], 5000);
    report.failure = "store lost";
    EXPECT_EQ(stats_json(report)["failure"], "store lost");
}

TEST(StatsJson, SurvivesNamesThatAreNoUtf8) {
    auto report = busy_job();
    report.program = "a\xff\xfe";
    EXPECT_NO_THROW((void)stats_json(report).dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

TEST(LiveText, ShowsRatesOfTheLastInterval) {
    LiveFigures figures;
    figures.before.elapsed_s = 1.0;
    figures.before.faults = 1000;
    figures.now.elapsed_s = 1.5;
    figures.now.ram_cap = 256 << 20;
    figures.now.ram_now = 251 << 20;
    figures.now.far_pages = 307200;
    figures.now.faults = 7000;
    figures.before.swap.pages_in = 1000;
    figures.now.swap.pages_in = 1000 + 38086;  // 312 MB/s for half a second
    figures.now.swap.pages_written = 9766;     // 80 MB/s
    EXPECT_EQ(live_text(figures, 200),
              "RAM 251/256 MiB  far 1.2 GiB  in 312 MB/s  out 80 MB/s  faults 12 k/s");
    EXPECT_EQ(live_text(figures, 15), "RAM 251/256 MiB");
    figures.now.ram_cap = 24ull << 30;
    figures.now.elapsed_s = 1.0;
    EXPECT_THAT(live_text(figures, 200), HasSubstr("RAM 0.2/24.0 GiB")) << "and no division by zero";
    EXPECT_THAT(live_text(figures, 200), HasSubstr("faults 0/s"));
}

}  // namespace
}  // namespace farswap::cli
