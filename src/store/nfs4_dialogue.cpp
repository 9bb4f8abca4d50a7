// One call at a time with an NFSv4.1 server; see nfs4_dialogue.h.
#include "store/nfs4_dialogue.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace farswap::nfs::v4 {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr int kPort = 2049;                       // RFC 8881 section 2.9.1
constexpr std::size_t kCallMax = 4096;            // bytes up to the data: a few handles and a name
constexpr std::uint32_t kTransferMax = 1u << 20;  // bytes that are asked for or sent in a call
constexpr auto kFarewellMax = 500ms;

bool asks_for_patience(std::uint32_t status) {
    return status == status::kDelay || status == status::kGrace;
}

}  // namespace

Dialogue::Dialogue(RpcConnection connection, const Server& server)
    : connection_(std::move(connection)),
      machine_(server.credential.machine),
      prefix_size_(make_prefix(prefix_, server.credential)),
      call_(kCallMax) {}

Dialogue::~Dialogue() {
    if (broken() || !in_session_) return;
    set_deadline(steady_clock::now() + kFarewellMax);
    end_session();
}

Result<std::unique_ptr<Dialogue>> Dialogue::connect(const Server& server, Deadline deadline) {
    const int port = server.nfs_port != 0 ? server.nfs_port : kPort;
    const std::string where = fmt::format("the NFS service (port {}) at {}", port, server.host);
    std::unique_ptr<Dialogue> dialogue(new Dialogue(RpcConnection(deadline), server));
    auto status = dialogue->connection_.open(server.host, port, RpcConnection::LocalPort::kReserved);
    if (status) status = dialogue->make_session();
    if (status) return dialogue;
    if (status.error().code == EPROTONOSUPPORT) {
        return fail(EPROTONOSUPPORT, "{} does not speak NFSv4.1; use ?version=3, or switch it on there",
                    where);
    }
    return cannot_reach(where, status.error());
}

Result<std::unique_ptr<Dialogue>> Dialogue::begin(RpcConnection connected, const Server& server) {
    std::unique_ptr<Dialogue> dialogue(new Dialogue(std::move(connected), server));
    if (auto status = dialogue->make_session(); !status) return std::unexpected(status.error());
    return dialogue;
}

/// An operation that stands alone, outside of a session.
Status Dialogue::step(const char* what, const Put& put, const Take& take) {
    while (true) {
        Compound call(call_, {prefix_.data(), prefix_size_}, connection_.next_xid());
        put(call);
        const auto bytes = connection_.exchange(what, {call_.data(), call.finish()});
        if (!bytes) return std::unexpected(bytes.error());
        xdr::Reader reader(*bytes);
        CompoundReply reply;
        const int error = reply.begin(reader);
        const bool done = error == 0 && take(reply, reader);
        if (reply.malformed() || reader.short_of_bytes()) return connection_.malformed(what);
        if (error != 0) return fail_errno(-error, "{}", what);
        if (done) return {};
        if (!asks_for_patience(reply.status()))
            return fail_errno(errno_of_status(reply.status()), "{}", what);
        if (auto status = connection_.be_patient(what); !status) return status;
    }
}

Status Dialogue::make_session() {
    const std::uint64_t number = random_number();
    const std::string owner = fmt::format("farswap {:.64} {:016x}", machine_, number);
    ClientOwner client{.owner = owner};
    std::memcpy(client.verifier.data(), &number, sizeof number);
    auto status = step(
        "exchange id", [&](Compound& call) { put_exchange_id(call, client); },
        [&](CompoundReply& reply, xdr::Reader& reader) {
            if (!reply.next(reader, Op::kExchangeId)) return false;
            take_exchange_id(reader, client_);
            return true;
        });
    if (!status) return status;
    constexpr Channel kWanted{.request_max = kTransferMax + kOverhead,
                              .response_max = kTransferMax + kOverhead,
                              .operations = kOperationsMax,
                              .slots = 1};
    status = step(
        "create session", [&](Compound& call) { put_create_session(call, client_, kWanted); },
        [&](CompoundReply& reply, xdr::Reader& reader) {
            if (!reply.next(reader, Op::kCreateSession)) return false;
            take_create_session(reader, session_);
            return true;
        });
    if (!status) return status;
    in_session_ = true;
    return run(
        "reclaim complete", [](Compound& call) { put_reclaim_complete(call); },
        [](CompoundReply& reply, xdr::Reader& reader) { return reply.next(reader, Op::kReclaimComplete); });
}

Status Dialogue::run(const char* what, const Put& put, const Take& take, std::span<const std::byte> data) {
    while (true) {
        const Turn turn{.session = session_.id, .sequence = sequence_ + 1};
        Compound call(call_, {prefix_.data(), prefix_size_}, connection_.next_xid());
        put_sequence(call, turn, false);
        put(call);
        const auto size = call.finish(static_cast<std::uint32_t>(data.size()));
        const auto bytes = connection_.exchange(what, {call_.data(), size}, data);
        if (!bytes) return std::unexpected(bytes.error());
        xdr::Reader reader(*bytes);
        CompoundReply reply;
        const int error = reply.begin(reader);
        std::uint32_t target = 0;
        bool good = true, done = false;
        const bool turn_taken = error == 0 && reply.next(reader, Op::kSequence);
        if (turn_taken) {
            good = take_sequence(reader, turn, target);
            ++sequence_;
            done = good && take(reply, reader);
        }
        if (!good || reply.malformed() || reader.short_of_bytes()) return connection_.malformed(what);
        if (done) return {};
        const bool patience = error == 0 && asks_for_patience(reply.status());
        // Without a session there is nothing more to say.
        if (!turn_taken && !patience) connection_.close();
        if (error != 0) return fail_errno(-error, "{}", what);
        if (!patience) return fail_errno(errno_of_status(reply.status()), "{}", what);
        if (auto status = connection_.be_patient(what); !status) return status;
    }
}

void Dialogue::end_session() {
    const auto ended = step(
        "destroy session",
        [&](Compound& call) { call.op(Op::kDestroySession).raw(session_.id.data(), session_.id.size()); },
        [](CompoundReply& reply, xdr::Reader& reader) { return reply.next(reader, Op::kDestroySession); });
    if (!ended) return;
    // A server that does not answer forgets us when our lease is over.
    (void)step(
        "destroy client", [&](Compound& call) { call.op(Op::kDestroyClientid).u64(client_.id); },
        [](CompoundReply& reply, xdr::Reader& reader) { return reply.next(reader, Op::kDestroyClientid); });
}

}  // namespace farswap::nfs::v4
