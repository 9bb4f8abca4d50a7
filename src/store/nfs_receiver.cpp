// Where the bytes of an NFS connection's stream go; see nfs_receiver.h.
#include "store/nfs_receiver.h"

#include <algorithm>
#include <cstring>

namespace farswap::nfs {

void Receiver::reset() noexcept {
    reader_.reset();
    reads_sent_ = 0;
    sole_read_ = nullptr;
}

void Receiver::sent(const Call& call) noexcept {
    if (call.procedure == Procedure::kRead) sole_read_ = ++reads_sent_ == 1 ? &call : nullptr;
}

void Receiver::answered(const Call& call) noexcept {
    if (call.procedure != Procedure::kRead) return;
    --reads_sent_;
    sole_read_ = nullptr;
}

/// While READs are on their way no more is asked for than has a known place: the data of the READ that is
/// being received, what follows them up to the data of the next reply, and, of the only READ that a reply can
/// be for, its data.
std::span<const iovec> Receiver::places() noexcept {
    direct_ = reader_.direct();
    ahead_ = reads_sent_ > 0 ? std::min(reader_.ahead(), buffer_.size()) : buffer_.size();
    guess_ = reader_.expected_head() == ahead_ ? expected_data() : std::span<std::byte>();
    places_ = {{{direct_.data(), direct_.size()}, {buffer_.data(), ahead_}, {guess_.data(), guess_.size()}}};
    return places_;
}

Received Receiver::received(std::size_t count) noexcept {
    const bool filled = count == direct_.size() + ahead_ + guess_.size();
    const std::size_t in_place = std::min(count, direct_.size());
    const std::size_t in_order = std::min(count - in_place, ahead_);
    const std::size_t guessed = count - in_place - in_order;
    const bool good = reader_.received_direct(in_place) &&
                      (guessed > 0 ? take_guessed(guessed) : reader_.feed({buffer_.data(), in_order}));
    if (!good) return Received::kMalformed;
    // Otherwise the socket is empty, or what comes next is waited for by the loop.
    return filled && (reads_sent_ > 0 || ahead_ == buffer_.size()) ? Received::kMore : Received::kEmptied;
}

/// Where the data of the next reply go if it is for the only READ that waits.
std::span<std::byte> Receiver::expected_data() const noexcept {
    if (reads_sent_ != 1 || sole_read_ == nullptr || sole_read_->abandoned) return {};
    if (sole_read_->length > buffer_.size() / 2) return {};
    return {sole_read_->data, sole_read_->length};
}

/// What should be a head and behind it, in the memory of the only READ that waits, `count` bytes more. They
/// are where they belong if the record is of that READ's, its head has the usual length and all data follow.
bool Receiver::take_guessed(std::size_t count) noexcept {
    const auto record = static_cast<std::uint32_t>(ahead_ - 4 + guess_.size() + padding(sole_read_->length));
    std::span<const std::byte> rest(buffer_.data(), ahead_);
    if (load_u32(buffer_.data()) == (record | kLastFragment) &&
        load_u32(buffer_.data() + 4) == sole_read_->xid) {
        rest = rest.subspan(reader_.feed_head(rest));
        // A record of that size may have a longer head and less data, or less data and something behind them.
        const std::span<std::byte> place = reader_.direct();
        if (rest.empty() && place.data() == guess_.data() && place.size() == guess_.size())
            return reader_.received_direct(count);
    }
    // Before anybody is called back to whom that memory may belong then, and before data are put there.
    const std::span<std::byte> aside(buffer_.data() + buffer_.size() / 2, count);
    std::memcpy(aside.data(), guess_.data(), count);
    copied_ += count;
    return reader_.feed(rest) && reader_.feed(aside);
}

}  // namespace farswap::nfs
