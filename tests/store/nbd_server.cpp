// See nbd_server.h.
#include "nbd_server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <thread>

namespace farswap::test {

bool nbd_server_available() {
    return std::system("command -v nbdkit >/dev/null") == 0;
}

NbdServer::NbdServer(std::vector<std::string> arguments) : arguments_(std::move(arguments)) {
    char path[] = "/var/tmp/farswap-nbd-test-XXXXXX";
    if (::mkdtemp(path) == nullptr) throw std::runtime_error("mkdtemp");
    directory_ = path;
    socket_ = directory_ + "/socket";
    start();
}

NbdServer::~NbdServer() {
    kill();
    std::error_code error;
    std::filesystem::remove_all(directory_, error);
}

void NbdServer::start() {
    const std::string pid_file = directory_ + "/pid";
    std::filesystem::remove(socket_);
    std::filesystem::remove(pid_file);
    std::vector<std::string> words{"nbdkit",    "--foreground", "--exit-with-parent", "--unix", socket_,
                                   "--pidfile", pid_file};
    words.insert(words.end(), arguments_.begin(), arguments_.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
        const int null = ::open("/dev/null", O_RDWR);
        ::dup2(null, STDIN_FILENO);
        ::dup2(null, STDERR_FILENO);
        ::execvp(argv[0], argv.data());
        ::_exit(127);
    }
    // It writes its number once the socket listens.
    for (int i = 0; i < 3000 && !std::filesystem::exists(pid_file); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (!std::filesystem::exists(pid_file)) throw std::runtime_error("nbdkit does not start");
}

void NbdServer::kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

}  // namespace farswap::test
