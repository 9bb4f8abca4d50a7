#include "cli/describe.h"

#include <CLI/CLI.hpp>

#include <nlohmann/json.hpp>

#include <memory>
#include <string_view>

namespace farswap::cli {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kProgram = "farswap ";
constexpr std::string_view kUsage = "Usage: ";

/// "Usage: farswap check [URL]...\n       farswap check --clean URL\n": each line, without what precedes the
/// command.
Json usage_lines(const CLI::App& app) {
    Json lines = Json::array();
    const auto formatter = std::dynamic_pointer_cast<CLI::Formatter>(app.get_formatter());
    std::string text = formatter ? formatter->make_usage(&app, app.get_name()) : "";
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        const std::string line = text.substr(begin, end - begin);
        if (const std::size_t command = line.find(kProgram); command != std::string::npos)
            lines.push_back(line.substr(command));
        begin = end + 1;
    }
    return lines;
}

}  // namespace

std::string value_word(const CLI::Option& option) {
    std::string word = option.get_type_size() == 0 ? "" : option.get_type_name();
    // CLI11 puts what each check says of itself behind the word, with a colon.
    constexpr int kChecksMax = 8;
    for (int i = 0; i < kChecksMax; ++i) {
        try {
            // A const option has no way to its checks, though looking at them changes nothing.
            const std::string check =
                ":" + const_cast<CLI::Option&>(option).get_validator(i)->get_description();
            if (const std::size_t at = word.find(check); at != std::string::npos)
                word.erase(at, check.size());
        } catch (const CLI::OptionNotFound&) {
            break;
        }
    }
    return word;
}

std::string describe(const CLI::App& app) {
    Json options = Json::array(), arguments = Json::array();
    for (const CLI::Option* option : app.get_options()) {
        Json entry;
        if (!option->nonpositional()) {
            arguments.push_back({{"value", value_word(*option)},
                                 {"help", option->get_description()},
                                 {"repeats", option->get_expected_max() > 1}});
            continue;
        }
        Json names = Json::array();
        for (const std::string& name : option->get_snames()) names.push_back("-" + name);
        for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
        options.push_back({{"names", std::move(names)},
                           {"value", value_word(*option)},
                           {"help", option->get_description()},
                           {"repeats", option->get_expected_max() > 1}});
    }
    const std::string name = app.get_name();
    return Json{{"name", name.starts_with(kProgram) ? name.substr(kProgram.size()) : name},
                {"help", app.get_description()},
                {"usage", usage_lines(app)},
                {"options", std::move(options)},
                {"arguments", std::move(arguments)}}
        .dump(1);
}

}  // namespace farswap::cli
