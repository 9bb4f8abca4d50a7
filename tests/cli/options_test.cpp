// The command line, word by word.
#include "cli/options.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace farswap::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Result<Command> parse(std::vector<const char*> words) {
    return parse_command_line(words);
}

RunOptions run_of(std::vector<const char*> words) {
    const auto command = parse(std::move(words));
    EXPECT_TRUE(command) << command.error().message;
    return command ? std::get<RunOptions>(*command) : RunOptions{};
}

std::string error_of(std::vector<const char*> words) {
    const auto command = parse(std::move(words));
    return command ? "accepted" : command.error().message;
}

TEST(RunOptions, EndAtTheProgram) {
    EXPECT_THAT(run_of({"run", "sort", "-n", "--ram", "x"}).argv, ElementsAre("sort", "-n", "--ram", "x"));
    EXPECT_THAT(run_of({"run", "--", "sort", "-n"}).argv, ElementsAre("sort", "-n"));
    EXPECT_THAT(run_of({"run", "--ram", "1G", "--", "-odd", "--", "a"}).argv, ElementsAre("-odd", "--", "a"));
    EXPECT_THAT(run_of({"run", "-q", "sort", "--", "run", "", "check"}).argv,
                ElementsAre("sort", "--", "run", "", "check"));
}

TEST(RunOptions, HaveDefaults) {
    const auto options = run_of({"run", "sort"});
    EXPECT_EQ(options.ram.percent, 90);
    EXPECT_TRUE(options.swap.empty());
    EXPECT_FALSE(options.pool);
    EXPECT_FALSE(options.outage_max);
    EXPECT_FALSE(options.quiet || options.verbose || options.overcommit);
    EXPECT_TRUE(options.seal && !options.wait_when_full);
    EXPECT_EQ(options.compression, Compression::kLz4);
    EXPECT_EQ(options.stats_file, "");
}

TEST(ReportOptions, AreTaken) {
    const auto command = parse({"report", "-o", "page.html", "stats.json"});
    ASSERT_TRUE(command) << command.error().message;
    EXPECT_EQ(std::get<ReportOptions>(*command).stats_file, "stats.json");
    EXPECT_EQ(std::get<ReportOptions>(*command).output, "page.html");
    EXPECT_EQ(run_of({"run", "--report", "r.html", "sort"}).report_file, "r.html");
    EXPECT_THAT(error_of({"report"}), HasSubstr("farswap report STATS"));
    EXPECT_THAT(error_of({"report", "a", "b"}), HasSubstr("--help"));
}

TEST(SizeOptions, AreOfAProgramOrOfAProcess) {
    const auto program = run_of({"size", "--limit", "60", "sort", "-n"});
    EXPECT_TRUE(program.sizes);
    EXPECT_EQ(program.sizes_limit, std::chrono::seconds(60));
    EXPECT_THAT(program.argv, ElementsAre("sort", "-n"));
    EXPECT_THAT(run_of({"size", "--", "42"}).argv, ElementsAre("42"));
    EXPECT_FALSE(run_of({"size", "sort"}).sizes_limit);
    for (const auto& words : {std::vector{"size", "--json", "42"}, std::vector{"size", "42", "--json"}}) {
        const auto command = parse(words);
        ASSERT_TRUE(command) << command.error().message;
        EXPECT_EQ(std::get<SizeOptions>(*command).process, 42);
        EXPECT_TRUE(std::get<SizeOptions>(*command).json);
    }
    EXPECT_FALSE(std::get<SizeOptions>(*parse({"size", "42"})).json);
    EXPECT_THAT(error_of({"size", "--ram", "1G", "42"}), HasSubstr("--ram goes with a program"));
    EXPECT_THAT(error_of({"size", "42", "43"}), HasSubstr("one process at a time"));
    EXPECT_THAT(error_of({"size", "42", "--ram"}), HasSubstr("'--ram' is no process number"));
    EXPECT_THAT(error_of({"size", "0"}), HasSubstr("'0' is no process number"));
    EXPECT_THAT(error_of({"size", "99999999999"}), HasSubstr("is no process number"));
    EXPECT_THAT(error_of({"size", "--json", "sort"}), HasSubstr("--json goes with a PID"));
    EXPECT_THAT(error_of({"size", "--limit", "0", "sort"}), HasSubstr("--limit"));
    EXPECT_THAT(error_of({"run", "--limit", "5", "sort"}), HasSubstr("--limit"));
}

