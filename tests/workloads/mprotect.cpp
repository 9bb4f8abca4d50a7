// Pages that go through read-only, no access, executable and back, evicted in each phase; writes to read-only
// pages and any access to PROT_NONE must still fault, and code in an evicted page must still run.
#include <sys/mman.h>
#include <csetjmp>
#include <csignal>

#include <cstring>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 256;
sigjmp_buf recover;

void on_fault(int) {
    siglongjmp(recover, 1);
}

bool write_faults(std::byte* at) {
    if (sigsetjmp(recover, 1) != 0) return true;
    *const_cast<volatile std::byte*>(at) = std::byte{0x77};
    return false;
}

bool read_faults(const std::byte* at) {
    if (sigsetjmp(recover, 1) != 0) return true;
    [[maybe_unused]] const auto seen = *const_cast<const volatile std::byte*>(at);
    return false;
}

void protect(const Pages& pages, int protection) {
    sys(::mprotect(pages.data(), pages.bytes(), protection), "mprotect");
}

void phases(Filler& filler, const Pages& pages, std::uint32_t version) {
    protect(pages, PROT_READ | PROT_WRITE);
    pages.stamp(version);
    filler.push();
    probe(pages.data(), pages.bytes());

    protect(pages, PROT_READ);
    pages.expect(version, 0, kPages / 2, "evicted, then read-only");
    check(write_faults(pages.page(3)), "write to a read-only page went through");
    check(write_faults(pages.page(kPages - 3)), "write to an evicted read-only page went through");
    filler.push();
    pages.expect(version, "read-only while pages are evicted");

    protect(pages, PROT_NONE);
    check(read_faults(pages.page(5)), "read of a PROT_NONE page went through");
    filler.push();
    protect(pages, PROT_READ | PROT_WRITE);
    pages.expect(version, "after PROT_NONE");
    pages.stamp(version + 1, 0, kPages / 2);
    filler.push();
    pages.expect(version + 1, 0, kPages / 2, "rewritten after the phases");
    pages.expect(version, kPages / 2, kPages / 2, "left alone after the phases");

    // Every other page read-only: the mapping falls into many small ones.
    for (std::size_t i = 0; i < kPages; i += 2) sys(::mprotect(pages.page(i), kPage, PROT_READ), "mprotect");
    filler.push();
    for (std::size_t i = 1; i < kPages; i += 2) pages.stamp(version + 2, i, 1);
    filler.push();
    for (std::size_t i = 0; i < kPages; i++) {
        const std::uint32_t expected = i % 2 == 1 ? version + 2 : i < kPages / 2 ? version + 1 : version;
        pages.expect(expected, i, 1, "every other page read-only");
    }
    protect(pages, PROT_READ | PROT_WRITE);
}

// mov eax, imm32; ret: one such function a page.
void code(Filler& filler, const Pages& pages) {
    protect(pages, PROT_READ | PROT_WRITE);
    for (std::uint32_t i = 0; i < kPages; i++) {
        std::byte* at = pages.page(i);
        at[0] = std::byte{0xb8};
        std::memcpy(at + 1, &i, sizeof i);
        at[5] = std::byte{0xc3};
    }
    filler.push();
    for (const int protection : {PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC}) {
        protect(pages, protection);
        filler.push();
        for (std::uint32_t i = 0; i < kPages; i++) {
            const auto function = reinterpret_cast<std::uint32_t (*)()>(pages.page(i));
            const std::uint32_t result = function();
            check(result == i, "code in page {} returned {}", i, result);
        }
    }
    protect(pages, PROT_READ | PROT_WRITE);
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
        phases(filler, pages, static_cast<std::uint32_t>(round) * 4 + 1);
#if defined(__x86_64__)
        code(filler, pages);
#endif
    }
    return succeed();
}
