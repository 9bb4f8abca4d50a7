// Calls of one RPC program; see nfs_rpc_client.h.
#include "store/nfs_rpc_client.h"

#include <utility>

namespace farswap::nfs {

RpcClient::RpcClient(RpcConnection connection, const Program& program, const Credential& credential)
    : connection_(std::move(connection)) {
    xdr::Writer head(call_);
    put_rpc_call(head, credential, program.number, program.version);
    head_size_ = head.size();
}

Status RpcClient::ping(const char* what) {
    return call(
        what, 0, [](xdr::Writer&) {}, [](xdr::Reader&) { return true; });
}

Status RpcClient::call(const char* what, std::uint32_t procedure, const Put& put, const Take& take) {
    const std::span<std::byte> all(call_);
    xdr::Writer arguments(all.subspan(head_size_));
    put(arguments);
    const std::uint32_t size = head_size_ + arguments.size();
    xdr::Writer(all).u32((size - 4) | kLastFragment);
    xdr::Writer(all.subspan(kXidAt)).u32(connection_.next_xid());
    xdr::Writer(all.subspan(kProcedureAt)).u32(procedure);
    const auto bytes = connection_.exchange(what, all.first(size));
    if (!bytes) return std::unexpected(bytes.error());
    xdr::Reader reader(*bytes);
    int error = 0;
    const bool good = take_rpc_reply(reader, error) && (error != 0 || take(reader));
    if (!good || reader.short_of_bytes()) return connection_.malformed(what);
    if (error != 0) return fail_errno(-error, "{}", what);
    return {};
}

}  // namespace farswap::nfs
