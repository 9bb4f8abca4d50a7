// A program behind a seccomp filter, or in strict mode, that checks its memory until its standard input ends,
// or as often as its second argument says. Says "ready" when it is confined. Its first argument is what is
// forbidden:
//   errno:NUMBER  the system call answers EPERM      kill:NUMBER  the system call ends the program
//   strict        all but read, write, exit, sigreturn end the program: it only waits for that end
// With `exec PROGRAM ARGUMENTS...` behind it, that program is confined instead.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t kPages = 25 * 256, kPage = 4096;
constexpr int kPauseMs = 20;

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

std::size_t word_at(std::size_t index) {
    return index * 2654435761u;
}

bool is_right(const std::vector<std::size_t>& words) {
    for (std::size_t i = 0; i < words.size(); i += 64) {
        if (words[i] != word_at(i)) return false;
    }
    return true;
}

bool input_has_ended() {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    return ::poll(&input, 1, kPauseMs) != 0;
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
    for (std::size_t i = 0; i < words.size(); i++) words[i] = word_at(i);
    if (install(number, answer) != 0) return 77;
    say("ready\n");
    for (int left = argc > 2 ? std::atoi(argv[2]) : 0; is_right(words);) {
        if (left == 1) {
            say("good\n");
            return 0;
        }
        if (left > 1)
            left -= ::usleep(kPauseMs * 1000) == 0 ? 1 : 0;
        else if (input_has_ended())
            left = 1;
    }
    say("WRONG\n");
    return 1;
}
