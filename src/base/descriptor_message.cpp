#include "base/descriptor_message.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace farswap {
namespace {

constexpr std::size_t kDescriptorsMax = 2;  // the second is only there to be noticed

}  // namespace

int send_message(int socket, const void* data, std::size_t bytes, int descriptor) noexcept {
    iovec vector{const_cast<void*>(data), bytes};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (descriptor >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    }
    ssize_t sent = 0;
    do {
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? errno : 0;
}

ReceivedMessage receive_message(int socket, void* data, std::size_t bytes) noexcept {
    ReceivedMessage received;
    iovec vector{data, bytes};
    alignas(cmsghdr) char control[CMSG_SPACE(kDescriptorsMax * sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t got = 0;
    do {
        got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        received.error = errno;
        return received;
    }
    received.bytes = static_cast<std::size_t>(got);
    received.truncated = (message.msg_flags & MSG_TRUNC) != 0;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        for (std::size_t at = 0; at + sizeof(int) <= header->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
            int number = -1;
            std::memcpy(&number, CMSG_DATA(header) + at, sizeof number);
            Fd fd(number);
            if (received.descriptors++ == 0) received.descriptor = std::move(fd);
        }
    }
    if ((message.msg_flags & MSG_CTRUNC) != 0) received.descriptors++;
    return received;
}

}  // namespace farswap
