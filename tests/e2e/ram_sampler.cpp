// Watches from outside, through /proc alone, how much RAM a job uses, and says whether it kept under its cap.
// Knows nothing of what farswap says about itself.
//
//   ram_sampler --pager PID --cap BYTES [--interval-ms 5] [--json FILE] [--trace FILE]
//   ram_sampler --plain PID             [--interval-ms 20] [--json FILE]
//
// RAM of a job: Pss_Anon + Pss_Shmem of every process below the pager, plus all RssAnon + RssShmem of the
// pager, plus hugetlb pages of both. With --plain the tree at PID is measured, PID included, and nothing is
// judged.
//
// Cost: /proc/PID/status takes some 20 us, smaps_rollup walks the page tables (about 1 ms for 40 MiB of small
// pages) and holds the process's mmap lock meanwhile, which disturbs what is measured. So the sum of RssAnon
// + RssShmem, which can only be larger, is taken first; it is exact for a job of one process. smaps_rollup is
// read when a job of several processes is above the limit by that sum. The report says how often each was
// used and what it cost. Processes are read one after the other, and meanwhile pages leave one and come into
// another: whatever moves in the order of reading is counted twice, against it not at all. So all are read
// there and back, and the mean of both is taken, in which a steady flow cancels out.
//
// Exit status: 0 within the limits, 1 above them, 2 usage or no such process.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr double kShareOverMax = 0.001;        // of the samples may be above the soft limit
constexpr std::size_t kThreadsWalkedMax = 64;  // with more, children are looked for only now and then
constexpr int kWalkEvery = 20;

struct Options {
    pid_t root = 0;
    bool plain = false;
    std::uint64_t cap = 0;
    double interval_ms = 5;
    std::string json;
    std::string trace;
};

[[noreturn]] void usage(const std::string& wrong) {
    fmt::print(
        stderr,
        "ram_sampler: {}\nusage: ram_sampler (--pager PID --cap BYTES | --plain PID) [--interval-ms N] "
        "[--json FILE] [--trace FILE]\n",
        wrong);
    std::exit(2);
}

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string_view flag = argv[i];
        const char* value = argv[i + 1];
        if (flag == "--pager" || flag == "--plain") {
            options.root = std::atoi(value);
            options.plain = flag == "--plain";
        } else if (flag == "--cap") {
            options.cap = std::strtoull(value, nullptr, 10);
        } else if (flag == "--interval-ms") {
            options.interval_ms = std::atof(value);
        } else if (flag == "--json") {
            options.json = value;
        } else if (flag == "--trace") {
            options.trace = value;
        } else {
            usage(fmt::format("unknown option {}", flag));
        }
    }
    if (argc % 2 == 0) usage(fmt::format("{} needs a value", argv[argc - 1]));
    if (options.root <= 0 || options.interval_ms <= 0) usage("--pager or --plain names a process");
    if (!options.plain && options.cap == 0) usage("--cap is missing");
    return options;
}

std::uint64_t now_ns() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000ULL +
           static_cast<std::uint64_t>(time.tv_nsec);
}

// Reads a whole file of /proc into a buffer that is used again; empty when the process is gone.
std::string_view read_proc(const std::string& path) {
    static std::array<char, 16384> buffer;
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd == -1) return {};
    std::size_t size = 0;
    for (ssize_t got = 1; got > 0 && size < buffer.size();
         size += static_cast<std::size_t>(std::max<ssize_t>(got, 0))) {
        got = ::read(fd, buffer.data() + size, buffer.size() - size);
    }
    ::close(fd);
    return {buffer.data(), size};
}

// "Name:   123 kB" in bytes; 0 when it is not there.
std::uint64_t field(std::string_view text, std::string_view name) {
    std::size_t at = text.find(name);
    if (at == std::string_view::npos) return 0;
    at = text.find_first_of("0123456789", at + name.size());
    std::uint64_t kib = 0;
    if (at != std::string_view::npos) std::from_chars(text.data() + at, text.data() + text.size(), kib);
    return kib * 1024;
}

// A process whose main thread has ended shows its memory in the files of its other threads only.
std::string_view read_proc_of_any_thread(pid_t pid, const char* file, std::string_view needed) {
    auto text = read_proc(fmt::format("/proc/{}/{}", pid, file));
    if (text.find(needed) != text.npos) return text;
    std::error_code error;
    for (const auto& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid), error)) {
        text = read_proc(task.path().string() + "/" + file);
        if (text.find(needed) != text.npos) return text;
    }
    return {};
}

std::uint64_t rss_bytes(pid_t pid) {
    const auto text = read_proc_of_any_thread(pid, "status", "\nRssAnon:");
    return field(text, "\nRssAnon:") + field(text, "\nRssShmem:") + field(text, "\nHugetlbPages:");
}

