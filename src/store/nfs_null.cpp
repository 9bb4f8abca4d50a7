// Times NULL calls to the NFS service of a URL: what a server's answer costs at least. See nfs_store.h.
#include <chrono>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "store/nfs3_service.h"
#include "store/nfs_control.h"
#include "store/nfs_rpc_client.h"
#include "store/nfs_server_url.h"
#include "store/nfs_store.h"

namespace farswap {
namespace {

using namespace nfs;
using std::chrono::steady_clock;

constexpr auto kAnswerMax = std::chrono::seconds(5);

/// To where the control plane finds the service, by the version that it speaks there.
Result<RpcClient> connect(const Server& server) {
    const Deadline deadline = steady_clock::now() + kAnswerMax;
    auto control = Control::connect(server, deadline);
    if (!control) return std::unexpected(control.error());
    const auto peer = (*control)->peer();
    if (!peer) return std::unexpected(peer.error());
    RpcConnection connection(deadline);
    if (auto status = connection.open(std::span(&*peer, 1), RpcConnection::LocalPort::kReserved); !status)
        return fail(status.error().code, "cannot connect to the NFS service: {}", status.error().message);
    return RpcClient(std::move(connection), {kNfs3Program.number, static_cast<std::uint32_t>(server.version)},
                     {});
}

}  // namespace

Result<std::vector<std::chrono::nanoseconds>> time_nfs_null_calls(const Url& url,
                                                                  std::chrono::milliseconds span) {
    const auto server = server_of(url);
    if (!server) return std::unexpected(server.error());
    auto calls = connect(*server);
    if (!calls) return std::unexpected(calls.error());
    std::vector<std::chrono::nanoseconds> took;
    for (const auto end = steady_clock::now() + span; steady_clock::now() < end || took.empty();) {
        const auto began = steady_clock::now();
        calls->connection().set_deadline(began + kAnswerMax);
        if (auto status = calls->ping("NULL call"); !status) return std::unexpected(status.error());
        took.push_back(steady_clock::now() - began);
    }
    return took;
}

}  // namespace farswap
