// NFSv4.1 as a protocol of a connection: its session, made anew whenever the server has lost it, and the
// session's slots, by which a call that is sent again over another connection is executed once. Knows calls
// and replies; no socket and no store.
//
// Each connection is a client of its own to the server, so that connections need not agree on anything. It
// has no open files and no locks (see kAnonymous), hence nothing to recover: when a session is made anew, the
// calls that it cost are sent again. Made anew it always is as a client that has restarted; the server ends
// the old session with that, and no call of it is executed any more.
#pragma once

#include <string>

#include "store/nfs4_wire.h"

namespace farswap::nfs {

class Protocol4 final : public Protocol {
  public:
    /// `server` names the connection in messages; no READ or WRITE is longer than the maxima.
    Protocol4(const Credential& credential, const FileHandle& file, std::uint32_t read_max,
              std::uint32_t write_max, std::string server);

    bool prepare(Call& call) noexcept override;
    Decoded decode(Call& call, std::span<const std::byte> head, std::uint32_t& used) noexcept override;
    void dropped(Call& call) noexcept override;
    void answered(Call& call) noexcept override;
    bool has_probes() const noexcept override { return true; }
    bool next_step(Call& call) noexcept override;
    void disconnected() noexcept override;

  private:
    static constexpr std::uint32_t kSlotsMax = 128;  ///< more than a connection has calls

    enum class Step : std::uint8_t { kExchangeId, kCreateSession, kReclaimComplete, kReady };
    /// Which slots have a call; bit by bit.
    class Busy {
      public:
        std::uint32_t first_free() const noexcept;  ///< kSlotsMax: none
        std::uint32_t highest() const noexcept;     ///< 0 when there is none
        void set(std::uint32_t slot) noexcept { words_[slot / 64] |= bit(slot); }
        void clear(std::uint32_t slot) noexcept { words_[slot / 64] &= ~bit(slot); }
        void clear() noexcept { words_ = {}; }

      private:
        static std::uint64_t bit(std::uint32_t slot) noexcept { return std::uint64_t{1} << slot % 64; }
        std::array<std::uint64_t, kSlotsMax / 64> words_{};
    };

    v4::Turn turn_of(const Call& call) const noexcept;
    Decoded decode_step(Call& call, std::span<const std::byte> head, std::uint32_t& used) noexcept;
    void step_answered(Call& call) noexcept;
    int check_session() const noexcept;
    void begin_session() noexcept;
    bool settle(Call& call) noexcept;
    void renew() noexcept;

    const FileHandle file_;
    const v4::Channel wanted_;
    const std::string server_;
    std::array<std::byte, kRpcCallMax> prefix_;
    std::uint32_t prefix_size_;
    std::string owner_;
    std::uint64_t incarnation_;  ///< the verifier of the owner: another for each session

    Step step_ = Step::kExchangeId;
    bool step_out_ = false;   ///< it has been sent
    bool reported_ = false;   ///< that no session is to be had
    unsigned fruitless_ = 0;  ///< sessions made on this connection since a call was last executed
    v4::ClientId client_;
    v4::Session session_;
    std::uint32_t number_ = 0;  ///< of the session, for Call::session
    Busy busy_;
    std::array<std::uint32_t, kSlotsMax> sequences_{};  ///< of the last call that a slot has executed
    std::uint32_t slots_usable_ = 0;

    // What decode() has found of the reply that is being received.
    v4::SequenceReply sequence_;
    v4::ClientId found_client_;
    v4::Session found_session_;
};

}  // namespace farswap::nfs
