// The report's page: that what is in it cannot end its script, and which statistics files it is made of. How
// it looks is tested in a browser, by tests/e2e/reporting.py.
#include "cli/report_page.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "cli/report.h"

namespace farswap::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

JobReport job_of(std::string program) {
    JobReport report{.program = std::move(program), .started = true};
    auto recording = std::make_shared<Recording>();
    report.stats.latencies[FaultKind::kStored].add(123'456);
    recording->history.add({.at_ms = 200, .ram_bytes = 5}, report.stats.latencies);
    recording->regions.refault(0x7f12'3456'7000);
    recording->regions.note_name(0x7f12'0000'0000, 0x7f12'ffff'0000, "<name>");
    recording->regions.end_stretch(200);
    report.recording = std::move(recording);
    return report;
}

/// What stands in the page's element of data.
std::string data_in(const std::string& page) {
    const std::string begin = "<script type=\"application/json\" id=\"data\">";
    const auto at = page.find(begin);
    EXPECT_NE(at, page.npos);
    const auto end = page.find("</script>", at);
    return page.substr(at + begin.size(), end - at - begin.size());
}

TEST(ReportPage, HoldsOddNamesAsTheyAre) {
    for (const std::string name :
         {"</script><script>alert(1)</script>", "a \"quoted\" 'name' \\", "<!--", "]]>",
          "line\nends \u2028 \u2029", "caf\u00e9 \U0001F600", "&lt;{{data}}"}) {
        const auto page = report_page(full_stats_json(job_of(name)));
        const auto data = data_in(page);
        EXPECT_EQ(nlohmann::json::parse(data)["program"], name);
        EXPECT_EQ(data.find_first_of("<>&"), data.npos);
        EXPECT_TRUE(std::ranges::all_of(data, [](char c) { return c > 0; })) << "ASCII";
    }
    const auto page = report_page(full_stats_json(job_of("<b>&\"")));
    EXPECT_THAT(page, HasSubstr("<title>&#60;b&#62;&#38;&#34; under farswap</title>"));
}

TEST(ReportPage, TakesNamesThatAreNoUtf8) {
    const auto page = report_page(full_stats_json(job_of("bad \xff\xfe name")));
    EXPECT_EQ(nlohmann::json::parse(data_in(page))["program"], "bad \ufffd\ufffd name");
    EXPECT_THAT(page, HasSubstr("<title>bad \xef\xbf\xbd\xef\xbf\xbd name"));
}

TEST(ReportPage, NeedsNothingFromElsewhere) {
    const auto page = report_page(full_stats_json(job_of("sort")));
    for (const char* other : {"src=", "href=", "@import", "url(http", "{{"})
        EXPECT_THAT(page.substr(0, page.find("!function")), Not(HasSubstr(other)));
    EXPECT_THAT(page, HasSubstr("default-src 'none'"));
    EXPECT_THAT(page, HasSubstr("Permission is hereby granted")) << "the licence of the chart library";
}

std::string error_of(std::string_view text) {
    const auto stats = check_stats(text, "x.json");
    return stats ? "taken" : stats.error().message;
}

TEST(StatsFileOfAReport, IsTakenAsItIsWritten) {
    const auto text = stats_text(full_stats_json(job_of("sort \xff")));
    EXPECT_EQ(error_of(text), "taken");
    const auto json = nlohmann::json::parse(text);
    EXPECT_EQ(json["history"]["ram_bytes"][0], 5);
    EXPECT_EQ(json["regions"]["rows"][0]["refaults"][0], 1);
    EXPECT_EQ(json["regions"]["rows"][0]["name"], "<name>");
    EXPECT_EQ(json["faults"]["latency"]["stored"]["count"], 1);
    EXPECT_LT(std::ranges::count(text, '\n'), 400) << "figures by line, series in one";
}

TEST(StatsFileOfAReport, IsRefusedWithAReason) {
    auto stats = full_stats_json(job_of("sort"));
    const auto text = stats_text(stats);
    EXPECT_THAT(error_of(""), HasSubstr("x.json: no JSON"));
    EXPECT_THAT(error_of("hello"), HasSubstr("x.json: no JSON"));
    EXPECT_THAT(error_of(text.substr(0, text.size() / 2)), HasSubstr("cut off"));
    EXPECT_THAT(error_of("[1, 2]"), HasSubstr("no statistics file"));
    EXPECT_THAT(error_of("{\"format\": 1}"), HasSubstr("no statistics file"));
    EXPECT_THAT(error_of(std::string(100'000, '[')), HasSubstr("no JSON"));
    EXPECT_THAT(error_of(std::string(100'000, '[') + std::string(100'000, ']')), HasSubstr("no JSON"));
    stats["format"] = 2;
    EXPECT_THAT(error_of(stats.dump()), HasSubstr("of format 2, and this farswap knows 1"));
    stats["format"] = 1;
    stats["history"]["ram_bytes"] = {1, 2, 3};
    EXPECT_THAT(error_of(stats.dump()), HasSubstr("no history"));
    stats["history"] = 5;
    EXPECT_THAT(error_of(stats.dump()), HasSubstr("no history"));
    stats.erase("history");
    EXPECT_THAT(error_of(stats.dump()), HasSubstr("no history"));
}

}  // namespace
}  // namespace farswap::cli
