// See support.h.
#include "support.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

namespace workload {
namespace {

std::string program_name = "workload";
std::atomic<bool> ended{false};
std::atomic<std::uint64_t> probed{0};
std::atomic<std::uint64_t> absent{0};

void write_line(int fd, const std::string& line) {
    const std::string text = line + "\n";
    [[maybe_unused]] const auto written = ::write(fd, text.data(), text.size());
}

[[noreturn]] void end_with(const char* word, const std::string& message, int status) {
    // The first thread that ends the program speaks; the others wait for its _exit.
    if (ended.exchange(true)) {
        for (;;) ::pause();
    }
    write_line(STDERR_FILENO, fmt::format("{}: {}: {}", program_name, word, message));
    ::_exit(status);
}

[[noreturn]] void usage(const std::string& wrong) {
    write_line(STDERR_FILENO,
               fmt::format("{}: {}; options: --filler SIZE --rounds N --threads N --seconds N --seed N "
                           "--dir PATH --extra TEXT",
                           program_name, wrong));
    ::_exit(kExitUsage);
}

}  // namespace

std::size_t parse_size(const std::string& text) {
    char* end = nullptr;
    const unsigned long long number = std::strtoull(text.c_str(), &end, 10);
    const std::string unit = end;
    if (end == text.c_str()) return 0;
    if (unit.empty()) return number;
    if (unit == "K") return number << 10;
    if (unit == "M") return number << 20;
    if (unit == "G") return number << 30;
    return 0;
}

void set_program_name(const std::string& path) {
    program_name = path.substr(path.rfind('/') + 1);
}

Options parse_options(int argc, char** argv) {
    Options options;
    set_program_name(argv[0]);
    options.name = program_name;
    for (int i = 1; i < argc; i += 2) {
        const std::string flag = argv[i];
        if (i + 1 >= argc) usage(flag + " needs a value");
        const std::string value = argv[i + 1];
        if (flag == "--filler") {
            options.filler = parse_size(value);
            if (options.filler < kPage) usage("--filler is no size: " + value);
        } else if (flag == "--rounds") {
            options.rounds = std::atoi(value.c_str());
        } else if (flag == "--threads") {
            options.threads = std::atoi(value.c_str());
        } else if (flag == "--seconds") {
            options.seconds = std::atoi(value.c_str());
        } else if (flag == "--seed") {
            options.seed = std::strtoull(value.c_str(), nullptr, 10);
        } else if (flag == "--dir") {
            options.dir = value;
        } else if (flag == "--extra") {
            options.extra = value;
        } else {
            usage("unknown option " + flag);
        }
    }
    if (options.rounds < 1 || options.threads < 1 || options.seconds < 1) usage("counts are 1 or more");
    return options;
}

void fail_with(const std::string& message) {
    end_with("FAIL", message, kExitFailure);
}
void skip_with(const std::string& message) {
    end_with("SKIP", message, kExitSkipped);
}

long sys(long result, const char* what) {
    if (result == -1) fail("{}: {}", what, std::strerror(errno));
    return result;
}

Pages::Pages(std::uint32_t region, std::size_t pages) : count_(pages), region_(region) {
    void* at = ::mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(at != MAP_FAILED, "mmap of {} pages: {}", pages, std::strerror(errno));
    data_ = static_cast<std::byte*>(at);
}

Pages::~Pages() {
    ::munmap(data_, bytes());
}

Key Pages::key(std::uint32_t version, std::size_t page_index) const {
    return {region_, version, static_cast<std::uint32_t>(page_index * kWordsPerPage)};
}

void Pages::stamp(std::uint32_t version) const {
    stamp(version, 0, count_);
}

void Pages::stamp(std::uint32_t version, std::size_t first, std::size_t n) const {
    write_words(page(first), n * kPage, key(version, first));
}

void Pages::expect(std::uint32_t version, const char* when) const {
    expect(version, 0, count_, when);
}

void Pages::expect(std::uint32_t version, std::size_t first, std::size_t n, const char* when) const {
    expect_content(page(first), n * kPage, key(version, first), when);
}

void Pages::expect_zero(std::size_t first, std::size_t n, const char* when) const {
    const auto* words = reinterpret_cast<const std::uint64_t*>(page(first));
    for (std::size_t i = 0; i < n * kWordsPerPage; i++) {
        check(words[i] == 0, "{}: page {} of region {} word {} should be zero, holds {:#x}", when,
              first + i / kWordsPerPage, region_, i % kWordsPerPage, words[i]);
    }
}

void expect_content(const void* at, std::size_t bytes, Key first, const char* when) {
    const auto wrong = find_wrong_word(at, bytes, first);
    if (wrong) fail("{}: {}", when, explain_wrong_word(at, bytes, first, *wrong));
}

Filler::Filler(std::size_t bytes) : pages_(60, bytes / kPage) {}

void Filler::push() {
    for (std::size_t i = 0; i < pages_.count(); i++) {
        // One line a page keeps a push cheap; the page is dirty and its content known all the same.
        auto* line = pages_.page(i);
        if (version_ > 0) expect_content(line, kLine, pages_.key(version_, i), "filler");
        write_words(line, kLine, pages_.key(version_ + 1, i));
    }
    version_++;
}

BackgroundFiller::BackgroundFiller(std::size_t bytes)
    : filler_(bytes), thread_([this] {
          while (!stop_) {
              filler_.push();
              pushes_++;
          }
      }) {}

BackgroundFiller::~BackgroundFiller() {
    stop_ = true;
}

void probe(const void* at, std::size_t bytes) {
    const auto address = reinterpret_cast<std::uintptr_t>(at);
    const std::uintptr_t start = address & ~(kPage - 1);
    const std::size_t pages = (address + bytes - start + kPage - 1) / kPage;
    std::vector<unsigned char> resident(pages);
    if (::mincore(reinterpret_cast<void*>(start), pages * kPage, resident.data()) != 0) return;
    probed += pages;
    absent += static_cast<std::uint64_t>(
        std::count_if(resident.begin(), resident.end(), [](unsigned char r) { return (r & 1) == 0; }));
}

int succeed() {
    write_line(STDERR_FILENO, fmt::format("{}: {} of {} probed pages were away", program_name, absent.load(),
                                          probed.load()));
    write_line(STDOUT_FILENO, fmt::format("{}: ok", program_name));
    return 0;
}

void in_child(const char* what, const std::function<void()>& child) {
    const pid_t pid = static_cast<pid_t>(sys(::fork(), "fork"));
    if (pid == 0) {
        child();
        ::_exit(0);
    }
    expect_exit(pid, 0, what);
}

void expect_exit(int pid, int status, const char* what) {
    int wait_status = 0;
    pid_t got = 0;
    do {
        got = ::waitpid(pid, &wait_status, 0);
    } while (got == -1 && errno == EINTR);
    check(got == pid, "{}: waitpid: {}", what, std::strerror(errno));
    check(!WIFSIGNALED(wait_status), "{}: killed by signal {}", what, WTERMSIG(wait_status));
    check(WEXITSTATUS(wait_status) == status, "{}: exit status {} instead of {}", what,
          WEXITSTATUS(wait_status), status);
}

double now_s() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace workload
