// What an NFSv3 server answers to the control plane: its rpcbind (a first byte of 0xfe or 0xff), its mount
// service (0xfd), else every call of Control3 but mount(), which makes a connection of its own. Whatever it
// is, a call ends, with what it promises or with an error that says what failed.
#include "nfs_control_calls.h"
#include "store/nfs3_control.h"
#include "store/nfs3_mount.h"
#include "store/nfs_rpcbind.h"

using namespace farswap::nfs;

namespace {

constexpr Program kAny{100003, 3};

void ask_for_port(RpcConnection connection, bool ipv6) {
    const auto port =
        ipv6 ? ask_rpcbind6(std::move(connection), kAny) : ask_portmapper(std::move(connection), kAny);
    PROMISE(port ? *port >= 0 && *port <= 65535 : port.error().code > 0);
}

void mount(RpcConnection connection) {
    RpcClient mountd(std::move(connection), kMountProgram, {});
    const auto root = mount_export(mountd, "/srv");
    PROMISE(root ? root->size > 0 && root->size <= kHandle3Max : root.error().code > 0);
    PROMISE(root || root.error().code != EPROTO || mountd.connection().broken());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(std::as_bytes(std::span(data, size)));
    const auto first = input.plan().empty() ? 0 : std::to_integer<std::uint32_t>(input.plan().front());
    if (first >= 0xfe) {
        ask_for_port(input.connect(), first == 0xff);
    } else if (first == 0xfd) {
        mount(input.connect());
    } else {
        Control3 control(input.connect(), Server{});
        input.run(control, false);
    }
    return 0;
}
