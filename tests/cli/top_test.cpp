// farswap top without a terminal and without pagers: figures from given answers, keys, and the screen letter
// by letter.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/top_jobs.h"
#include "cli/top_screen.h"
#include "cli/top_view.h"

namespace farswap::cli {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// What a pager says that has been at it for `seconds`.
nlohmann::json answer(double seconds, std::uint64_t faults, std::uint64_t in, std::uint64_t written) {
    return {{"pager", 99},
            {"user", 0},
            {"program", "/usr/bin/sort"},
            {"command", "/usr/bin/sort -S 2G big.txt"},
            {"elapsed_s", seconds},
            {"memory",
             {{"used_bytes", 251 * kMiB},
              {"cap_bytes", 256 * kMiB},
              {"pager_bytes", 9 * kMiB},
              {"far_bytes", 1200 * kMiB},
              {"need_bytes", 1442 * kMiB}}},
            {"pool", {{"dirty_bytes", 2 * kMiB}, {"clean_bytes", 5 * kMiB}}},
            {"faults",
             {{"all", faults},
              {"cached", faults / 4},
              {"stored", faults / 2},
              {"waited_for_room_ms", 1500},
              {"latency", {{"refaults", {{"buckets", {{80.0, faults / 2}, {1200.0, faults / 4}}}}}}}}},
            {"pages", {{"in", in}, {"written", written}}},
            {"processes", {{"pids", {4711, 4712}}}},
            {"compression", {{"page_bytes", 2100}, {"stored_bytes", 1000}}},
            {"slots", {{"used", 30}, {"capacity", 200}, {"full", false}}},
            {"stores",
             {{{"name", "nfs://nas/export/swap"},
               {"state", "ok"},
               {"silent_s", 0.1},
               {"capacity_bytes", 40960 * kMiB},
               {"reserved_bytes", 2048 * kMiB},
               {"read_bytes", in * 4096},
               {"written_bytes", written * 2048}}}}};
}

TopJob job_numbered(pid_t pager, double faults = 1000) {
    TopJob job;
    job.pager = pager;
    job.user_name = "root";
    for (int i = 0; i <= 40; ++i) {
        const auto share = static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(i + 1) / 2;
        const auto all = static_cast<std::uint64_t>(faults) * share;
        auto now = job_of(answer(i, all, all * 2, all));
        EXPECT_TRUE(now);
        now->process = pager + 1;
        advance(job, std::move(*now));
    }
    return job;
}

TEST(TopJob, HasPercentilesOfTheLastStretch) {
    const LatencyCounts before{{80, 100}, {1000, 5}}, now{{40, 98}, {80, 101}, {1000, 6}, {2000, 0}};
    const auto between = percentiles_between(before, now);
    EXPECT_EQ(between.p50_us, 40);
    EXPECT_EQ(between.p99_us, 80);
    EXPECT_EQ(percentiles_between(now, now).p99_us, 0) << "there were none";
    auto old = answer(1, 10, 10, 10);
    old["faults"].erase("latency");
    EXPECT_TRUE(job_of(old)) << "a pager that does not tell";
}

TEST(TopJob, MakesRatesOfTwoAnswers) {
    TopJob job;
    job.pager = 7;
    advance(job, *job_of(answer(1.0, 1000, 500, 100)));
    EXPECT_FALSE(job.has_rates) << "of one there are none";
    EXPECT_EQ(job.pager, 7) << "whatever it says";
    EXPECT_EQ(job.program, "sort");
    advance(job, *job_of(answer(1.5, 2000, 1500, 100)));
    ASSERT_TRUE(job.has_rates);
    EXPECT_DOUBLE_EQ(job.fault_rate.back(), 2000);
    EXPECT_DOUBLE_EQ(job.in_rate.back(), 2000 * 4096);
    EXPECT_DOUBLE_EQ(job.out_rate.back(), 0);
    EXPECT_DOUBLE_EQ(job.stores[0].read_rate, 2000 * 4096);
    advance(job, *job_of(answer(1.5, 3000, 2500, 900)));
    EXPECT_EQ(job.fault_rate.size(), 1u) << "no time has passed";
    EXPECT_DOUBLE_EQ(job.compression, 2.1);
    EXPECT_DOUBLE_EQ(job.slots_used, 0.15);
}

TEST(TopJob, TakesNothingOfAnotherForm) {
    EXPECT_FALSE(job_of({{"error", "this pager does not know that request"}}));
    auto odd = answer(1, 1, 1, 1);
    odd["memory"] = "much";
    EXPECT_FALSE(job_of(odd));
    odd = answer(1, 1, 1, 1);
    odd["processes"]["pids"] = {"one"};
    EXPECT_FALSE(job_of(odd));
    odd["processes"]["pids"] = nlohmann::json::array();
    EXPECT_EQ(job_of(odd)->process, 99) << "its pager";
}

TEST(TopJob, KeepsAHistoryOfLimitedLength) {
    TopJob job;
    for (std::size_t i = 0; i < kHistoryMax + 50; ++i)
        advance(job, *job_of(answer(static_cast<double>(i), i, i, i)));
    EXPECT_EQ(job.fault_rate.size(), kHistoryMax);
    EXPECT_THAT(job.fault_rate, Each(1.0));
}

TEST(TopState, NamesWhatIsWorst) {
    auto job = job_numbered(10);
    EXPECT_EQ(state_of(job), "ok");
    job.stores.push_back(job.stores[0]);
    job.stores[1].state = "degraded";
    EXPECT_EQ(state_of(job), "degraded");
    job.stores[0].state = "silent";
    job.stores[0].silent_s = 7.2;
    EXPECT_EQ(state_of(job), "silent 7s");
    job.is_full = true;
    EXPECT_EQ(state_of(job), "full");
    job.leaving = 300 * kMiB;
    EXPECT_EQ(state_of(job), "back 300M");
    job.answers = false;
    EXPECT_EQ(state_of(job), "no answer");
}

TEST(TopView, SortsByWhatIsChosen) {
    std::vector<TopJob> jobs{job_numbered(30, 100), job_numbered(10, 300), job_numbered(20, 200)};
    jobs[2].used = 300 * kMiB;
    const auto pagers = [&](TopSort sort) {
        std::vector<pid_t> numbers;
        for (const auto* job : in_order(jobs, sort)) numbers.push_back(job->pager);
        return numbers;
    };
    EXPECT_THAT(pagers(TopSort::kFaults), ElementsAre(10, 20, 30));
    EXPECT_THAT(pagers(TopSort::kRam), ElementsAre(20, 10, 30)) << "equal ones by their number";
    EXPECT_THAT(pagers(TopSort::kPid), ElementsAre(10, 20, 30));
    TopView view;
    for (const auto& [pressed, sort] : {std::pair{U'f', TopSort::kFaults},
                                        {U'a', TopSort::kFar},
                                        {U'i', TopSort::kIn},
                                        {U'o', TopSort::kOut},
                                        {U'p', TopSort::kPid},
                                        {U'r', TopSort::kRam}}) {
        EXPECT_EQ(press(view, jobs, pressed).kind, TopAction::Kind::kNone);
        EXPECT_EQ(view.sort, sort);
    }
}

TEST(TopView, SelectionStaysWithItsJob) {
    std::vector<TopJob> jobs{job_numbered(10, 300), job_numbered(20, 200), job_numbered(30, 100)};
    TopView view{.sort = TopSort::kFaults};
    press(view, jobs, key::kDown);
    EXPECT_EQ(view.selected, 20);
    press(view, jobs, U'p');
    EXPECT_EQ(view.selected, 20);
    press(view, jobs, key::kEnd);
    press(view, jobs, key::kDown);
    EXPECT_EQ(view.selected, 30) << "no further";
    jobs.pop_back();
    EXPECT_EQ(selected_place(view, in_order(jobs, view.sort)), 0u) << "it has ended";
    std::vector<TopJob> none;
    press(view, none, key::kUp);
    EXPECT_EQ(press(view, none, U'c').kind, TopAction::Kind::kNone);
    EXPECT_EQ(view.prompt, TopPrompt::kNone) << "about what?";
}

TopAction type(TopView& view, const std::vector<TopJob>& jobs, std::u32string_view keys) {
    TopAction action;
    for (const char32_t pressed : keys) action = press(view, jobs, pressed);
    return action;
}

TEST(TopView, AsksBeforeItChangesAnything) {
    const std::vector<TopJob> jobs{job_numbered(10), job_numbered(20)};
    TopView view;
    auto action = type(view, jobs,
                       U"c64\x7f\x7f"
                       U"2G\n");
    EXPECT_EQ(action.kind, TopAction::Kind::kSetCap);
    EXPECT_EQ(action.pager, 10);
    EXPECT_EQ(action.ram.bytes, 2048 * kMiB);
    EXPECT_EQ(type(view, jobs, U"cqd\n").kind, TopAction::Kind::kNone) << "letters are typed, not obeyed";
    EXPECT_THAT(view.message, HasSubstr("cap qd: not a size"));
    EXPECT_EQ(type(view, jobs, U"c64M\x1b").kind, TopAction::Kind::kNone);
    EXPECT_EQ(view.message, "");
    EXPECT_EQ(type(view, jobs, U"dn").kind, TopAction::Kind::kNone);
    EXPECT_EQ(type(view, jobs, U"dy").kind, TopAction::Kind::kDetach);
    EXPECT_EQ(type(view, jobs, U"q").kind, TopAction::Kind::kQuit);
    type(view, jobs, U"d");
    const std::vector<TopJob> others{jobs[1]};
    EXPECT_EQ(press(view, others, U'y').kind, TopAction::Kind::kNone)
        << "the one that was asked about has ended";
}

TEST(TopGrid, TakesNoCommandsForTheTerminal) {
    TextGrid grid(1, 20);
    grid.put(0, 0, "a\x1b[2Jb\x9b\xff\xc3\xa9\xe4\xb8\xad\xe2\x96\x88");
    EXPECT_EQ(grid.text(), "a?[2Jb??\xc3\xa9?\xe2\x96\x88\n");
    grid.put(0, 18, "long");
    grid.put(5, 0, "nowhere");
    EXPECT_THAT(grid.text(), HasSubstr("lo\n"));
}

ScreenOptions screen(std::size_t rows, std::size_t columns, bool unicode) {
    return {.rows = rows, .columns = columns, .unicode = unicode, .host = "node7", .time = "12:34:56"};
}

std::vector<TopJob> three_jobs() {
    std::vector<TopJob> jobs{job_numbered(4711, 1000), job_numbered(123456, 20), job_numbered(300, 0)};
    jobs[1].used = 90 * kMiB;
    jobs[1].stores[0].state = "silent";
    jobs[1].stores[0].silent_s = 12;
    jobs[2].used = 1;
    jobs[2].answers = false;
    return jobs;
}

TEST(TopScreen, AtTheUsualSize) {
    const auto text = draw_top({}, three_jobs(), screen(24, 80, true)).text();
    EXPECT_EQ(text, R"(farswap top  node7  3 jobs  RAM 341 MiB of 768 MiB  far 3.5 GiB         12:34:56

     PID PROGRAM            RAM   CAP   FAR FAULT/s  IN/s OUT/s RATIO STATE
>   4712 sort              251M  256M  1.2G     40K  328M  164M   2.1 ok
  123457 sort               90M  256M  1.2G     800  6.6M  3.3M   2.1 silent 12s
     300 sort                 1  256M  1.2G       0     0     0   2.1 no answer





── 4712 /usr/bin/sort -S 2G big.txt ────────────────────────────────────────────
 RAM     ███████████████████████████████████████████████▏  251 MiB of 256 MiB
 faults                               ▁▁▂▂▂▃▃▄▄▄▅▅▆▆▆▇▇██  40 k/s
                 ▁▁▁▂▂▂▃▃▄▄▄▅▅▆▆▆▇▇██████████████████████  max 40 k/s
 in                                   ▁▁▂▂▂▃▃▄▄▄▅▅▆▆▆▇▇██  328 MB/s
                 ▁▁▁▂▂▂▃▃▄▄▄▅▅▆▆▆▇▇██████████████████████  max 328 MB/s
 out                                  ▁▁▂▂▂▃▃▄▄▄▅▅▆▆▆▇▇██  164 MB/s
                 ▁▁▁▂▂▂▃▃▄▄▄▅▅▆▆▆▇▇██████████████████████  max 164 MB/s
 far 1.2 GiB  ratio 2.1  need 1.4 GiB  pager 9.0 MiB  cache 7.0 MiB
 up 40 s  processes 2  faults: cache 25%, store 50%  waited 1.5 s  swap 15% full
 latency p50 80 us  p99 1.2 ms  since the start p50 80 us  p99 1.2 ms
 store   ok  nfs://nas/export/swap       2.0 GiB  read 328 MB/s  written 82 MB/s
q quit  ↑↓ job  c cap  d detach  sort: r RAM a far f faults i in o out p PID
)");
}

TEST(TopScreen, Narrow) {
    TopView view{.selected = 0, .message = "cap 512 MiB instead of 256 MiB, 251 MiB are used"};
    const auto text = draw_top(view, three_jobs(), screen(16, 46, false)).text();
    EXPECT_EQ(text, R"(farswap top  node7  3 jobs  RAM 341 MiB of 768

     PID PROGRAM       RAM   CAP   FAR FAULT/s
>   4712 sort         251M  256M  1.2G     40K
  123457 sort          90M  256M  1.2G     800
     300 sort            1  256M  1.2G       0
-- 4712 /usr/bin/sort -S 2G big.txt ----------
 RAM     ##############  251 MiB of 256 MiB
 faults  ||||||########  40 k/s    max 40 k/s
 in      ||||||########  328 MB/s  max 328 MB/
 out     ||||||########  164 MB/s  max 164 MB/
 far 1.2 GiB  ratio 2.1  need 1.4 GiB  pager 9
 up 40 s  processes 2  faults: cache 25%, stor
 latency p50 80 us  p99 1.2 ms  since the star
 store   ok  nfs://nas/export/swap
cap 512 MiB instead of 256 MiB, 251 MiB are us
)");
}

TEST(TopScreen, FitsEverySize) {
    const auto jobs = three_jobs();
    for (std::size_t rows = 0; rows < 60; ++rows) {
        for (const std::size_t columns : {0u, 1u, 5u, 10u, 20u, 40u, 79u, 80u, 81u, 200u}) {
            const auto grid = draw_top({}, jobs, screen(rows, columns, rows % 2 == 0));
            EXPECT_EQ(grid.rows(), rows);
            EXPECT_EQ(grid.columns(), columns);
        }
    }
}

TEST(TopScreen, AsciiWhereThereIsNoMore) {
    const auto text = draw_top({}, three_jobs(), screen(40, 100, false)).text();
    for (const char c : text) EXPECT_TRUE(c == '\n' || (c >= ' ' && c < 127)) << static_cast<int>(c);
}

TEST(TopScreen, ShowsTheSelectedOneOfMany) {
    std::vector<TopJob> jobs;
    for (pid_t i = 1; i <= 50; ++i) jobs.push_back(job_numbered(1000 + 2 * i));
    TopView view{.sort = TopSort::kPid, .selected = 1060};
    const auto text = draw_top(view, jobs, screen(24, 80, true)).text();
    EXPECT_THAT(text, HasSubstr(">   1061 sort"));
    EXPECT_THAT(text, HasSubstr(" 1061 /usr/bin/sort -S 2G big.txt "));
}

TEST(TopScreen, ShowsUsersWhereThereAreSeveral) {
    auto jobs = three_jobs();
    EXPECT_THAT(draw_top({}, jobs, screen(24, 80, true)).text(), Not(HasSubstr("USER")));
    jobs[1].user = 1000;
    jobs[1].user_name = "sim";
    const auto text = draw_top({}, jobs, screen(24, 80, true)).text();
    EXPECT_THAT(text, HasSubstr("USER"));
    EXPECT_THAT(text, HasSubstr(" sim "));
    EXPECT_THAT(text, HasSubstr("silent 12s"));
}

TEST(TopScreen, ShowsSharesOfAMachinesBudget) {
    auto jobs = three_jobs();
    EXPECT_THAT(draw_top({}, jobs, screen(24, 80, true)).text(), Not(HasSubstr("SHARE")));
    jobs[0].share = TopShare{.cap = 256 * kMiB, .wanted = 2048 * kMiB, .budget = 1024 * kMiB};
    jobs[1].share =
        TopShare{.cap = 256 * kMiB, .wanted = 256 * kMiB, .budget = 768 * kMiB, .is_connected = false};
    jobs[1].user = 1000;
    jobs[1].user_name = "sim";
    auto text = draw_top({}, jobs, screen(24, 80, true)).text();
    EXPECT_THAT(text, HasSubstr("CAP SHARE   FAR FAULT/s"));
    EXPECT_THAT(text, HasSubstr("251M  256M   25%  1.2G     40K "));
    EXPECT_THAT(text, HasSubstr("  90M  256M   33%  1.2G "));
    EXPECT_THAT(text, HasSubstr("   1  256M     -  1.2G "));
    EXPECT_THAT(text, HasSubstr(" sim "));
    EXPECT_THAT(text, HasSubstr("silent 12s"));
    EXPECT_THAT(text, HasSubstr("\n share   256 MiB, 25% of this machine's 1.0 GiB; it may have 2.0 GiB\n"));
    EXPECT_THAT(text, HasSubstr("\n store   ok  nfs://nas/export/swap"));
    text = draw_top({.selected = jobs[1].pager}, jobs, screen(24, 80, true)).text();
    EXPECT_THAT(text,
                HasSubstr("\n share   256 MiB, 33% of this machine's 768 MiB; farswapd is away, it stays\n"));
    EXPECT_THAT(top_table(jobs), HasSubstr("CAP SHARE   FAR FAULT/s  IN/s OUT/s RATIO STATE\n"));
}

TEST(TopJob, TakesItsShareWhereItHasOne) {
    auto json = answer(1, 1, 1, 1);
    EXPECT_FALSE(job_of(json)->share) << "of an older pager";
    json["share"] = nullptr;
    EXPECT_FALSE(job_of(json)->share);
    json["share"] = {{"cap_bytes", 160}, {"wanted_bytes", 300}, {"budget_bytes", 320}, {"connected", true}};
    ASSERT_TRUE(job_of(json)->share);
    EXPECT_EQ(job_of(json)->share->part(), 0.5);
    json["share"] = "half";
    EXPECT_FALSE(job_of(json)) << "no such form";
}

TEST(TopScreen, AsksOnTheLastLine) {
    const auto jobs = three_jobs();
    TopView view{.prompt = TopPrompt::kCap, .asked_about = 4711, .typed = "51"};
    EXPECT_THAT(draw_top(view, jobs, screen(24, 80, true)).text(),
                HasSubstr("\nnew cap of 4712 (now 256 MiB): 51_\n"));
    view.prompt = TopPrompt::kDetach;
    EXPECT_THAT(draw_top(view, jobs, screen(24, 80, true)).text(),
                HasSubstr("\ndetach 4712 from farswap, and bring 1.2 GiB back into RAM? (y/n)\n"));
}

TEST(TopScreen, SaysThatThereIsNone) {
    EXPECT_THAT(draw_top({}, {}, screen(24, 80, true)).text(), HasSubstr("No job of farswap runs here"));
    EXPECT_THAT(top_table({}), HasSubstr("no job"));
}

TEST(TopTable, IsPlain) {
    EXPECT_EQ(top_table(three_jobs()),
              R"(     PID USER     PROGRAM            RAM   CAP   FAR FAULT/s  IN/s OUT/s RATIO STATE
     300 root     sort                 1  256M  1.2G       0     0     0   2.1 no answer
    4712 root     sort              251M  256M  1.2G     40K  328M  164M   2.1 ok
  123457 root     sort               90M  256M  1.2G     800  6.6M  3.3M   2.1 silent 12s
)");
}

TEST(TopJson, HasTheAnswersAndRates) {
    const auto json = top_json(three_jobs());
    ASSERT_EQ(json.size(), 3u);
    EXPECT_EQ(json[0]["pager"], 300);
    EXPECT_EQ(json[0]["answers"], false);
    EXPECT_EQ(json[1]["memory"]["cap_bytes"], 256 * kMiB);
    EXPECT_EQ(json[1]["rates"]["faults_per_second"], 40000.0);
    TopJob silent;
    EXPECT_TRUE(top_json({silent})[0]["rates"].is_null());
}

TEST(Compact, HasFiveCharactersAtMost) {
    EXPECT_EQ(compact(0, 1024), "0");
    EXPECT_EQ(compact(1023, 1024), "1023");
    EXPECT_EQ(compact(1536, 1024), "1.5K");
    EXPECT_EQ(compact(1023.0 * 1024 * 1024, 1024), "1023M");
    EXPECT_EQ(compact(12345, 1000), "12K");
    EXPECT_EQ(compact(999999, 1000), "1.0M");
}

}  // namespace
}  // namespace farswap::cli
