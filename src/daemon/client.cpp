#include "daemon/client.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/descriptor_message.h"
#include "daemon/request.h"
#include "daemon/say.h"

namespace farswap::daemon {
namespace {

using target::HelperReply;
using target::HelperRequest;
using target::HelperRequestKind;

/// By the name that the kernel gives it: the names of files begin with a slash.
bool is_userfaultfd(int fd) {
    std::array<char, 64> name{};
    const auto length = readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), name.data(), name.size());
    return length > 0 &&
           std::string_view(name.data(), static_cast<std::size_t>(length)) == "anon_inode:[userfaultfd]";
}

/// UFFDIO_WAKE where nobody waits does nothing, and is refused (EINVAL) before UFFDIO_API.
bool is_enabled(int uffd) {
    uffdio_range nowhere{.start = (std::uint64_t{1} << 47) - (2 << 12), .len = 1 << 12};
    return ioctl(uffd, UFFDIO_WAKE, &nowhere) == 0;
}

Status enable(int uffd, HelperReply& reply, std::uint64_t features) {
    if (!is_userfaultfd(uffd)) return fail(EINVAL, "the descriptor is not a userfaultfd");
    if (is_enabled(uffd)) return fail(EBUSY, "the userfaultfd is in use already");
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = features;
    if (ioctl(uffd, UFFDIO_API, &api) != 0) {
        if (errno == EPERM)
            return fail(EPERM,
                        "farswapd itself lacks CAP_SYS_PTRACE: start it as root, outside of containers");
        return fail_errno(errno, "this kernel's userfaultfd lacks one of the features {:#x}", features);
    }
    reply.features = api.features;
    reply.ioctls = api.ioctls;
    return {};
}

Status grant(const HelperRequest& request, int descriptor, const Fd& device, HelperReply& reply) {
    if (request.kind == HelperRequestKind::kEnable) return enable(descriptor, reply, request.features);
    if (!device) return fail(ENOENT, "farswapd finds no /dev/userfaultfd");
    return {};
}

void set_refusal(HelperReply& reply, const Error& error) {
    reply.error = error.code;
    const auto length = std::min(error.message.size(), sizeof reply.text - 1);
    error.message.copy(reply.text, length);
}

const char* name_of(HelperRequestKind kind) {
    return kind == HelperRequestKind::kDevice ? "a descriptor of /dev/userfaultfd"
                                              : "the fork event of a userfaultfd";
}

}  // namespace

Fd open_device() {
    return Fd(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
}

void serve(int socket, const Peer& peer, Fd device) {
    std::array<std::byte, sizeof(HelperRequest) + 1> bytes{};
    const auto received = receive_message(socket, bytes.data(), bytes.size());
    if (received.error != 0 || (received.bytes == 0 && received.descriptors == 0)) return;  // has hung up
    HelperReply reply;
    const auto request = parse_request(std::span(bytes).first(received.bytes), received.descriptors);
    Status granted;
    if (request)
        granted = grant(*request, received.descriptor.get(), device, reply);
    else
        granted = std::unexpected(request.error());
    if (!granted) set_refusal(reply, granted.error());
    // Said before it is done, so that nothing is handed out unseen.
    if (granted)
        say("user {}, process {}: {}", peer.user, peer.process, name_of(request->kind));
    else
        say("user {}, process {}: refused: {}", peer.user, peer.process, granted.error().message);
    const bool lends = granted && request->kind == HelperRequestKind::kDevice;
    (void)send_message(socket, &reply, sizeof reply, lends ? device.get() : -1);
}

void refuse(int socket, const Peer& peer, const Error& why) {
    say("user {}, process {}: refused: {}", peer.user, peer.process, why.message);
    fcntl(socket, F_SETFL, O_NONBLOCK);
    HelperReply reply;
    set_refusal(reply, why);
    (void)send_message(socket, &reply, sizeof reply, -1);
}

}  // namespace farswap::daemon
