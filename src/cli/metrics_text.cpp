// Formats the metrics; see metrics_text.h.
#include "cli/metrics_text.h"

namespace farswap::cli {

namespace {

/// A figure of the job as a whole.
struct JobMetric {
    std::string_view name, type, help;
    double (*value)(const JobReport& report, const LiveFacts& facts);
};

/// A figure of the job's share of the machine's budget.
struct ShareMetric {
    std::string_view name, help;  // gauges all
    double (*value)(const ShareFacts& share);
};

/// A figure of each store.
struct StoreMetric {
    std::string_view name, type, help;
    double (*value)(const StoreReport& store, const StoreState& state);
};

constexpr std::string_view kInfoName = "farswap_job_info";
constexpr std::string_view kLatencyName = "farswap_fault_latency_seconds";
constexpr std::size_t kLatencyBitsLeast = 10, kLatencyBitsMost = 34;  // 2^10 ns (1 us) to 2^34 ns (17 s)

double number(std::uint64_t value) {
    return static_cast<double>(value);
}

#define FARSWAP_JOB(expression)                                     \
    [](const JobReport& report, const LiveFacts& facts) -> double { \
        static_cast<void>(report), static_cast<void>(facts);        \
        return expression;                                          \
    }
#define FARSWAP_STORE(expression)                                     \
    [](const StoreReport& store, const StoreState& state) -> double { \
        static_cast<void>(store), static_cast<void>(state);           \
        return expression;                                            \
    }

const JobMetric kJobMetrics[] = {
    {"farswap_uptime_seconds", "gauge", "How long the job has been running.",
     FARSWAP_JOB(report.stats.elapsed_s)},
    {"farswap_ram_bytes", "gauge", "RAM of the job, its pager's included.",
     FARSWAP_JOB(number(report.stats.ram_now))},
    {"farswap_ram_cap_bytes", "gauge", "The cap on farswap_ram_bytes.",
     FARSWAP_JOB(number(report.stats.ram_cap))},
    {"farswap_ram_peak_bytes", "gauge", "Most RAM of the job at one time.",
     FARSWAP_JOB(number(report.stats.ram_peak))},
    {"farswap_pager_ram_bytes", "gauge", "The pager's part of farswap_ram_bytes.",
     FARSWAP_JOB(number(report.stats.pager_ram))},
    {"farswap_far_bytes", "gauge", "Memory of the program that is outside of it.",
     FARSWAP_JOB(number(report.stats.far_pages* kPageSize))},
    {"farswap_far_peak_bytes", "gauge", "Most that was outside at one time.",
     FARSWAP_JOB(number(report.stats.far_peak* kPageSize))},
    {"farswap_need_peak_bytes", "gauge", "Most in RAM and outside at one time: what the job would have used.",
     FARSWAP_JOB(number(report.stats.need_peak))},
    {"farswap_pool_bytes", "gauge", "Memory for pages on their way.", FARSWAP_JOB(number(report.pool))},
    {"farswap_pool_dirty_bytes", "gauge", "Of the pool, pages that no store has yet.",
     FARSWAP_JOB(number(report.stats.swap.frames_dirty* kPageSize))},
    {"farswap_pool_clean_bytes", "gauge", "Of the pool, pages that a store has as well.",
     FARSWAP_JOB(number(report.stats.swap.frames_clean* kPageSize))},
    {"farswap_slots_used", "gauge", "Places of pages outside that are taken.",
     FARSWAP_JOB(number(facts.slots_used))},
    {"farswap_slots_capacity", "gauge", "Places that the stores have.",
     FARSWAP_JOB(number(facts.slots_capacity))},
    {"farswap_slots_full", "gauge", "1 when no place is free and there cannot be more.",
     FARSWAP_JOB(facts.is_full ? 1 : 0)},
    {"farswap_processes", "gauge", "Processes that are paged now.",
     FARSWAP_JOB(number(facts.processes.size()))},
    {"farswap_processes_seen_total", "counter", "Processes of the job so far.",
     FARSWAP_JOB(number(report.stats.processes_seen))},
    {"farswap_processes_unmanaged", "gauge", "Processes whose memory stays in RAM.",
     FARSWAP_JOB(number(report.stats.processes_unmanaged))},
    {"farswap_faults_total", "counter", "Page faults served.", FARSWAP_JOB(number(report.stats.faults))},
    {"farswap_faults_first_touch_total", "counter", "Of the faults, new pages that were filled with zeros.",
     FARSWAP_JOB(number(report.stats.faults_first))},
    {"farswap_faults_second_chance_total", "counter",
     "Of the faults, pages that had not begun their way to a store.",
     FARSWAP_JOB(number(report.stats.second_chances))},
    {"farswap_faults_cached_total", "counter", "Of the faults, pages from the swap cache.",
     FARSWAP_JOB(number(report.stats.faults_cached))},
    {"farswap_faults_stored_total", "counter", "Of the faults, pages read from a store.",
     FARSWAP_JOB(number(report.stats.faults_stored))},
    {"farswap_faults_waited_seconds_total", "counter", "Time in which faults waited for room under the cap.",
     FARSWAP_JOB(number(report.stats.throttled_ms) / 1000)},
    {"farswap_pages_evicted_total", "counter", "Pages moved out of the program.",
     FARSWAP_JOB(number(report.stats.pages_evicted))},
    {"farswap_pages_unchanged_total", "counter", "Of the evicted, pages that a store had as they were.",
     FARSWAP_JOB(number(report.stats.pages_clean))},
    {"farswap_pages_one_word_total", "counter", "Pages of one word, of which nothing is written.",
     FARSWAP_JOB(number(report.stats.swap.pages_filled))},
    {"farswap_pages_written_total", "counter", "Pages written to the stores.",
     FARSWAP_JOB(number(report.stats.swap.pages_written))},
    {"farswap_pages_read_total", "counter", "Pages read from the stores, prefetched ones included.",
     FARSWAP_JOB(number(report.stats.swap.pages_in))},
    {"farswap_pages_prefetched_total", "counter", "Pages brought in along with a fault.",
     FARSWAP_JOB(number(report.stats.prefetched))},
    {"farswap_cache_hits_total", "counter", "Pages found in the swap cache.",
     FARSWAP_JOB(number(report.stats.swap.cache_hits))},
    {"farswap_cache_tier_bytes", "gauge", "Compressed pages in memory, before or beside their stores.",
     FARSWAP_JOB(number(report.stats.swap.bytes_packed))},
    {"farswap_cache_tier_limit_bytes", "gauge", "What they may take now; 0 where there is no such tier.",
     FARSWAP_JOB(number(report.stats.swap.tier_limit))},
    {"farswap_cache_tier_hits_total", "counter", "Of the cache hits, pages that were compressed in memory.",
     FARSWAP_JOB(number(report.stats.swap.tier_found))},
    {"farswap_cache_tier_written_back_total", "counter", "Pages that went on from there to a store.",
     FARSWAP_JOB(number(report.stats.swap.tier_written_back))},
    {"farswap_written_page_bytes_total", "counter",
     "Bytes of the pages that were written, before compression.",
     FARSWAP_JOB(number(stored_bytes(report, facts).pages))},
    {"farswap_stored_page_bytes_total", "counter", "Bytes that they took on the stores, once for each page.",
     FARSWAP_JOB(number(stored_bytes(report, facts).stored))},
};

const ShareMetric kShareMetrics[] = {
    {"farswap_budget_bytes", "RAM that farswapd divides among the jobs of this machine.",
     [](const ShareFacts& share) { return number(share.budget); }},
    {"farswap_budget_share_bytes", "The job's share of it: the cap that it was last told.",
     [](const ShareFacts& share) { return number(share.cap); }},
    {"farswap_budget_share_limit_bytes", "Most that its share may become.",
     [](const ShareFacts& share) { return number(share.wanted); }},
    {"farswap_budget_connected", "1; 0 while farswapd is away, when the share stays as it is.",
     [](const ShareFacts& share) -> double { return share.is_connected ? 1 : 0; }},
};

const StoreMetric kStoreMetrics[] = {
    {"farswap_store_silent_seconds", "gauge", "For how long the store has owed an answer.",
     FARSWAP_STORE(state.silent_s)},
    {"farswap_store_degraded", "gauge", "1 while one half of a mirror does not have everything.",
     FARSWAP_STORE(state.is_degraded ? 1 : 0)},
    {"farswap_store_capacity_bytes", "gauge", "Most that may be stored.",
     FARSWAP_STORE(number(store.capacity))},
    {"farswap_store_reserved_bytes", "gauge", "What is allocated.", FARSWAP_STORE(number(store.reserved))},
    {"farswap_store_reads_total", "counter", "Read requests.", FARSWAP_STORE(number(store.counters.reads))},
    {"farswap_store_writes_total", "counter", "Write requests.",
     FARSWAP_STORE(number(store.counters.writes))},
    {"farswap_store_flushes_total", "counter", "Flushes.", FARSWAP_STORE(number(store.counters.flushes))},
    {"farswap_store_read_bytes_total", "counter", "Bytes read.",
     FARSWAP_STORE(number(store.counters.bytes_read))},
    {"farswap_store_written_bytes_total", "counter", "Bytes written.",
     FARSWAP_STORE(number(store.counters.bytes_written))},
    {"farswap_store_copied_bytes_total", "counter", "Bytes that did not go straight between page and kernel.",
     FARSWAP_STORE(number(store.counters.bytes_copied))},
    {"farswap_store_retries_total", "counter", "Requests sent again.",
     FARSWAP_STORE(number(store.counters.retries))},
    {"farswap_store_reconnects_total", "counter", "Connections made anew.",
     FARSWAP_STORE(number(store.counters.reconnects))},
    {"farswap_store_lost_writes_total", "counter", "Times that a server lost what it had acknowledged.",
     FARSWAP_STORE(number(store.counters.lost_writes))},
};

#undef FARSWAP_JOB
#undef FARSWAP_STORE

/// A label's value: \, " and line ends escaped; what is no plain ASCII is '?', as the format wants UTF-8.
std::string label(std::string_view text) {
    std::string value;
    for (const char c : text) {
        if (c == '\\' || c == '"') value += '\\';
        if (c == '\n')
            value += "\\n";
        else
            value += c >= ' ' && c < 127 ? c : '?';
    }
    return value;
}

void head(std::string& text, std::string_view name, std::string_view type, std::string_view help) {
    text += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", name, help, type);
}

void latencies(std::string& text, const FaultLatencies& latencies) {
    head(text, kLatencyName, "histogram",
         "How long faults took, by what they waited for, from when the pager had read of them.");
    for (std::size_t i = 0; i < kFaultKinds; ++i) {
        const LatencyHistogram& times = latencies.kinds[i];
        const auto kind = fmt::format("kind=\"{}\"", kFaultKindNames[i]);
        for (std::size_t bits = kLatencyBitsLeast; bits <= kLatencyBitsMost; ++bits)
            text += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", kLatencyName, kind,
                                number(std::uint64_t{1} << bits) / 1e9, times.below_power(bits));
        text += fmt::format("{}_bucket{{{},le=\"+Inf\"}} {}\n", kLatencyName, kind, times.count());
        text += fmt::format("{}_sum{{{}}} {}\n", kLatencyName, kind, number(times.sum()) / 1e9);
        text += fmt::format("{}_count{{{}}} {}\n", kLatencyName, kind, times.count());
    }
}

}  // namespace

