// What /proc/PID/pagemap tells of pages that are not there.
#include "target/pagemap.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "farswap/request.h"
#include "target/uapi.h"

namespace farswap::target {
namespace {

// A fill takes the place of a guard without a word.
TEST(Pagemap, AGuardIsNotAbsent) {
    const Fd pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    auto* memory = static_cast<char*>(
        mmap(nullptr, 8 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    const auto start = reinterpret_cast<std::uintptr_t>(memory);
    if (madvise(memory + 3 * kPageSize, kPageSize, MADV_GUARD_INSTALL) != 0)
        GTEST_SKIP() << "no guards before Linux 6.13";
    EXPECT_EQ(count_absent(pagemap.get(), start, 8), 3u);
    EXPECT_EQ(count_absent(pagemap.get(), start + 4 * kPageSize, 2), 2u);
    memory[5 * kPageSize] = 1;
    EXPECT_EQ(count_absent(pagemap.get(), start + 4 * kPageSize, 4), 1u) << "present";
    munmap(memory, 8 * kPageSize);
}

}  // namespace
}  // namespace farswap::target
