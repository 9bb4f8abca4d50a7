// Connects to the services of an NFSv3 server; see nfs3_service.h.
#include "store/nfs3_service.h"

#include <cerrno>
#include <utility>

#include "store/nfs3_mount.h"
#include "store/nfs_rpcbind.h"

namespace farswap::nfs {
namespace {

struct Service {
    const char* name;
    Program program;
    int port;  ///< 0: rpcbind knows it
};

Result<RpcClient> connect(const Service& service, const Server& server, Deadline deadline) {
    int port = service.port;
    if (port == 0) {
        const auto found = find_port(server.host, service.program, deadline);
        if (!found) return port_unknown(service.name, server.host, found.error());
        port = *found;
    }
    RpcConnection connection(deadline);
    auto status = connection.open(server.host, port, RpcConnection::LocalPort::kReserved);
    RpcClient client(std::move(connection), service.program, server.credential);
    if (status) status = client.ping("ask whether it is there");
    if (status) return client;
    const std::string where = fmt::format("{} (port {}) at {}", service.name, port, server.host);
    if (status.error().code == EPROTONOSUPPORT)
        return fail(EPROTONOSUPPORT, "{} does not speak NFSv3; use ?version=4, or switch it on there", where);
    return cannot_reach(where, status.error());
}

}  // namespace

std::unexpected<Error> port_unknown(const char* service, const std::string& host, const Error& why) {
    // rpcbind has answered: that the server is up is no question.
    if (why.code == EPROTONOSUPPORT)
        return fail(EPROTONOSUPPORT,
                    "{} at {} does not speak NFSv3: {}; use ?version=4, or switch it on there", service, host,
                    why.message);
    const auto error =
        cannot_reach(fmt::format("{} at {} (by rpcbind, port {})", service, host, kRpcbindPort), why);
    return fail(why.code, "{} (with ?nfsport= and ?mountport=, or with ?version=4, rpcbind is not asked)",
                error.error().message);
}

Result<RpcClient> connect_nfs3(const Server& server, Deadline deadline) {
    return connect({"the NFS service", kNfs3Program, server.nfs_port}, server, deadline);
}

Result<RpcClient> connect_mountd(const Server& server, Deadline deadline) {
    return connect({"the NFS mount service", kMountProgram, server.mount_port}, server, deadline);
}

}  // namespace farswap::nfs