std::uint64_t pss_bytes(pid_t pid) {
    const auto text = read_proc_of_any_thread(pid, "smaps_rollup", "\nPss_Anon:");
    return field(text, "\nPss_Anon:") + field(text, "\nPss_Shmem:") + field(text, "\nShared_Hugetlb:") +
           field(text, "\nPrivate_Hugetlb:");
}

// Two processes with one address space (vfork, CLONE_VM) are counted once.
bool same_memory(pid_t a, pid_t b) {
    return ::syscall(SYS_kcmp, a, b, KCMP_VM, 0, 0) == 0;
}

// The processes of the job. A process once seen stays in until it ends, whoever becomes its parent.
class Tree {
  public:
    Tree(pid_t root, bool with_root) : root_(root), with_root_(with_root) {}

    const std::vector<pid_t>& update() {
        std::vector<pid_t> found;
        if (with_root_) found.push_back(root_);
        walk(root_, found);
        for (const pid_t pid : members_) {
            if (std::find(found.begin(), found.end(), pid) != found.end() || !alive(pid)) continue;
            found.push_back(pid);
            walk(pid, found);
        }
        members_ = std::move(found);
        drop_shared_memory();
        return members_;
    }

  private:
    static bool alive(pid_t pid) { return ::access(fmt::format("/proc/{}", pid).c_str(), F_OK) == 0; }

    void walk(pid_t pid, std::vector<pid_t>& found) {
        for (const pid_t child : children(pid)) {
            if (std::find(found.begin(), found.end(), child) != found.end()) continue;
            found.push_back(child);
            walk(child, found);
        }
    }

    // Each thread has its own children. A process with very many threads is walked every few samples only.
    const std::vector<pid_t>& children(pid_t pid) {
        Known& known = known_[pid];
        if (known.threads > kThreadsWalkedMax && known.age++ % kWalkEvery != 0) return known.children;
        known.children.clear();
        known.threads = 0;
        std::error_code error;
        for (const auto& task :
             std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid), error)) {
            known.threads++;
            const auto text = read_proc(task.path().string() + "/children");
            const char* at = text.data();
            const char* end = at + text.size();
            while (at < end) {
                pid_t child = 0;
                const auto result = std::from_chars(at, end, child);
                if (result.ec == std::errc{}) known.children.push_back(child);
                at = result.ptr + 1;
            }
        }
        return known.children;
    }

    void drop_shared_memory() {
        // The keeper's is the pager's, which is counted by itself.
        if (!with_root_) std::erase_if(members_, [this](pid_t pid) { return same_memory(pid, root_); });
        for (std::size_t i = 0; i < members_.size(); i++) {
            for (std::size_t j = members_.size(); j-- > i + 1;) {
                if (same_memory(members_[i], members_[j]))
                    members_.erase(members_.begin() + static_cast<long>(j));
            }
        }
    }

    struct Known {
        std::size_t threads = 0;
        int age = 0;
        std::vector<pid_t> children;
    };

    pid_t root_;
    bool with_root_;
    std::vector<pid_t> members_;
    std::map<pid_t, Known> known_;
};

// How often a way to measure was used, and what it cost.
struct Method {
    std::uint64_t samples = 0;
    std::uint64_t ns = 0;
    double us_mean() const {
        return samples == 0 ? 0 : static_cast<double>(ns) / 1e3 / static_cast<double>(samples);
    }
};

struct Sample {
    std::uint64_t job = 0;
    std::uint64_t pager = 0;
    std::size_t processes = 0;
    std::uint64_t total() const { return job + pager; }
};

class Sampler {
  public:
    explicit Sampler(const Options& options)
        : options_(options),
          tree_(options.root, options.plain),
          soft_limit_(options.cap + std::max(16 * kMiB, options.cap * 3 / 100)),
          hard_limit_(options.cap + std::max(64 * kMiB, options.cap / 10)) {
        if (!options.trace.empty()) trace_ = std::fopen(options.trace.c_str(), "w");
    }
    ~Sampler() {
        if (trace_ != nullptr) std::fclose(trace_);
    }
    Sampler(const Sampler&) = delete;
    Sampler& operator=(const Sampler&) = delete;

    void take() {
        const std::uint64_t start = now_ns();
        if (first_ns_ == 0) first_ns_ = start;
        if (last_ns_ != 0) gap_ns_max_ = std::max(gap_ns_max_, start - last_ns_);
        last_ns_ = start;
        const Sample sample = measure();
        samples_++;
        over_ += !options_.plain && sample.total() > soft_limit_;
        if (sample.total() > peak_.total()) {
            peak_ = sample;
            peak_ns_ = start;
        }
        processes_max_ = std::max(processes_max_, sample.processes);
        if (trace_ != nullptr) {
            fmt::print(trace_, "{:.1f},{},{},{}\n", static_cast<double>(start - first_ns_) / 1e6, sample.job,
                       sample.pager, sample.processes);
        }
    }

