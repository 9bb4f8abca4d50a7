// MADV_GUARD_INSTALL (Linux 6.13) on evicted and resident pages: they fault, their neighbours keep their
// content, and after the guard is removed they read as zeros, not as what was evicted.
#include <sys/mman.h>
#include <csetjmp>
#include <csignal>

#include <cerrno>

#include "support.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

namespace {

using namespace workload;

constexpr std::size_t kPages = 256;
constexpr std::size_t kFirst = 64, kGuarded = 32;
sigjmp_buf recover;

void on_fault(int) {
    siglongjmp(recover, 1);
}

bool faults(const std::byte* at) {
    if (sigsetjmp(recover, 1) != 0) return true;
    [[maybe_unused]] const auto seen = *const_cast<const volatile std::byte*>(at);
    return false;
}

void one_round(Filler& filler, const Pages& pages, std::uint32_t version, bool evicted_first) {
    pages.stamp(version);
    if (evicted_first) filler.push();
    probe(pages.page(kFirst), kGuarded * kPage);
    if (::madvise(pages.page(kFirst), kGuarded * kPage, MADV_GUARD_INSTALL) != 0) {
        if (errno == EINVAL) skip("this kernel has no MADV_GUARD_INSTALL");
        sys(-1, "MADV_GUARD_INSTALL");
    }
    for (std::size_t i = 0; i < kGuarded; i++) {
        check(faults(pages.page(kFirst + i)), "guard page {} does not fault", i);
    }
    filler.push();
    check(faults(pages.page(kFirst)), "guard page does not fault after eviction around it");
    pages.expect(version, 0, kFirst, "pages before the guard");
    pages.expect(version, kFirst + kGuarded, kPages - kFirst - kGuarded, "pages behind the guard");
    sys(::madvise(pages.page(kFirst), kGuarded * kPage, MADV_GUARD_REMOVE), "MADV_GUARD_REMOVE");
    pages.expect_zero(kFirst, kGuarded, "after the guard was removed");
    pages.stamp(version + 1, kFirst, kGuarded);
    filler.push();
    pages.expect(version + 1, kFirst, kGuarded, "new content where the guard was");
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    struct sigaction action {};
    action.sa_handler = on_fault;
    sys(::sigaction(SIGSEGV, &action, nullptr), "sigaction");
    const Pages pages(1, kPages);
    Filler filler(options.filler);
    for (int round = 0; round < options.rounds; round++) {
        one_round(filler, pages, static_cast<std::uint32_t>(round) * 4 + 1, true);
        one_round(filler, pages, static_cast<std::uint32_t>(round) * 4 + 3, false);
    }
    return succeed();
}
