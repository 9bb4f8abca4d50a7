// What keys do; see top_view.h.
#include "cli/top_view.h"

#include <algorithm>

namespace farswap::cli {

namespace {

constexpr std::size_t kTypedMax = 20;
constexpr std::size_t kPage = 10;

double sort_key(const TopJob& job, TopSort sort) {
    switch (sort) {
        case TopSort::kRam:
            return static_cast<double>(job.used);
        case TopSort::kFar:
            return static_cast<double>(job.far);
        case TopSort::kFaults:
            return last(job.fault_rate);
        case TopSort::kIn:
            return last(job.in_rate);
        case TopSort::kOut:
            return last(job.out_rate);
        case TopSort::kPid:
            return -static_cast<double>(job.process);
    }
    return 0;
}

bool choose_sort(TopView& view, char32_t pressed) {
    switch (pressed) {
        case U'r':
            view.sort = TopSort::kRam;
            return true;
        case U'a':
            view.sort = TopSort::kFar;
            return true;
        case U'f':
            view.sort = TopSort::kFaults;
            return true;
        case U'i':
            view.sort = TopSort::kIn;
            return true;
        case U'o':
            view.sort = TopSort::kOut;
            return true;
        case U'p':
            view.sort = TopSort::kPid;
            return true;
        default:
            return false;
    }
}

bool move(TopView& view, const std::vector<TopJob>& jobs, char32_t pressed) {
    const auto order = in_order(jobs, view.sort);
    if (order.empty()) return false;
    const auto at = selected_place(view, order), end = order.size() - 1;
    std::size_t to = at;
    switch (pressed) {
        case key::kUp:
            to = at > 0 ? at - 1 : 0;
            break;
        case key::kDown:
            to = std::min(at + 1, end);
            break;
        case key::kPageUp:
            to = at > kPage ? at - kPage : 0;
            break;
        case key::kPageDown:
            to = std::min(at + kPage, end);
            break;
        case key::kHome:
            to = 0;
            break;
        case key::kEnd:
            to = end;
            break;
        default:
            return false;
    }
    view.selected = order[to]->pager;
    return true;
}

void ask(TopView& view, const std::vector<TopJob>& jobs, TopPrompt prompt) {
    const auto order = in_order(jobs, view.sort);
    if (order.empty()) return;
    view.prompt = prompt;
    view.asked_about = order[selected_place(view, order)]->pager;
    view.typed.clear();
}

/// A key while something is asked.
TopAction answer(TopView& view, char32_t pressed) {
    if (pressed == key::kEscape) {
        view.prompt = TopPrompt::kNone;
        return {};
    }
    if (view.prompt == TopPrompt::kDetach) {
        view.prompt = TopPrompt::kNone;
        if (pressed != U'y' && pressed != U'Y') return {};
        return {.kind = TopAction::Kind::kDetach, .pager = view.asked_about};
    }
    if (pressed == key::kBackspace) {
        if (!view.typed.empty()) view.typed.pop_back();
    } else if (pressed == key::kEnter) {
        view.prompt = TopPrompt::kNone;
        if (view.typed.empty()) return {};
        const auto size = parse_ram_size("cap", view.typed);
        if (size) return {.kind = TopAction::Kind::kSetCap, .pager = view.asked_about, .ram = *size};
        view.message = size.error().message;
    } else if (pressed > U' ' && pressed < key::kBackspace && view.typed.size() < kTypedMax) {
        view.typed += static_cast<char>(pressed);
    }
    return {};
}

}  // namespace

std::vector<const TopJob*> in_order(const std::vector<TopJob>& jobs, TopSort sort) {
    std::vector<const TopJob*> order;
    for (const auto& job : jobs) order.push_back(&job);
    std::ranges::stable_sort(order, [&](const TopJob* a, const TopJob* b) {
        const auto of_a = sort_key(*a, sort), of_b = sort_key(*b, sort);
        return of_a != of_b ? of_a > of_b : a->pager < b->pager;
    });
    return order;
}

std::size_t selected_place(const TopView& view, const std::vector<const TopJob*>& order) {
    const auto found = std::ranges::find(order, view.selected, &TopJob::pager);
    return found == order.end() ? 0 : static_cast<std::size_t>(found - order.begin());
}

const TopJob* find_job(const std::vector<TopJob>& jobs, pid_t pager) {
    const auto found = std::ranges::find(jobs, pager, &TopJob::pager);
    return found == jobs.end() ? nullptr : &*found;
}

TopAction press(TopView& view, const std::vector<TopJob>& jobs, char32_t pressed) {
    view.message.clear();
    if (view.prompt != TopPrompt::kNone && find_job(jobs, view.asked_about) == nullptr)
        view.prompt = TopPrompt::kNone;
    if (view.prompt != TopPrompt::kNone) return answer(view, pressed);
    if (choose_sort(view, pressed) || move(view, jobs, pressed)) return {};
    if (pressed == U'k') return press(view, jobs, key::kUp);
    if (pressed == U'j') return press(view, jobs, key::kDown);
    if (pressed == U'c') ask(view, jobs, TopPrompt::kCap);
    if (pressed == U'd') ask(view, jobs, TopPrompt::kDetach);
    if (pressed == U'q' || pressed == U'Q') return {.kind = TopAction::Kind::kQuit};
    return {};
}

}  // namespace farswap::cli
