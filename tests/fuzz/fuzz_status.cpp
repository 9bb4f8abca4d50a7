// /proc/PID/status, whose first line holds a name that the program has given itself.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "base/fd.h"
#include "fuzz.h"
#include "target/proc.h"

namespace farswap::target {
namespace {

/// read_memory_use() of a file with that content.
Result<MemoryUse> use_of(std::string_view status) {
    static const Fd file(::memfd_create("status", MFD_CLOEXEC));
    PROMISE(::ftruncate(file.get(), 0) == 0);
    PROMISE(::pwrite(file.get(), status.data(), status.size(), 0) == static_cast<ssize_t>(status.size()));
    return read_memory_use(file.get());
}

}  // namespace
}  // namespace farswap::target

using namespace farswap::target;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text = farswap::fuzz::text_of(data, size);
    PROMISE(use_of(text).has_value() == !text.empty());

    // As a name, where the kernel writes at most 15 bytes and escapes line ends, it changes nothing.
    std::string name(text.substr(0, 15));
    std::ranges::replace(name, '\n', '?');
    const auto use =
        use_of("Name:\t" + name + "\nVmRSS:\t  9 kB\nRssAnon:\t  4 kB\nRssShmem:\t  2 kB\nVmSwap:\t  1 kB\n" +
               "HugetlbPages:\t  8 kB\nThreads:\t3\n");
    PROMISE(use && use->has_memory && use->rss_anon == 4096 && use->rss_shmem == 2048);
    PROMISE(use->swap == 1024 && use->hugetlb == 8192 && use->threads == 3);
    return 0;
}
