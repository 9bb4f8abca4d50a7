// Puts the page together; see report_page.h. Its parts are files of src/cli/page and the chart library, which
// are laid into the program when it is built.
#include "cli/report_page.h"

#include <nlohmann/json.hpp>

#include <algorithm>

// The assembler's .incbin: no compiler has to read a string of 130,000 characters.
#define FARSWAP_EMBED(name, path)                                                                    \
    asm(".pushsection .rodata\n.hidden " #name "\n.global " #name "\n" #name ":\n.incbin \"" path    \
        "\"\n.hidden " #name "_end\n.global " #name "_end\n" #name "_end:\n.byte 0\n.popsection\n"); \
    extern "C" const char name[], name##_end[]

FARSWAP_EMBED(farswap_page_html, FARSWAP_PAGE "/page.html");
FARSWAP_EMBED(farswap_page_style, FARSWAP_PAGE "/page.css");
FARSWAP_EMBED(farswap_page_script, FARSWAP_PAGE "/page.js");
FARSWAP_EMBED(farswap_page_heat_map, FARSWAP_PAGE "/heat_map.js");
FARSWAP_EMBED(farswap_page_charts, FARSWAP_PAGE "/charts.js");
FARSWAP_EMBED(farswap_page_licence, FARSWAP_PAGE "/dygraphs_licence.txt");
FARSWAP_EMBED(farswap_page_library, FARSWAP_CHART_LIBRARY);

namespace farswap::cli {

namespace {

constexpr int kDepthMax = 8;  // of a statistics file

/// JSON that may stand in a <script> element: nothing in it ends the element, begins a comment of HTML, or
/// ends a line of a script.
std::string for_script(const nlohmann::json& json) {
    const auto text = json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    std::string safe;
    safe.reserve(text.size());
    for (const char c : text) {
        if (c == '<' || c == '>' || c == '&')
            safe += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        else
            safe += c;
    }
    return safe;
}

std::string for_html(std::string_view text) {
    std::string safe;
    for (const char c : text) {
        if (c == '<' || c == '>' || c == '&' || c == '"')
            safe += fmt::format("&#{};", static_cast<int>(c));
        else
            safe += c;
    }
    return safe;
}

/// UTF-8, whatever it was.
std::string title_of(const nlohmann::json& stats) {
    const auto program = stats.find("program");
    if (program == stats.end() || !program->is_string()) return "a job";
    const auto clean =
        nlohmann::json::parse(program->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return for_html(clean.get<std::string>());
}

/// Nothing for what is no JSON, or nested so deeply that nobody of us wrote it.
nlohmann::json parse(std::string_view text) {
    bool is_too_deep = false;
    const auto look = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
        is_too_deep |= depth > kDepthMax;
        return depth <= kDepthMax;
    };
    auto json = nlohmann::json::parse(text, look, false);
    return is_too_deep ? nlohmann::json(nlohmann::json::value_t::discarded) : json;
}

/// Whether `part` has arrays of these names that are all as long as its `at_s`.
bool has_columns(const nlohmann::json& part, std::initializer_list<const char*> names) {
    const auto times = part.find("at_s");
    if (times == part.end() || !times->is_array()) return false;
    return std::ranges::all_of(names, [&](const char* name) {
        const auto column = part.find(name);
        return column != part.end() && column->is_array() && column->size() == times->size();
    });
}

bool has_history(const nlohmann::json& stats) {
    const auto history = stats.find("history"), regions = stats.find("regions");
    if (history == stats.end() || !history->is_object() || regions == stats.end() || !regions->is_object())
        return false;
    if (!has_columns(*history,
                     {"ram_bytes", "cap_bytes", "far_bytes", "faults", "first_touch", "second_chance",
                      "cached", "stored", "written_pages", "in_pages", "refault_p50_us", "refault_p99_us"}))
        return false;
    const auto rows = regions->find("rows"), times = regions->find("at_s");
    if (rows == regions->end() || !rows->is_array() || times == regions->end()) return false;
    return std::ranges::all_of(*rows, [&](nlohmann::json row) {
        if (!row.is_object()) return false;
        row["at_s"] = *times;
        return has_columns(row, {"far_pages", "refaults"});
    });
}

}  // namespace

std::string report_page(const nlohmann::json& stats) {
    const std::string_view html(farswap_page_html, farswap_page_html_end);
    std::string page;
    for (std::size_t at = 0; at < html.size();) {
        // Names of parts stand between "{{" and "}}".
        const auto begin = std::min(html.find("{{", at), html.size());
        page += html.substr(at, begin - at);
        if (begin == html.size()) break;
        const auto end = html.find("}}", begin);
        const auto part = html.substr(begin + 2, end - begin - 2);
        if (part == "style") page.append(farswap_page_style, farswap_page_style_end);
        if (part == "library") page.append(farswap_page_library, farswap_page_library_end);
        if (part == "licence") page.append(farswap_page_licence, farswap_page_licence_end);
        if (part == "charts") page.append(farswap_page_charts, farswap_page_charts_end);
        if (part == "heat map") page.append(farswap_page_heat_map, farswap_page_heat_map_end);
        if (part == "script") page.append(farswap_page_script, farswap_page_script_end);
        if (part == "data") page += for_script(stats);
        if (part == "title") page += title_of(stats);
        if (part == "version") page += FARSWAP_VERSION;
        at = end + 2;
    }
    return page;
}

Result<nlohmann::json> check_stats(std::string_view text, std::string_view name) {
    auto stats = parse(text);
    if (stats.is_discarded())
        return fail(EINVAL,
                    "{}: no JSON, or cut off; a report is made of what farswap run --stats FILE wrote", name);
    const auto format = stats.is_object() ? stats.find("format") : stats.end();
    if (format == stats.end() || !stats.contains("memory") || !stats.contains("faults"))
        return fail(EINVAL, "{}: no statistics file; a report is made of what farswap run --stats FILE wrote",
                    name);
    if (*format != 1)
        return fail(EINVAL, "{}: of format {}, and this farswap knows 1; take the farswap that wrote it",
                    name, format->dump());
    if (!has_history(stats))
        return fail(EINVAL, "{}: has no history of the job; write it anew with farswap run --stats FILE",
                    name);
    return stats;
}

}  // namespace farswap::cli
