// A command's words as JSON, which manual pages and completions are made from. Knows CLI11, and no command.
#pragma once

#include <string>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace farswap::cli {

/// What stands for the value of an option in help texts ("SIZE|PERCENT"), without CLI11's own words on what
/// it checks; empty for a flag.
std::string value_word(const CLI::Option& option);

/// One JSON object: `name` (without "farswap "), `help` (what it does), `usage` (its lines, each a whole
/// command), `options` (an array of `names`, `value`, `help`, `repeats`) and `arguments` (of `value`, `help`,
/// `repeats`). docs/commands.md, section "Help for programs", promises it.
std::string describe(const CLI::App& app);

}  // namespace farswap::cli
