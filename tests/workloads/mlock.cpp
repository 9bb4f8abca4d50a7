// Ranges that are locked, unlocked and given protection keys while pages move: content stays, locked pages
// stay present, and the limit on locked memory is the program's own.
#include <sys/mman.h>
#include <sys/resource.h>
#include <csetjmp>
#include <csignal>

#include <cerrno>
#include <cstring>
#include <vector>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 128;  // 512 KiB, below the usual limit
sigjmp_buf recover;

void on_fault(int) {
    siglongjmp(recover, 1);
}

void expect_present(const Pages& pages, const char* when) {
    std::vector<unsigned char> resident(pages.count());
    sys(::mincore(pages.data(), pages.bytes(), resident.data()), "mincore");
    for (std::size_t i = 0; i < pages.count(); i++) {
        check((resident[i] & 1) != 0, "{}: locked page {} is not present", when, i);
    }
}

void lock_round(Filler& filler, const Pages& pages, std::uint32_t version) {
    pages.stamp(version);
    filler.push();
    probe(pages.data(), pages.bytes());
    sys(::mlock(pages.data(), pages.bytes()), "mlock of evicted pages");
    pages.expect(version, "locked after they were evicted");
    expect_present(pages, "after mlock");
    filler.push();
    expect_present(pages, "while others are evicted");
    pages.stamp(version + 1, 0, kPages / 2);
    sys(::munlock(pages.data(), pages.bytes()), "munlock");
    filler.push();
    filler.push();
    pages.expect(version + 1, 0, kPages / 2, "unlocked and evicted, rewritten half");
    pages.expect(version, kPages / 2, kPages / 2, "unlocked and evicted, other half");
}

// Memory that is born locked: all of it, from the first touch on.
void lock_future(Filler& filler, std::uint32_t version) {
    void* at = ::mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
    check(at != MAP_FAILED, "mmap with MAP_LOCKED: {}", std::strerror(errno));
    write_words(at, kPages * kPage, {5, version, 0});
    filler.push();
    expect_content(at, kPages * kPage, {5, version, 0}, "MAP_LOCKED memory");
    ::munmap(at, kPages * kPage);
}

// Whatever the program has is locked, what it does not know of, too. What it maps afterwards is not.
void lock_all(std::size_t filler_bytes, const Pages& pages, std::uint32_t version) {
    pages.stamp(version);
    if (::mlockall(MCL_CURRENT) != 0) {
        fmt::print(stderr, "mlock: mlockall: {}\n", std::strerror(errno));
        return;
    }
    {
        Filler filler(filler_bytes);
        filler.push();
        filler.push();
        expect_present(pages, "all was locked");
        pages.expect(version, "locked along with all else");
        // In the middle of the paging.
        sys(::mlockall(MCL_CURRENT | MCL_ONFAULT), "mlockall");
        sys(::munlockall(), "munlockall");
        filler.push();
    }
    pages.expect(version, "unlocked again");
}

bool read_faults(const std::byte* at) {
    if (sigsetjmp(recover, 1) != 0) return true;
    [[maybe_unused]] const auto seen = *const_cast<const volatile std::byte*>(at);
    return false;
}

void keys(Filler& filler, const Pages& pages, std::uint32_t version) {
    const int key = ::pkey_alloc(0, 0);
    if (key == -1) {
        fmt::print(stderr, "mlock: no protection keys here\n");
        return;
    }
    pages.stamp(version);
    filler.push();
    sys(::pkey_mprotect(pages.data(), pages.bytes(), PROT_READ | PROT_WRITE, key), "pkey_mprotect");
    pages.expect(version, "evicted pages given a key");
    filler.push();
    ::pkey_set(key, PKEY_DISABLE_ACCESS);
    check(read_faults(pages.data()), "access through a closed key went through");
    ::pkey_set(key, 0);
    pages.expect(version, "pages whose key was closed and opened");
    pages.stamp(version + 1);
    filler.push();
    sys(::pkey_mprotect(pages.data(), pages.bytes(), PROT_READ | PROT_WRITE, 0), "pkey_mprotect back");
    pages.expect(version + 1, "pages that lost their key");
    ::pkey_free(key);
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    struct sigaction action {};
    action.sa_handler = on_fault;
    sys(::sigaction(SIGSEGV, &action, nullptr), "sigaction");
    rlimit limit{};
    sys(::getrlimit(RLIMIT_MEMLOCK, &limit), "getrlimit");
    if (limit.rlim_cur < 2 * kPages * kPage) skip("locked memory is limited to {} bytes", limit.rlim_cur);

    const Pages pages(1, kPages);
    for (int round = 0; round < options.rounds; round++)
        lock_all(options.filler, pages, static_cast<std::uint32_t>(round) + 1);
    Filler filler(options.filler);
    for (int round = 0; round < options.rounds; round++) {
        const auto version = static_cast<std::uint32_t>(round) * 6 + 1;
        lock_round(filler, pages, version);
        lock_future(filler, version);
        keys(filler, pages, version + 3);
    }
    return succeed();
}
