// A std::pmr::vector that is larger than the RAM it may have: numbers are put into it, sorted in place, and
// looked up at random; then the program says what RAM all of it took, as the kernel counts.
//
//     c++ -std=c++17 far_vector.cpp -o far_vector $(pkg-config --cflags --libs farswap-memory)
//     ./far_vector [MIB [RAM_MIB [STORE]]]        1024 and 256, and a file without a name in /var/tmp
//
// STORE is a URL as farswap run --swap has them, such as nfs://nas/export/swap. What it needs to be allowed
// to use userfaultfd: root, or what `farswap check` says.
#include <farswap/far_memory.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory_resource>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

// RAM of this process that is not the content of files: RssAnon and RssShmem of /proc/self/status, in KiB.
std::uint64_t own_ram_kib() {
    std::ifstream status("/proc/self/status");
    std::uint64_t sum = 0;
    for (std::string line; std::getline(status, line);) {
        if (line.rfind("RssAnon:", 0) == 0 || line.rfind("RssShmem:", 0) == 0)
            sum += std::strtoull(line.c_str() + line.find(':') + 1, nullptr, 10);
    }
    return sum;
}

// Looks at it all the time, from a thread of its own.
class Gauge {
  public:
    Gauge() : thread_([this] { look(); }) {}
    ~Gauge() {
        ending_ = true;
        thread_.join();
    }
    std::uint64_t peak_kib() const { return peak_kib_; }

  private:
    void look() {
        while (!ending_) {
            peak_kib_ = std::max(peak_kib_.load(), own_ram_kib());
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
    }
    std::atomic<bool> ending_{false};
    std::atomic<std::uint64_t> peak_kib_{0};
    std::thread thread_;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool is_right(const std::pmr::vector<std::uint64_t>& numbers, std::uint64_t sum) {
    std::uint64_t found = 0;
    for (std::size_t i = 0; i < numbers.size(); i++) {
        if (i > 0 && numbers[i - 1] > numbers[i]) return false;
        found += numbers[i];
    }
    return found == sum;
}

}  // namespace

int main(int argc, char** argv) {
    farswap::FarMemoryOptions options;
    const std::uint64_t mib = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1024;
    options.size = mib << 20;
    options.ram = (argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 256) << 20;
    if (argc > 3) options.store = argv[3];

    const std::uint64_t before_kib = own_ram_kib();
    const Gauge gauge;
    std::string message;
    const auto memory = farswap::FarMemory::create(options, message);
    if (!memory) {
        std::fprintf(stderr, "far_vector: %s\n", message.c_str());
        return 1;
    }
    bool right = true;
    {
        auto start = std::chrono::steady_clock::now();
        std::pmr::vector<std::uint64_t> numbers(memory.get());
        numbers.reserve(static_cast<std::size_t>(options.size / sizeof(std::uint64_t)));
        std::mt19937_64 random(1);
        std::uint64_t sum = 0;
        while (numbers.size() < numbers.capacity()) sum += numbers.emplace_back(random());
        std::printf("%zu numbers, %llu MiB, are in it: %.1f s\n", numbers.size(),
                    static_cast<unsigned long long>(mib), seconds_since(start));

        start = std::chrono::steady_clock::now();
        std::sort(numbers.begin(), numbers.end());
        right = is_right(numbers, sum);
        std::printf("sorted, and %s: %.1f s\n", right ? "all are there" : "WRONG", seconds_since(start));

        start = std::chrono::steady_clock::now();
        constexpr int kLookups = 5000;
        for (int i = 0; i < kLookups; i++) {
            const std::uint64_t wanted = numbers[random() % numbers.size()];
            right = right && std::binary_search(numbers.begin(), numbers.end(), wanted);
        }
        std::printf("%d look-ups by halves: %.1f s\n", kLookups, seconds_since(start));
    }
    const auto counters = memory->counters();
    const std::uint64_t peak_kib = gauge.peak_kib() - before_kib;
    std::printf(
        "RAM %.1f MiB at the most, of %llu allowed; faults %llu, pages out %llu, written %llu, in %llu\n",
        static_cast<double>(peak_kib) / 1024, static_cast<unsigned long long>(options.ram >> 20),
        static_cast<unsigned long long>(counters.faults), static_cast<unsigned long long>(counters.pages_out),
        static_cast<unsigned long long>(counters.pages_written),
        static_cast<unsigned long long>(counters.pages_in));
    // More memory than RAM cannot be had without the store, whatever the counters say.
    right = right && (options.size <= options.ram || counters.pages_written > 0);
    return right && peak_kib << 10 <= options.ram ? 0 : 1;
}
