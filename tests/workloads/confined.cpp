// A program behind a seccomp filter, or in strict mode, that checks its memory all the time. Says "ready"
// when it is confined. Its first argument is what is forbidden:
//   errno:NUMBER  the system call answers EPERM      kill:NUMBER  the system call ends the program
//   strict        all but read, write, exit, sigreturn end the program: it waits for its standard input
// With `exec PROGRAM ARGUMENTS...` behind it, that program is confined instead.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t kPages = 25 * 256, kPage = 4096;
constexpr int kRounds = 100;

void say(std::string_view text) {
    [[maybe_unused]] const auto written = ::write(1, text.data(), text.size());
}

int install(unsigned number, unsigned answer) {
    std::array<sock_filter, 4> code = {{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    }};
    const sock_fprog program{code.size(), code.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

[[noreturn]] void be_strict() {
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) != 0) ::_exit(77);
    say("ready\n");
    char byte = 0;
    while (::syscall(SYS_read, 0, &byte, 1) > 0) {
    }
    ::syscall(SYS_exit, 0);  // exit_group is not allowed
    __builtin_unreachable();
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view kind = argc > 1 ? argv[1] : "errno:101";
    if (kind == "strict") be_strict();
    const std::size_t colon = kind.find(':');
    unsigned number = 0;
    if (colon == kind.npos ||
        std::from_chars(kind.data() + colon + 1, kind.data() + kind.size(), number).ec != std::errc())
        return 2;
    const unsigned answer = kind.starts_with("kill") ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | 1;
    if (argc > 3 && std::string_view(argv[2]) == "exec") {
        if (install(number, answer) == 0) ::execv(argv[3], argv + 3);
        return 77;
    }
    std::vector<std::size_t> words(kPages * kPage / sizeof(std::size_t));
    for (std::size_t i = 0; i < words.size(); i++) words[i] = i * 2654435761u;
    if (install(number, answer) != 0) return 77;
    say("ready\n");
    const int rounds = argc > 2 ? 1 : kRounds;
    for (int round = 0; round < rounds; round++) {
        for (std::size_t i = 0; i < words.size(); i += 64) {
            if (words[i] != i * 2654435761u) {
                say("WRONG\n");
                return 1;
            }
        }
        ::usleep(20'000);
    }
    say("good\n");
    return 0;
}