std::string metrics_text(const JobReport& report, const LiveFacts& facts) {
    std::string text;
    head(text, kInfoName, "gauge", "Always 1; its labels name the job.");
    text +=
        fmt::format("{}{{program=\"{}\",pager=\"{}\"}} 1\n", kInfoName, label(report.program), facts.pager);
    for (const auto& metric : kJobMetrics) {
        head(text, metric.name, metric.type, metric.help);
        text += fmt::format("{} {}\n", metric.name, metric.value(report, facts));
    }
    // Where there is no budget, no sample: 0 would be taken for a figure.
    for (const auto& metric : kShareMetrics) {
        head(text, metric.name, "gauge", metric.help);
        if (facts.share) text += fmt::format("{} {}\n", metric.name, metric.value(*facts.share));
    }
    latencies(text, report.stats.latencies);
    for (const auto& metric : kStoreMetrics) {
        head(text, metric.name, metric.type, metric.help);
        for (std::size_t i = 0; i < report.stores.size() && i < facts.stores.size(); ++i)
            text +=
                fmt::format("{}{{store=\"{}\",index=\"{}\"}} {}\n", metric.name, label(report.stores[i].name),
                            i, metric.value(report.stores[i], facts.stores[i]));
    }
    return text;
}

std::vector<std::string_view> metric_names() {
    std::vector<std::string_view> names{kInfoName};
    for (const auto& metric : kJobMetrics) names.push_back(metric.name);
    for (const auto& metric : kShareMetrics) names.push_back(metric.name);
    names.push_back(kLatencyName);
    for (const auto& metric : kStoreMetrics) names.push_back(metric.name);
    return names;
}

}  // namespace farswap::cli
