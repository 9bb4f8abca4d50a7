// The metrics: their form, that the document lists them all, what is answered over HTTP, and where they may
// be served.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <regex.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>

#include "cli/memory_limit.h"
#include "cli/metrics_server.h"
#include "cli/metrics_text.h"

namespace farswap::cli {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string text_of_a_job() {
    JobReport report{.program = "odd \"name\"\n\xff\\", .started = true, .pool = 16 << 20};
    report.stats.faults = 3'000'000'000;
    report.stats.throttled_ms = 1500;
    report.stats.swap.pages_written = 100;
    report.stores.push_back({"mirror", 1 << 20, 1 << 19, {.bytes_written = 409600}});
    report.stores.push_back({"file:/x", 1 << 20, 1 << 19, {.bytes_written = 4096}});
    LiveFacts facts;
    facts.pager = 42;
    facts.share = {.cap = 1 << 30, .wanted = 2ULL << 30U, .budget = 4ULL << 30U, .is_connected = false};
    facts.stores = {{.silent_s = 0.5, .is_degraded = true, .copies = 2}, {}};
    return metrics_text(report, facts);
}

/// What the first group of the pattern (regex(7), extended) matches, wherever it does.
std::set<std::string> found_in(const std::string& text, const std::string& pattern) {
    std::set<std::string> names;
    regex_t regex;
    EXPECT_EQ(::regcomp(&regex, pattern.c_str(), REG_EXTENDED), 0) << pattern;
    std::array<regmatch_t, 2> match;
    for (const char* at = text.c_str(); ::regexec(&regex, at, match.size(), match.data(), 0) == 0;) {
        names.emplace(at + match[1].rm_so, at + match[1].rm_eo);
        at += std::max<regoff_t>(match[1].rm_eo, 1);
    }
    ::regfree(&regex);
    return names;
}

TEST(MetricsText, HasValues) {
    const auto text = text_of_a_job();
    EXPECT_THAT(text, HasSubstr("\nfarswap_faults_total 3000000000\n"));
    EXPECT_THAT(text, HasSubstr("\nfarswap_faults_waited_seconds_total 1.5\n"));
    EXPECT_THAT(text, HasSubstr("\nfarswap_job_info{program=\"odd \\\"name\\\"\\n?\\\\\",pager=\"42\"} 1\n"));
    EXPECT_THAT(text, HasSubstr("\nfarswap_store_degraded{store=\"mirror\",index=\"0\"} 1\n"));
    EXPECT_THAT(text, HasSubstr("\nfarswap_store_written_bytes_total{store=\"file:/x\",index=\"1\"} 4096\n"));
    EXPECT_THAT(text, HasSubstr("\nfarswap_stored_page_bytes_total 208896\n"))
        << "half of what a mirror wrote";
}

TEST(MetricsText, HasTheShareOfABudgetWhereThereIsOne) {
    const auto text = text_of_a_job();
    EXPECT_THAT(text, HasSubstr("\nfarswap_budget_bytes 4294967296\n"));
    EXPECT_THAT(text, HasSubstr("\nfarswap_budget_share_bytes 1073741824\n"));
    EXPECT_THAT(text, HasSubstr("\nfarswap_budget_share_limit_bytes 2147483648\n"));
    EXPECT_THAT(text, HasSubstr("\nfarswap_budget_connected 0\n"));
    EXPECT_THAT(found_in(metrics_text({}, {}), "\n(farswap_budget[a-z_]*) [0-9]"), ::testing::IsEmpty());
}

TEST(MetricsText, KeepsTheConventions) {
    const auto text = text_of_a_job();
    for (const auto name : metric_names()) {
        const std::string all(name);
        const bool is_counter = text.find("# TYPE " + all + " counter\n") != std::string::npos;
        const bool is_histogram = text.find("# TYPE " + all + " histogram\n") != std::string::npos;
        const bool is_gauge = text.find("# TYPE " + all + " gauge\n") != std::string::npos;
        EXPECT_EQ(is_counter + is_gauge + is_histogram, 1) << all;
        EXPECT_EQ(is_counter, all.ends_with("_total")) << all;
        EXPECT_EQ(found_in(text, "# HELP (" + all + ") [A-Z1][^\n]*\\.\n").size(), 1u) << all;
        if (is_histogram) continue;
        EXPECT_EQ(found_in(text, "\n(" + all + ")(\\{[^\n]*\\})? [0-9.e+-]+\n").size(), 1u) << all;
    }
    EXPECT_EQ(metric_names().size(), found_in(text, "# TYPE (\\w+)").size()) << "each once";
}

TEST(MetricsText, IsDocumented) {
    const auto document = read_text_file(FARSWAP_SOURCE "/docs/metrics.md").value_or("");
    std::set<std::string> names;
    for (const auto name : metric_names()) names.emplace(name);
    EXPECT_EQ(found_in(document, "\n\\| `(farswap_\\w+)` \\|"), names);
    const auto text = text_of_a_job();
    for (const auto& name : names) {
        const auto types = found_in(document, "`" + name + "` \\| ([a-z]+)");
        ASSERT_EQ(types.size(), 1u) << name;
        EXPECT_THAT(text, HasSubstr("# TYPE " + name + " " + *types.begin() + "\n"));
    }
}

TEST(MetricsText, HasHistogramsWhoseBucketsAddUp) {
    JobReport report;
    for (const std::uint64_t ns : {500, 100'000, 130'000, 140'000'000})
        report.stats.latencies[FaultKind::kStored].add(ns);
    const auto text = metrics_text(report, {});
    const std::string name = "\nfarswap_fault_latency_seconds";
    EXPECT_THAT(text, HasSubstr(name + "_bucket{kind=\"stored\",le=\"1.024e-06\"} 1\n"));
    EXPECT_THAT(text, HasSubstr(name + "_bucket{kind=\"stored\",le=\"0.000131072\"} 3\n"));
    EXPECT_THAT(text, HasSubstr(name + "_bucket{kind=\"stored\",le=\"0.134217728\"} 3\n"));
    EXPECT_THAT(text, HasSubstr(name + "_bucket{kind=\"stored\",le=\"+Inf\"} 4\n"));
    EXPECT_THAT(text, HasSubstr(name + "_count{kind=\"stored\"} 4\n"));
    EXPECT_THAT(text, HasSubstr(name + "_sum{kind=\"stored\"} 0.1402305\n"));
    EXPECT_THAT(text, HasSubstr(name + "_count{kind=\"cached\"} 0\n"));
}

std::string http(std::string_view request) {
    return http_answer(request, [] { return std::string("the page\n"); });
}

TEST(MetricsHttp, AnswersWhatIsAsked) {
    EXPECT_THAT(
        http("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
        AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("\r\nContent-Length: 9\r\n"),
              HasSubstr("\r\nContent-Type: text/plain; version=0.0.4"), EndsWith("\r\n\r\nthe page\n")));
    EXPECT_THAT(http("GET /metrics?x=1 HTTP/1.0\r\n\r\n"), StartsWith("HTTP/1.1 200"));
    EXPECT_THAT(
        http("HEAD /metrics HTTP/1.1\r\n\r\n"),
        AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Content-Length: 9"), Not(HasSubstr("the page"))));
    EXPECT_THAT(http("GET / HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404"));
    EXPECT_THAT(http("POST /metrics HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 405"));
    for (const char* odd :
         {"\r\n\r\n", "GET\r\n\r\n", "GET /metrics\r\n\r\n", "GET /metrics FTP/1\r\n\r\n", " \r\n\r\n"})
        EXPECT_THAT(http(odd), StartsWith("HTTP/1.1 400")) << odd;
    EXPECT_EQ(http("GET /metrics HTTP/1.1\r\nHost: x\r\n"), "") << "more is to come";
    EXPECT_THAT(http(std::string(8192, 'x')), StartsWith("HTTP/1.1 431"));
}

TEST(MetricsAddress, IsOfThisMachine) {
    for (const char* odd :
         {"0.0.0.0:9000", "192.168.1.1:9000", "9000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0",
          "127.0.0.1:99999", "127.0.0.1:80x", "localhost:9000", "[::]:9000", "", "unix:"}) {
        const auto opened = MetricsListener::open(odd);
        ASSERT_FALSE(opened) << odd;
        EXPECT_EQ(opened.error().code, EINVAL) << odd;
    }
    EXPECT_EQ(MetricsListener::open("unix:" + std::string(200, 'x')).error().code, EINVAL);
}

TEST(MetricsAddress, InUseIsRefused) {
    char folder[] = "/tmp/farswap-metrics-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    const std::string path = std::string(folder) + "/socket";
    {
        auto first = MetricsListener::open("unix:" + path);
        ASSERT_TRUE(first) << first.error().message;
        EXPECT_EQ(MetricsListener::open("unix:" + path).error().code, EADDRINUSE);
    }
    EXPECT_NE(access(path.c_str(), F_OK), 0) << "it goes with its listener";
    {
        // One that nobody listens on any more.
        const auto first = MetricsListener::open("unix:" + path);
        ASSERT_EQ(rename(path.c_str(), (path + "2").c_str()), 0);
    }
    ASSERT_EQ(rename((path + "2").c_str(), path.c_str()), 0);
    EXPECT_TRUE(MetricsListener::open("unix:" + path)) << "a stale one is replaced";
    Fd plain(creat(path.c_str(), 0600));
    EXPECT_EQ(MetricsListener::open("unix:" + path).error().code, EEXIST);
    EXPECT_EQ(access(path.c_str(), F_OK), 0) << "a file is left alone";
    unlink(path.c_str());
    rmdir(folder);
}

/// What the client gets while the loop serves.
std::string ask(io::Loop& loop, const std::string& path, std::string_view request) {
    const Fd client(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(send(client.get(), request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
    std::string got;
    char bytes[65536];
    for (;;) {
        const auto count = recv(client.get(), bytes, sizeof bytes, 0);
        if (count == 0) return got;
        if (count > 0) got.append(bytes, static_cast<std::size_t>(count));
        if (count < 0) loop.run_once(std::chrono::seconds(5));
    }
}

TEST(MetricsServer, ServesInALoop) {
    char folder[] = "/tmp/farswap-metrics-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    const std::string path = std::string(folder) + "/socket";
    auto loop = io::Loop::create();
    ASSERT_TRUE(loop) << loop.error().message;
    {
        const auto listener = MetricsListener::open("unix:" + path);
        ASSERT_TRUE(listener) << listener.error().message;
        const std::string large(4 << 20, 'm');  // more than a socket takes at once
        MetricsServer server(**loop, *listener, [&] { return large; });
        const std::string_view request = "GET /metrics HTTP/1.1\r\n\r\n";
        const Fd idle(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        ASSERT_TRUE(idle);
        sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        ASSERT_EQ(connect(idle.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        for (int i = 0; i < 3; ++i) {
            const auto got = ask(**loop, path, request);
            EXPECT_THAT(got.substr(0, 15), "HTTP/1.1 200 OK");
            EXPECT_EQ(got.size() - got.find("\r\n\r\n") - 4, large.size());
        }
    }
    rmdir(folder);
}

}  // namespace
}  // namespace farswap::cli