    bool good() const {
        if (options_.plain) return true;
        return static_cast<double>(over_) <= kShareOverMax * static_cast<double>(samples_) &&
               peak_.total() <= hard_limit_;
    }

    void report() const {
        const std::string text = json();
        std::FILE* file = options_.json.empty() ? stdout : std::fopen(options_.json.c_str(), "w");
        if (file == nullptr) usage(fmt::format("cannot write {}", options_.json));
        fmt::print(file, "{}", text);
        if (file != stdout) std::fclose(file);
    }

  private:
    Sample measure() {
        Sample sample;
        if (!options_.plain) sample.pager = rss_bytes(options_.root);
        std::uint64_t start = now_ns();
        const auto& members = tree_.update();
        sample.processes = members.size();
        for (const pid_t pid : members) sample.job += rss_bytes(pid);
        rss_.samples++;
        rss_.ns += now_ns() - start;
        // With --plain only the peak is asked for.
        if (members.size() < 2 || sample.total() <= (options_.plain ? peak_.total() : soft_limit_))
            return sample;
        start = now_ns();
        sample.job = pss_of_all(members);
        pss_.samples++;
        pss_.ns += now_ns() - start;
        return sample;
    }

    static std::uint64_t pss_of_all(const std::vector<pid_t>& members) {
        std::uint64_t sum = 0;
        for (auto member = members.begin(); member != members.end(); ++member) sum += pss_bytes(*member);
        for (auto member = members.rbegin(); member != members.rend(); ++member) sum += pss_bytes(*member);
        return sum / 2;
    }

    std::string json() const {
        const double elapsed = static_cast<double>(last_ns_ - first_ns_) / 1e9;
        return fmt::format(
            "{{\n  \"ok\": {}, \"cap\": {}, \"soft_limit\": {}, \"hard_limit\": {},\n"
            "  \"samples\": {}, \"over_soft\": {}, \"share_over\": {:.6f}, \"seconds\": {:.3f}, "
            "\"gap_ms_max\": {:.1f},\n"
            "  \"peak\": {}, \"peak_job\": {}, \"peak_pager\": {}, \"peak_at_s\": {:.3f}, \"processes_max\": "
            "{},\n"
            "  \"rss_samples\": {}, \"rss_us_mean\": {:.1f}, \"pss_samples\": {}, \"pss_us_mean\": "
            "{:.1f}\n}}\n",
            good(), options_.cap, soft_limit_, hard_limit_, samples_, over_,
            samples_ == 0 ? 0 : static_cast<double>(over_) / static_cast<double>(samples_), elapsed,
            static_cast<double>(gap_ns_max_) / 1e6, peak_.total(), peak_.job, peak_.pager,
            static_cast<double>(peak_ns_ - std::min(peak_ns_, first_ns_)) / 1e9, processes_max_, rss_.samples,
            rss_.us_mean(), pss_.samples, pss_.us_mean());
    }

    const Options& options_;
    Tree tree_;
    std::uint64_t soft_limit_, hard_limit_;
    std::FILE* trace_ = nullptr;
    std::uint64_t first_ns_ = 0, last_ns_ = 0, gap_ns_max_ = 0, peak_ns_ = 0;
    std::uint64_t samples_ = 0, over_ = 0;
    std::size_t processes_max_ = 0;
    Sample peak_;
    Method rss_, pss_;
};

// True when the process ended within the time left until `deadline_ns`.
bool ended_before(int pidfd, std::uint64_t deadline_ns) {
    const std::uint64_t now = now_ns();
    const std::uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    const timespec time{static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
    pollfd end{pidfd, POLLIN, 0};
    return ::ppoll(&end, 1, &time, nullptr) > 0;
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse(argc, argv);
    const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, options.root, 0));
    if (pidfd == -1) usage(fmt::format("process {}: {}", options.root, std::strerror(errno)));
    // On a busy machine the samples would come late: both help, neither is required.
    ::setpriority(PRIO_PROCESS, 0, -15);
    ::mlockall(MCL_CURRENT | MCL_FUTURE);

    Sampler sampler(options);
    const auto interval_ns = static_cast<std::uint64_t>(options.interval_ms * 1e6);
    std::uint64_t next = now_ns();
    do {
        sampler.take();
        next = std::max(next + interval_ns, now_ns());
    } while (!ended_before(pidfd, next));
    ::close(pidfd);
    sampler.report();
    return sampler.good() ? 0 : 1;
}
