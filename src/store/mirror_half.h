// What a mirror knows of one of its two stores. Data only: the rules are in mirror_store.h.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "farswap/store.h"
#include "io/loop.h"
#include "store/page_marks.h"

namespace farswap {

class MirrorStore;

/// A flush or a reservation of the mirror's that one half works on.
template <typename Lower>
struct HalfTask {
    Lower request{};
    bool busy = false;     ///< the store has it
    bool awaited = false;  ///< its result counts for what the mirror is doing
    int result = 0;
};

struct MirrorHalf {
    enum class State {
        kUp,         ///< written to, and read from where nothing is missing
        kOut,        ///< lost: left alone but for a look now and then
        kReturning,  ///< a look is under way
    };

    MirrorHalf(MirrorStore& mirror_in, std::unique_ptr<Store> store_in, PageMarks missing_in)
        : mirror(mirror_in), store(std::move(store_in)), missing(std::move(missing_in)) {}

    bool up() const noexcept { return state == State::kUp; }
    /// Whether it has everything, so that the other is not needed.
    bool complete() const noexcept { return up() && missing.empty(); }

    MirrorStore& mirror;
    std::unique_ptr<Store> store;
    State state = State::kUp;
    PageMarks missing;                  ///< pages whose last write it did not take; at most one half has any
    std::uint32_t in_flight = 0;        ///< transfers of all kinds
    io::Clock::time_point alive_at{};   ///< its last success
    io::Clock::time_point shy_until{};  ///< a read failed: the other is preferred for a while
    std::uint32_t read_failures = 0;    ///< while not shy, since the last success
    std::uint32_t flush_failures = 0;   ///< since the last success
    HalfTask<FlushRequest> flush;
    HalfTask<ReserveRequest> reserve;

    // The look at one that was lost.
    io::Timer probe_timer;
    Request probe;
    std::chrono::milliseconds probe_delay{0};
    alignas(kPageSize) std::array<std::byte, kPageSize> probe_page{};
};

}  // namespace farswap
