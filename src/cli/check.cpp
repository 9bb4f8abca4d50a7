// farswap check; see check.h.
#include "cli/check.h"

#include <unistd.h>

#include <cstdio>

#include "base/log.h"
#include "cli/probe.h"
#include "cli/setup_signals.h"
#include "cli/sizes.h"
#include "cli/store_probe.h"
#include "store/open.h"

namespace farswap::cli {

namespace {

void print(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
}

bool is_control(unsigned char byte) {
    return byte < ' ' || byte == 0x7f;
}

/// Whoever may write to a store has chosen the names there, and they end up on a terminal: without characters
/// that would move its cursor (ECMA-48; those of 0x80 to 0x9f are two bytes in UTF-8).
std::string printable(std::string text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
        if (is_control(byte) || (byte == 0xc2 && next >= 0x80 && next < 0xa0)) text[i] = '?';
    }
    return text;
}

bool check_machine() {
    bool fit = true;
    for (const auto& finding : assess(probe_machine())) {
        print(format_finding(finding));
        fit = fit && finding.verdict != Verdict::kNo;
    }
    return fit;
}

bool check_store(const std::string& url, io::Loop& loop) {
    const auto probe = probe_store(url, loop);
    if (!probe) {
        print(format_finding({Verdict::kNo, "store", probe.error().message, ""}));
        return false;
    }
    print(format_finding(
        {Verdict::kOk, "store",
         fmt::format("{}  {} free  write {:.2f} ms  flush {:.2f} ms  read {:.2f} ms", probe->name,
                     format_size(probe->capacity), probe->write_ms, probe->flush_ms, probe->read_ms),
         ""}));
    return true;
}

bool check_stores(const std::vector<std::string>& urls) {
    if (urls.empty()) return true;
    const SetupSignals signals;
    auto loop = io::Loop::create();
    if (!loop) {
        log::write_line(loop.error().message);
        return false;
    }
    bool fit = true;
    for (const auto& url : urls) {
        if (signals.taken() != 0) return false;
        fit = check_store(url, **loop) && fit;
    }
    return fit;
}

/// Asks on the terminal; anything but y or yes is no.
bool confirmed(std::size_t count, const std::string& url) {
    print(fmt::format("remove {} of them from {}? [y/N] ", count, url));
    char answer[16] = {};
    if (std::fgets(answer, sizeof answer, stdin) == nullptr) return false;
    return answer[0] == 'y' || answer[0] == 'Y';
}

/// Lists what lies on the store and removes what has no owner any more, if that is wanted.
bool clean_store(const std::string& url, bool yes) {
    const auto found = list_orphans(url);
    if (!found) {
        log::write_line(found.error().message);
        return false;
    }
    std::vector<const Orphan*> dead;
    for (const auto& orphan : *found) {
        print(fmt::format("{:<6}{}  {}  {}\n", orphan.alive ? "live" : "dead", printable(orphan.path),
                          format_size(orphan.bytes), orphan.owner));
        if (!orphan.alive) dead.push_back(&orphan);
    }
    if (dead.empty()) {
        print(fmt::format("nothing to remove on {}\n", url));
        return true;
    }
    if (!yes && ::isatty(STDIN_FILENO) != 1) {
        print("nothing was removed; add --yes to remove the dead ones\n");
        return false;
    }
    if (!yes && !confirmed(dead.size(), url)) return false;
    bool all = true;
    for (const auto* orphan : dead) {
        const auto removed = remove_orphan(url, *orphan);
        if (!removed)
            log::write_line(printable(removed.error().message));
        else
            print(fmt::format("removed {}\n", printable(orphan->path)));
        all = all && removed.has_value();
    }
    return all;
}

}  // namespace

int check_command(const CheckOptions& options) {
    bool good = true;
    if (options.clean) {
        for (const auto& url : options.urls) good = clean_store(url, options.yes) && good;
    } else {
        good = check_machine();
        good = check_stores(options.urls) && good;
    }
    return good ? 0 : 1;
}

}  // namespace farswap::cli