TEST(RunOptions, AreAllTaken) {
    const auto options = run_of(
        {"run",    "--ram=512M", "--swap",      "nfs://a/b", "--swap",       "file:/c",   "--stats", "s.json",
         "--pool", "8M",         "--on-outage", "stop:90",   "--overcommit", "--on-full", "wait",    "--seal",
         "off",    "--compress", "zstd",        "--verbose", "--",           "sort"});
    EXPECT_TRUE(options.wait_when_full && !options.seal);
    EXPECT_EQ(options.compression, Compression::kZstd);
    EXPECT_EQ(options.ram.bytes, 512u << 20);
    EXPECT_THAT(options.swap, ElementsAre("nfs://a/b", "file:/c"));
    EXPECT_EQ(options.stats_file, "s.json");
    EXPECT_EQ(options.pool, 8u << 20);
    EXPECT_EQ(options.outage_max, std::chrono::seconds(90));
    EXPECT_TRUE(options.overcommit && options.verbose);
    EXPECT_THAT(options.argv, ElementsAre("sort"));
}

TEST(RunOptions, AreRefusedInOneLine) {
    EXPECT_THAT(error_of({"run", "--ram", "12Q", "sort"}), HasSubstr("--ram 12Q: not a size"));
    EXPECT_THAT(error_of({"run", "--pool", "25%", "sort"}), HasSubstr("--pool 25%: not a size"));
    EXPECT_THAT(error_of({"run", "--ram", "", "sort"}), HasSubstr("not a size"));
    for (const char* wrong : {"stop", "stop:", "stop:0", "stop:-1", "stop:5s", "stop:99999999", "never"})
        EXPECT_THAT(error_of({"run", "--on-outage", wrong, "sort"}), HasSubstr("write wait, or stop:SECONDS"))
            << wrong;
    EXPECT_FALSE(run_of({"run", "--on-outage", "wait", "sort"}).outage_max);
    EXPECT_THAT(error_of({"run", "--on-full", "panic", "sort"}), HasSubstr("--on-full"));
    EXPECT_THAT(error_of({"run", "--seal", "maybe", "sort"}), HasSubstr("--seal"));
    EXPECT_THAT(error_of({"run", "--compress", "rar", "sort"}), HasSubstr("--compress"));
    EXPECT_THAT(error_of({"run", "--bad", "sort"}), HasSubstr("--bad: no such option"));
    EXPECT_THAT(error_of({"run"}), HasSubstr("no program given"));
    EXPECT_THAT(error_of({"run", "--"}), HasSubstr("no program given"));
    EXPECT_THAT(error_of({"run", "--ram"}), HasSubstr("farswap run --help"));
    EXPECT_THAT(error_of({"run", "--ram", "1G", "--ram", "2G", "sort"}), HasSubstr("--ram"));
    EXPECT_THAT(error_of({"run", "-q", "-v", "sort"}), HasSubstr("exclude each other"));
    for (const auto& message : {error_of({"run", "--ram"}), error_of({"check", "--bad"})})
        EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

TEST(RunOptions, MirrorsTakeStoresTwoByTwo) {
    EXPECT_EQ(run_of({"run", "sort"}).mirror, 1u);
    EXPECT_EQ(run_of({"run", "--mirror", "2", "--swap", "file:/a", "--swap", "file:/b", "sort"}).mirror, 2u);
    EXPECT_THAT(error_of({"run", "--mirror", "2", "sort"}), HasSubstr("two by two, and 0 were given"));
    EXPECT_THAT(error_of({"run", "--mirror", "2", "--swap", "file:/a", "sort"}), HasSubstr("two by two"));
    EXPECT_THAT(error_of({"run", "--mirror", "3", "--swap", "file:/a", "sort"}), HasSubstr("--mirror"));
}

TEST(CheckOptions, NeedAUrlToClean) {
    const auto command = parse({"check", "--clean", "--yes", "nfs://a/b"});
    ASSERT_TRUE(command);
    EXPECT_TRUE(std::get<CheckOptions>(*command).clean && std::get<CheckOptions>(*command).yes);
    EXPECT_THAT(std::get<CheckOptions>(*command).urls, ElementsAre("nfs://a/b"));
    EXPECT_THAT(error_of({"check", "--clean"}), HasSubstr("needs the URL"));
    EXPECT_THAT(error_of({"check", "--yes"}), HasSubstr("--clean only"));
    EXPECT_TRUE(parse({"check"}));
}

TEST(SizeOptions, AreThoseOfRunButForTheCap) {
    const auto options = run_of({"size", "--swap", "file:/a", "--", "sort", "-n"});
    EXPECT_TRUE(options.sizes);
    EXPECT_EQ(options.ram.bytes, 0u);
    EXPECT_EQ(options.ram.percent, 0);
    EXPECT_THAT(options.argv, ElementsAre("sort", "-n"));
    EXPECT_EQ(run_of({"size", "--ram", "64M", "sort"}).ram.bytes, 64u << 20);
    EXPECT_FALSE(run_of({"run", "sort"}).sizes);
    EXPECT_THAT(error_of({"size"}), HasSubstr("no program given; write: farswap size PROGRAM"));
    EXPECT_THAT(error_of({"size", "--no-such"}), HasSubstr("see farswap size --help"));
}

TEST(Command, PrintsHelpAndVersion) {
    const auto text_of = [](std::vector<const char*> words) {
        return std::get<PrintText>(parse(words).value()).text;
    };
    EXPECT_THAT(text_of({"--version"}), ::testing::MatchesRegex("farswap [0-9.]+\n"));
    EXPECT_THAT(text_of({"--help"}), HasSubstr("farswap run"));
    EXPECT_THAT(text_of({"run", "--help"}), HasSubstr("--swap"));
    EXPECT_THAT(text_of({"run", "--help"}), HasSubstr("[--] PROGRAM [ARGUMENT]..."));
    EXPECT_THAT(text_of({"check", "--help"}), HasSubstr("--clean"));
    EXPECT_THAT(error_of({}), HasSubstr("no command given"));
    EXPECT_THAT(error_of({"walk"}), HasSubstr("walk: no such command"));
}

TEST(Command, TellsProgramsWhatItTellsPeople) {
    const auto text_of = [](std::vector<const char*> words) {
        return std::get<PrintText>(parse(words).value()).text;
    };
    const auto all = nlohmann::json::parse(text_of({"--help-json"}));
    ASSERT_GE(all.at("commands").size(), 9u);
    for (const auto& command : all.at("commands")) {
        const auto& syntax = command.at("syntax");
        const std::string name = syntax.at("name");
        EXPECT_THAT(text_of({"--help"}), HasSubstr("farswap " + name + " "));
        EXPECT_THAT(text_of({"--help"}), HasSubstr(command.at("summary")));
        const std::string help = text_of({name.c_str(), "--help"});
        EXPECT_EQ(syntax, nlohmann::json::parse(text_of({name.c_str(), "--help-json"})));
        EXPECT_THAT(help, HasSubstr(syntax.at("help")));
        for (const auto& line : syntax.at("usage")) EXPECT_THAT(help, HasSubstr(line));
        for (const auto& option : syntax.at("options"))
            for (const auto& option_name : option.at("names")) EXPECT_THAT(help, HasSubstr(option_name));
    }
    const auto run = nlohmann::json::parse(text_of({"run", "--help-json"}));
    const auto option = [&](std::string_view name) {
        for (const auto& each : run.at("options"))
            if (each.at("names").back() == name) return each;
        return nlohmann::json{};
    };
    EXPECT_EQ(option("--on-full").at("value"), "wait|stop") << "and nothing of how CLI11 checks it";
    EXPECT_EQ(option("--on-outage").at("value"), "wait|stop:SECONDS");
    EXPECT_EQ(option("--chaos").at("value"), "RATE");
    EXPECT_EQ(option("--quiet").at("value"), "");
    EXPECT_EQ(option("--quiet").at("names"), nlohmann::json({"-q", "--quiet"}));
    EXPECT_TRUE(option("--swap").at("repeats"));
    EXPECT_FALSE(option("--ram").at("repeats"));
    EXPECT_EQ(run_of({"run", "prog", "--help-json"}).argv.size(), 2u)
        << "behind the program it is the program's";
}

TEST(AttachOptions, AreThoseOfRunAndProcesses) {
    const auto options = run_of({"attach", "--ram", "1G", "12", "--swap", "file:/x", "7", "12"});
    EXPECT_THAT(options.processes, ElementsAre(12, 7)) << "each once";
    EXPECT_THAT(options.swap, ElementsAre("file:/x"));
    EXPECT_TRUE(options.argv.empty());
    EXPECT_THAT(error_of({"attach"}), HasSubstr("PID"));
    EXPECT_THAT(error_of({"attach", "12a"}), HasSubstr("12a"));
    EXPECT_THAT(error_of({"attach", "0"}), HasSubstr("0"));
    EXPECT_THAT(error_of({"attach", "99999999999"}), HasSubstr("99999999999"));
}

TEST(DetachOptions, AreProcessesAndForce) {
    const auto command = parse({"detach", "--force", "12"});
    ASSERT_TRUE(command);
    EXPECT_TRUE(std::get<DetachOptions>(*command).force);
    EXPECT_THAT(std::get<DetachOptions>(*command).processes, ElementsAre(12));
    EXPECT_THAT(error_of({"detach"}), HasSubstr("PID"));
    EXPECT_THAT(error_of({"detach", "--ram", "1G", "12"}), HasSubstr("--ram"));
}

TEST(ResumeOptions, AreOnePager) {
    EXPECT_EQ(std::get<ResumeOptions>(*parse({"resume", "12"})).pager, 12);
    EXPECT_THAT(error_of({"resume"}), HasSubstr("PID"));
    EXPECT_THAT(error_of({"resume", "12", "13"}), HasSubstr("one pager"));
    EXPECT_THAT(error_of({"resume", "it"}), HasSubstr("'it' is no process number"));
}

TEST(SetOptions, AreOneProcessAndACap) {
    const auto command = parse({"set", "12", "--ram", "4G"});
    ASSERT_TRUE(command) << command.error().message;
    EXPECT_EQ(std::get<SetOptions>(*command).process, 12);
    EXPECT_EQ(std::get<SetOptions>(*command).ram.bytes, 4ull << 30);
    EXPECT_FALSE(std::get<SetOptions>(*command).json);
    EXPECT_EQ(std::get<SetOptions>(*parse({"set", "--ram", "25%", "--json", "12"})).ram.percent, 25);
    EXPECT_THAT(error_of({"set", "--ram", "4G"}), HasSubstr("PID"));
    EXPECT_THAT(error_of({"set", "12"}), HasSubstr("no cap given"));
    EXPECT_THAT(error_of({"set", "12", "13", "--ram", "4G"}), HasSubstr("one process"));
    EXPECT_THAT(error_of({"set", "12", "--ram", "much"}), HasSubstr("--ram much"));
    EXPECT_THAT(error_of({"set", "12", "--pool", "8M"}), HasSubstr("--pool"));
}

TEST(TopOptions, AreFew) {
    const auto command = parse({"top", "--once", "--interval", "0.5"});
    ASSERT_TRUE(command) << command.error().message;
    EXPECT_TRUE(std::get<TopOptions>(*command).once && !std::get<TopOptions>(*command).json);
    EXPECT_EQ(std::get<TopOptions>(*command).interval_s, 0.5);
    EXPECT_THAT(error_of({"top", "--interval", "0"}), HasSubstr("--interval"));
    EXPECT_THAT(error_of({"top", "--interval", "nan"}), HasSubstr("--interval: nan is not a number"));
    EXPECT_THAT(error_of({"top", "12"}), HasSubstr("12"));
}

TEST(CoreOptions, NameOneProcessAndAFile) {
    const auto command = parse({"core", "-o", "x.core", "12"});
    ASSERT_TRUE(command) << command.error().message;
    EXPECT_EQ(std::get<CoreOptions>(*command).process, 12);
    EXPECT_EQ(std::get<CoreOptions>(*command).output, "x.core");
    EXPECT_FALSE(std::get<CoreOptions>(*command).merge);
    EXPECT_THAT(error_of({"core"}), HasSubstr("PID"));
    EXPECT_THAT(error_of({"core", "12", "13"}), HasSubstr("one process"));
    EXPECT_THAT(error_of({"core", "--merge", "12"}), HasSubstr("-o"));
    EXPECT_EQ(error_of({"core", "--merge", "-o", "-", "12"}), "accepted");
}

TEST(DebugOptions, EndAtTheDebugger) {
    const auto command = parse({"debug", "gdb", "-p", "12"});
    ASSERT_TRUE(command) << command.error().message;
    EXPECT_THAT(std::get<DebugOptions>(*command).argv, ElementsAre("gdb", "-p", "12"));
    EXPECT_THAT(error_of({"debug"}), HasSubstr("farswap debug PROGRAM"));
    EXPECT_THAT(error_of({"debug", "-p", "12"}), HasSubstr("-p"));
}

TEST(BenchOptions, NameStoresAndBounds) {
    const auto command =
        parse({"bench", "--size", "64M", "--seconds", "0.1", "--json", "f", "file:/a", "nfs://h/b"});
    ASSERT_TRUE(command) << command.error().message;
    const auto& options = std::get<BenchOptions>(*command);
    EXPECT_THAT(options.urls, ElementsAre("file:/a", "nfs://h/b"));
    EXPECT_EQ(options.size, 64u << 20);
    EXPECT_EQ(options.seconds, 0.1);
    EXPECT_EQ(options.json, "f");
    EXPECT_THAT(error_of({"bench"}), HasSubstr("no store given"));
    EXPECT_THAT(error_of({"bench", "--size", "4K", "file:/a"}), HasSubstr("1M is the least"));
    for (const char* seconds : {"0", "-1", "inf", "1e99", "banana", ""})
        EXPECT_THAT(error_of({"bench", "file:/a", "--seconds", seconds}), HasSubstr("--seconds")) << seconds;
    for (const char* seconds : {"nan", "NaN"})
        EXPECT_THAT(error_of({"bench", "file:/a", "--seconds", seconds}), HasSubstr("is not a number"));
    EXPECT_THAT(error_of({"bench", "ftp://h/a"}), HasSubstr("ftp"));
}

}  // namespace
}  // namespace farswap::cli
