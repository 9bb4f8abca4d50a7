// Records, replies and READ data of an NFS connection's stream; see nfs_reply_reader.h.
#include "store/nfs_reply_reader.h"

#include <algorithm>
#include <cstring>

namespace farswap::nfs {
namespace {

constexpr auto kReplyHeadMax32 = static_cast<std::uint32_t>(kReplyHeadMax);
constexpr std::uint32_t kFragmentMax = 8u << 20;  // more than any reply we ask for: the stream is out of step

}  // namespace

void ReplyReader::reset() noexcept {
    begin_record();
    usual_head_ = kHeadMin;  // of another server, perhaps
}

void ReplyReader::begin_record() noexcept {
    phase_ = Phase::kHead;
    call_ = nullptr;
    mark_have_ = fragment_left_ = head_have_ = data_have_ = 0;
    fragment_last_ = false;
    head_needed_ = kHeadMin;
}

std::span<std::byte> ReplyReader::direct() const noexcept {
    if (phase_ != Phase::kData || call_->abandoned) return {};
    return {call_->data + data_have_, std::min(call_->reply.count - data_have_, fragment_left_)};
}

std::size_t ReplyReader::ahead() const noexcept {
    const std::size_t next_head = kMark + usual_head_;
    if (phase_ == Phase::kHead) {
        const std::uint32_t wanted = usual_head_ > head_have_    ? usual_head_
                                     : head_needed_ > head_have_ ? head_needed_
                                                                 : head_have_ + 4;
        const std::uint32_t missing = wanted - head_have_;
        return fragment_left_ == 0 ? kMark - mark_have_ + missing : std::min(missing, fragment_left_);
    }
    const std::size_t rest = fragment_left_ - direct().size();
    const bool data_follow = phase_ == Phase::kData && data_have_ + direct().size() < call_->reply.count;
    return rest + (fragment_last_ && !data_follow ? next_head : kMark);
}

std::size_t ReplyReader::expected_head() const noexcept {
    const bool start = phase_ == Phase::kHead && fragment_left_ == 0 && mark_have_ == 0 && head_have_ == 0;
    return start && usual_head_ > kHeadMin ? kMark + usual_head_ : 0;
}

bool ReplyReader::received_direct(std::size_t count) noexcept {
    if (count == 0) return true;
    data_have_ += static_cast<std::uint32_t>(count);
    fragment_left_ -= static_cast<std::uint32_t>(count);
    if (data_have_ == call_->reply.count) phase_ = Phase::kSkip;
    return fragment_left_ > 0 || !fragment_last_ || end_record();
}

std::size_t ReplyReader::feed_head(std::span<const std::byte> bytes) noexcept {
    for (const std::byte byte : bytes.first(kMark)) {
        if (!take_mark(byte)) phase_ = Phase::kMalformed;
    }
    const std::size_t taken = take(bytes.subspan(kMark));
    fragment_left_ -= static_cast<std::uint32_t>(taken);
    return kMark + taken;
}

bool ReplyReader::feed(std::span<const std::byte> bytes) noexcept {
    while (!bytes.empty()) {
        if (fragment_left_ == 0) {
            if (!take_mark(bytes.front())) return false;
            bytes = bytes.subspan(1);
            continue;
        }
        const std::size_t taken = take(bytes.first(std::min<std::size_t>(bytes.size(), fragment_left_)));
        if (phase_ == Phase::kMalformed) return false;
        fragment_left_ -= static_cast<std::uint32_t>(taken);
        bytes = bytes.subspan(taken);
        if (fragment_left_ == 0 && fragment_last_ && !end_record()) return false;
    }
    return true;
}

bool ReplyReader::take_mark(std::byte byte) noexcept {
    mark_[mark_have_++] = byte;
    if (mark_have_ < mark_.size()) return true;
    const std::uint32_t mark = load_u32(mark_.data());
    mark_have_ = 0;
    fragment_last_ = (mark & kLastFragment) != 0;
    fragment_left_ = mark & ~kLastFragment;
    return fragment_left_ > 0 && fragment_left_ <= kFragmentMax;
}

std::size_t ReplyReader::take(std::span<const std::byte> bytes) noexcept {
    switch (phase_) {
        case Phase::kHead:
            return take_head(bytes);
        case Phase::kData:
            return take_data(bytes);
        default:
            return bytes.size();
    }
}

/// Collects the head of a reply. What has been copied beyond it is left in the stream.
std::size_t ReplyReader::take_head(std::span<const std::byte> bytes) noexcept {
    const std::size_t copied = std::min(bytes.size(), head_.size() - head_have_);
    std::memcpy(head_.data() + head_have_, bytes.data(), copied);
    head_have_ += static_cast<std::uint32_t>(copied);
    if (head_have_ < 4) return copied;
    if (call_ == nullptr) call_ = calls_.find(load_u32(head_.data()));
    if (call_ == nullptr) {
        phase_ = Phase::kSkip;
        return copied;
    }
    std::uint32_t used = 0;
    switch (protocol_.decode(*call_, {head_.data(), head_have_}, used)) {
        case Decoded::kIncomplete:
            if (head_have_ == head_.size()) phase_ = Phase::kMalformed;
            head_needed_ = std::min(used, kReplyHeadMax32);
            return copied;
        case Decoded::kMalformed:
            phase_ = Phase::kMalformed;
            return copied;
        case Decoded::kDone:
            break;
    }
    const bool has_data = call_->procedure == Procedure::kRead && call_->reply.count > 0;
    if (has_data) usual_head_ = used;
    phase_ = !has_data                             ? Phase::kSkip
             : call_->reply.count <= call_->length ? Phase::kData
                                                   : Phase::kMalformed;
    return copied - (head_have_ - used);
}

std::size_t ReplyReader::take_data(std::span<const std::byte> bytes) noexcept {
    const std::size_t taken = std::min<std::size_t>(bytes.size(), call_->reply.count - data_have_);
    if (!call_->abandoned) {
        std::memcpy(call_->data + data_have_, bytes.data(), taken);
        copied_ += taken;
    }
    data_have_ += static_cast<std::uint32_t>(taken);
    if (data_have_ == call_->reply.count) phase_ = Phase::kSkip;
    return taken;
}

bool ReplyReader::end_record() noexcept {
    if (phase_ != Phase::kSkip) return false;
    Call* const call = call_;
    begin_record();
    if (call != nullptr) calls_.replied(*call);
    return true;
}

}  // namespace farswap::nfs
