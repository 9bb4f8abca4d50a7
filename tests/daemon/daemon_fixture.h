// What the tests of farswapd share: a folder that everybody may enter, children, userfaultfds and hand-made
// requests.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/descriptor_message.h"
#include "target/helper_protocol.h"

namespace farswap::daemon {

inline constexpr uid_t kNobody = 65534;

inline Fd new_userfaultfd() {
    return Fd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
}

/// Whether it was initialised: registering, copying and waking are refused before.
inline bool is_enabled(const Fd& uffd) {
    uffdio_range range{.start = 1 << 20, .len = 4096};
    return ioctl(uffd.get(), UFFDIO_WAKE, &range) == 0;
}

struct Pair {
    Fd client, server;
    Pair() {
        int ends[2] = {-1, -1};
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        client.reset(ends[0]);
        server.reset(ends[1]);
    }
};

struct Answer {
    bool came = false;
    target::HelperReply reply;
    Fd descriptor;
};

inline Answer receive_answer(int socket) {
    Answer answer;
    auto received = receive_message(socket, &answer.reply, sizeof answer.reply);
    answer.came = received.error == 0 && received.bytes == sizeof answer.reply;
    answer.descriptor = std::move(received.descriptor);
    return answer;
}

/// One message with several descriptors, as no pager sends it.
inline void send_descriptors(int socket, const target::HelperRequest& request, const std::vector<int>& fds) {
    iovec vector{const_cast<target::HelperRequest*>(&request), sizeof request};
    std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
    ASSERT_EQ(sendmsg(socket, &message, MSG_NOSIGNAL), static_cast<ssize_t>(sizeof request));
}

/// A child process that runs `body` and exits with its result. It does not outlive the test.
class Child {
  public:
    explicit Child(const std::function<int()>& body) : process_(fork()) {
        if (process_ == 0) _exit(body());
    }
    ~Child() { kill(); }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    void kill() {
        if (process_ > 0) ::kill(process_, SIGKILL);
        (void)status();
    }
    /// Waits for its end. -1: it was killed.
    int status() {
        int raw = 0;
        if (process_ > 0) waitpid(std::exchange(process_, -1), &raw, 0);
        return WIFEXITED(raw) ? WEXITSTATUS(raw) : -1;
    }
    /// Stands still when this returns.
    void stop() {
        ::kill(process_, SIGSTOP);
        waitpid(process_, nullptr, WUNTRACED);
    }
    pid_t process() const { return process_; }

  private:
    pid_t process_;
};

/// A folder of its own for each test, and a socket's path in it.
class FolderTest : public ::testing::Test {
  protected:
    void SetUp() override {
        char name[] = "/tmp/farswapd-test-XXXXXX";
        ASSERT_NE(mkdtemp(name), nullptr);
        folder_ = name;
        chmod(name, 0755);
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    std::string path(const std::string& name) const { return folder_ + "/" + name; }
    std::string socket_path() const { return path("socket"); }

    Fd connect_raw() const {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        socket_path().copy(address.sun_path, sizeof address.sun_path - 1);
        Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        return fd;
    }

  private:
    std::string folder_;
};

}  // namespace farswap::daemon
