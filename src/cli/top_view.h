// What farswap top has been told to show, and what its keys mean. Knows no terminal and asks no pager.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cli/sizes.h"
#include "cli/top_jobs.h"

namespace farswap::cli {

enum class TopSort { kRam, kFar, kFaults, kIn, kOut, kPid };

/// What is being asked on the last line.
enum class TopPrompt { kNone, kCap, kDetach };

struct TopView {
    TopSort sort = TopSort::kRam;
    pid_t selected = 0;  ///< the pager of the job; one that is gone: the first in order
    TopPrompt prompt = TopPrompt::kNone;
    pid_t asked_about = 0;  ///< the pager of the job that the prompt is about
    std::string typed{};    ///< the answer so far
    std::string message{};  ///< instead of the keys on the last line, until the next key
};

/// Keys as characters; those that are none begin behind Unicode.
namespace key {
inline constexpr char32_t kUp = 0x110000, kDown = 0x110001, kPageUp = 0x110002, kPageDown = 0x110003;
inline constexpr char32_t kHome = 0x110004, kEnd = 0x110005, kEscape = 0x1b, kEnter = '\n';
inline constexpr char32_t kBackspace = 0x7f;
}  // namespace key

/// What a key asks for that is not done by a change of the view.
struct TopAction {
    enum class Kind { kNone, kQuit, kSetCap, kDetach } kind = Kind::kNone;
    pid_t pager = 0;
    RamSize ram{};
};

/// The jobs in the order of the view: the largest first, numbers upwards.
std::vector<const TopJob*> in_order(const std::vector<TopJob>& jobs, TopSort sort);
/// The place in `order` of the one that is selected; 0 where there is none.
std::size_t selected_place(const TopView& view, const std::vector<const TopJob*>& order);
/// By its pager; null: it is gone.
const TopJob* find_job(const std::vector<TopJob>& jobs, pid_t pager);

TopAction press(TopView& view, const std::vector<TopJob>& jobs, char32_t pressed);

}  // namespace farswap::cli
