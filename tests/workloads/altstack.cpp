// Signal handlers on an alternate stack whose pages are evicted: the kernel builds the frame there, the
// handler uses it, and what lies below the frame stays as it was.
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <csetjmp>
#include <csignal>

#include <cerrno>
#include <cstring>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kStackPages = 32;
sigjmp_buf recover;
volatile std::sig_atomic_t handled = 0;
std::byte* guarded = nullptr;
std::uintptr_t stack_low = 0;

// Uses a few pages of the alternate stack and checks what it wrote there.
void use_stack(const char* what) {
    std::uint64_t local[3 * kWordsPerPage];
    const auto here = reinterpret_cast<std::uintptr_t>(local);
    check(here >= stack_low && here < stack_low + kStackPages * kPage, "{}: handler is not on its own stack",
          what);
    write_words(local, sizeof local, {2, 1, 0});
    asm volatile("" ::"r"(local) : "memory");
    expect_content(local, sizeof local, {2, 1, 0}, what);
    handled = handled + 1;
}

void on_user_signal(int) {
    use_stack("SIGUSR1 handler");
}

void on_fault(int, siginfo_t* info, void*) {
    use_stack("SIGSEGV handler");
    check(info->si_addr == guarded, "SIGSEGV at {} instead of {}", info->si_addr,
          static_cast<void*>(guarded));
    ::mprotect(guarded, kPage, PROT_READ | PROT_WRITE);  // the access is repeated and succeeds
}

void on_bus(int) {
    use_stack("SIGBUS handler");
    siglongjmp(recover, 1);
}

void install(int signal, void (*plain)(int), void (*full)(int, siginfo_t*, void*)) {
    struct sigaction action {};
    if (plain != nullptr) {
        action.sa_handler = plain;
        action.sa_flags = SA_ONSTACK;
    } else {
        action.sa_sigaction = full;
        action.sa_flags = SA_ONSTACK | SA_SIGINFO;
    }
    sys(::sigaction(signal, &action, nullptr), "sigaction");
}

void one_round(Filler& filler, const Pages& stack) {
    // Below what a handler can reach the content must survive.
    constexpr std::size_t kKept = 8;
    stack.stamp(1);
    filler.push();
    probe(stack.data(), stack.bytes());
    handled = 0;
    ::raise(SIGUSR1);
    check(handled == 1, "SIGUSR1 was handled {} times", static_cast<int>(handled));
    stack.expect(1, 0, kKept, "alternate stack below the frame");

    filler.push();
    ::mprotect(guarded, kPage, PROT_NONE);
    *const_cast<volatile std::byte*>(guarded) = std::byte{1};
    check(handled == 2, "SIGSEGV was handled {} times", static_cast<int>(handled) - 1);

    filler.push();
    if (sigsetjmp(recover, 1) == 0) {
        ::raise(SIGBUS);
        fail("SIGBUS handler came back");
    }
    check(handled == 3, "SIGBUS was handled {} times", static_cast<int>(handled) - 2);
    stack.expect(1, 0, kKept, "alternate stack below the frame, at the end");
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    const Pages stack(1, kStackPages);
    const Pages guard(3, 1);
    guarded = guard.data();
    stack_low = reinterpret_cast<std::uintptr_t>(stack.data());
    stack_t alternate{};
    alternate.ss_sp = stack.data();
    alternate.ss_size = stack.bytes();
    sys(::sigaltstack(&alternate, nullptr), "sigaltstack");
    install(SIGUSR1, on_user_signal, nullptr);
    install(SIGSEGV, nullptr, on_fault);
    install(SIGBUS, on_bus, nullptr);

    Filler filler(options.filler);
    for (int round = 0; round < options.rounds; round++) one_round(filler, stack);
    return succeed();
}
