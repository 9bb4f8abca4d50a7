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

// Memory that was never touched is filled in runs while a program walks through it: none may cover a guard.
void walk_up_to_a_guard(Filler& filler) {
    const Pages fresh(2, kPages);
    filler.push();
    sys(::madvise(fresh.page(kFirst), kGuarded * kPage, MADV_GUARD_INSTALL), "MADV_GUARD_INSTALL");
    fresh.stamp(1, 0, kFirst);
    for (std::size_t i = 0; i < kGuarded; i++) {
        check(faults(fresh.page(kFirst + i)), "guard page {} behind memory that was filled does not fault",
              i);
    }
    fresh.expect(1, 0, kFirst, "memory in front of a guard");
    fresh.expect_zero(kFirst + kGuarded, kPages - kFirst - kGuarded, "memory behind a guard");
}

// Lengths are rounded up to pages; what is no range of the program is refused.
void odd_ranges(Filler& filler) {
    const Pages pages(3, 4);
    pages.stamp(1);
    filler.push();
    sys(::madvise(pages.page(0), kPage + 1, MADV_GUARD_INSTALL), "MADV_GUARD_INSTALL of a page and a byte");
    check(faults(pages.page(0)) && faults(pages.page(1)), "the rest of a page is not guarded");
    pages.expect(1, 2, 2, "behind a guard of a page and a byte");
    check(::madvise(reinterpret_cast<void*>(~std::uintptr_t{8191}), kPage, MADV_GUARD_INSTALL) == -1,
          "a guard behind the end of the address space is accepted");
    check(::madvise(pages.page(2) + 1, kPage, MADV_GUARD_INSTALL) == -1, "an unaligned guard is accepted");
    sys(::madvise(pages.page(2), 0, MADV_GUARD_INSTALL), "MADV_GUARD_INSTALL of nothing");
    pages.expect(1, 2, 2, "after guards that were refused");
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
        walk_up_to_a_guard(filler);
        odd_ranges(filler);
    }
    return succeed();
}
