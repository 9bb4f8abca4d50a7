// What a connection is told about a version of NFS: how a call and its reply look as bytes, and what has to
// be agreed with the server before calls may go out. Knows calls; no socket, no request and no store.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "io/loop.h"
#include "store/nfs_wire.h"

namespace farswap::nfs {

/// One remote procedure call, an entry of a connection's fixed table.
struct Call {
    // Set by whoever submits it; kept unchanged until `complete`, which is called once, unless it was
    // abandoned.
    Procedure procedure = Procedure::kRead;
    std::uint64_t offset = 0;   ///< bytes in the file
    std::byte* data = nullptr;  ///< READ: where to; WRITE: where from
    std::uint32_t length = 0;   ///< bytes; COMMIT: 0, the whole file
    void (*complete)(Call& call) = nullptr;
    void* owner = nullptr;

    Reply reply;  ///< valid in `complete`

    // The connection's.
    enum class State : std::uint8_t { kFree, kTaken, kQueued, kSent, kDelayed };
    State state = State::kFree;
    bool internal = false;   ///< of the store itself
    bool abandoned = false;  ///< nobody waits any more, and `data` may not be touched
    bool in_doubt = false;   ///< has been sent, at least in part, over a connection that was lost
    bool probe = false;      ///< sent again without its data, to learn that it is not executed any more
    io::Clock::time_point refused_since{};  ///< its first refusal that may pass; none: the epoch
    std::uint32_t connection = 0;           ///< which of its owner's
    std::uint32_t xid = 0;
    std::uint32_t sent = 0;       ///< bytes of head, data and padding
    std::uint32_t sent_tick = 0;  ///< the connection's, when it was sent
    std::uint32_t head_size = 0;  ///< bytes of `head` in use; 0: not encoded yet
    Call* next = nullptr;
    std::array<std::byte, kCallHeadMax> head;

    // The protocol's, where the version has sessions.
    static constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};
    std::uint32_t slot = kNoSlot, sequence = 0, session = 0;

    /// Whether its data follow the head.
    bool carries_data() const noexcept { return procedure == Procedure::kWrite && !probe; }
};

/// One a connection; called on the loop's thread. Allocates nothing after construction.
class Protocol {
  public:
    virtual ~Protocol() = default;

    /// Encodes the head of a call that is about to go out, unless it has been. False: it has to wait until
    /// a reply has come.
    virtual bool prepare(Call& call) noexcept = 0;
    /// Decodes the reply from its xid on into `call.reply`; repeated while bytes are missing. kDone: `used`
    /// is where the data of a READ begins. kIncomplete: more bytes are needed, `used` of them at least.
    virtual Decoded decode(Call& call, std::span<const std::byte> head, std::uint32_t& used) noexcept = 0;
    /// The call was prepared, and will not be sent: no byte of it has been.
    virtual void dropped(Call& call) noexcept = 0;
    /// The reply of the call has been decoded, all of it.
    virtual void answered(Call& call) noexcept = 0;

    /// Whether a call in doubt that was abandoned goes out again as a probe, whose reply says that the call
    /// will not be executed any more. Without it nobody can tell.
    virtual bool has_probes() const noexcept = 0;
    /// Encodes the next step of what has to be agreed with the server, one at a time. False: none is due.
    /// It is answered() as other calls are; `reply.try_later` asks for the next step a little later.
    virtual bool next_step(Call& call) noexcept = 0;
    /// The connection is lost, and with it the step under way.
    virtual void disconnected() noexcept = 0;
};

/// NFSv3: every call stands alone.
class Protocol3 final : public Protocol {
  public:
    Protocol3(const Credential& credential, const FileHandle& file) : encoder_(credential, file) {}
    bool prepare(Call& call) noexcept override;
    Decoded decode(Call& call, std::span<const std::byte> head, std::uint32_t& used) noexcept override {
        return decode_reply(call.procedure, head, call.reply, used);
    }
    void dropped(Call&) noexcept override {}
    void answered(Call&) noexcept override {}
    bool has_probes() const noexcept override { return false; }
    bool next_step(Call&) noexcept override { return false; }
    void disconnected() noexcept override {}

  private:
    const CallEncoder encoder_;
};

}  // namespace farswap::nfs
