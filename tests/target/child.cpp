#include "child.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <utility>

#include "farswap/request.h"

namespace farswap::target {
namespace {

std::string read_text(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

Child::Child(const std::function<int()>& body) : process_(fork()) {
    if (process_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(body());
}

Child::~Child() {
    if (process_ <= 0) return;
    kill(process_, SIGKILL);
    join();
}

int Child::join() {
    int status = 0;
    while (waitpid(process_, &status, __WALL) < 0 && errno == EINTR) {
    }
    process_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

__attribute__((no_sanitize("address"))) void touch_pages(void* at, std::size_t bytes) {
    for (std::size_t offset = 0; offset < bytes; offset += kPageSize)
        static_cast<volatile unsigned char*>(at)[offset] = 1;
}

bool wait_until(const std::function<bool()>& holds) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (!holds()) {
        if (std::chrono::steady_clock::now() > limit) return false;
        usleep(200);
    }
    return true;
}

bool is_in_system_call(pid_t task, long number) {
    std::ifstream file("/proc/" + std::to_string(task) + "/syscall");
    long current = -1;
    return file >> current && (current == number || current == SYS_restart_syscall);
}

bool waits_for_userfaultfd(pid_t task) {
    const std::string where = read_text("/proc/" + std::to_string(task) + "/wchan");
    return where == "handle_userfault" || where == "userfaultfd_event_wait_completion";
}

std::string descriptors(pid_t process) {
    std::map<int, std::string> sorted;
    for (const auto& entry :
         std::filesystem::directory_iterator("/proc/" + std::to_string(process) + "/fd")) {
        sorted[std::stoi(entry.path().filename())] = std::filesystem::read_symlink(entry.path());
    }
    std::string text;
    for (const auto& [number, name] : sorted) text += std::to_string(number) + " " + name + ", ";
    return text;
}

}  // namespace farswap::target
