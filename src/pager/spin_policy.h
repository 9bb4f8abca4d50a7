// Whether the loop does well to poll for a moment before it sleeps: to be woken costs a thread that waits for
// a page some 20 us each time. Learns from how long waits have taken. Pure; time is what the caller says it
// is.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstdint>

namespace farswap {

/// What the loop waits for while a thread of the program needs it.
enum class Awaited : std::uint8_t {
    kNothing,  ///< nobody waits, and nobody has just gone on
    kFault,    ///< a thread has got its page: it may need the next one in a moment
    kAnswer,   ///< a page is being read
};

/// One thread. Times of waits are those from their beginning until anything has happened.
class SpinPolicy {
  public:
    using Time = std::chrono::steady_clock::time_point;
    using Nanoseconds = std::chrono::nanoseconds;

    /// The longest that is ever polled for.
    static constexpr Nanoseconds kWindowMax = std::chrono::microseconds(256);

    /// How long to poll now; zero: to sleep at once.
    Nanoseconds window(Awaited what, Time now) const {
        if (what == Awaited::kNothing || is_suspended(now)) return Nanoseconds::zero();
        return history(what).window;
    }
    /// Whether somebody else has the core for so long at a time that we do not poll for a while.
    bool is_suspended(Time now) const { return now < suspended_until_; }
    /// Whether that has happened again and again.
    bool is_crowded_out(Time now) const { return is_suspended(now) && suspension_ >= kCrowdedOut; }
    /// A wait has taken so long, polled or slept. `longest_yield`: the longest for which somebody else had
    /// the core when it was offered while we polled.
    void waited(Awaited what, Nanoseconds how_long, Nanoseconds longest_yield, Time now) {
        if (what == Awaited::kNothing) return;
        history(what).add(how_long);
        if (longest_yield >= kHogged) {
            // Who sleeps is given the core as soon as there is something to do; who polls comes after those
            // who compute.
            suspension_ = std::clamp(2 * suspension_, kSuspensionMin, kSuspensionMax);
            suspended_until_ = now + suspension_;
            calm_ = 0;
        } else if (++calm_ == kCalm) {
            suspension_ = Nanoseconds::zero();
        }
    }

  private:
    // What it costs the program when we sleep: we are woken, perhaps on a core that has to be woken first.
    static constexpr Nanoseconds kWakeUp = std::chrono::microseconds(20);
    // A core that polls does nothing else, and takes some from its neighbour: so much of the time polled has
    // to be saved.
    static constexpr int kPrice = 16;
    static constexpr Nanoseconds kHogged = std::chrono::microseconds(500);
    static constexpr Nanoseconds kSuspensionMin = std::chrono::milliseconds(10);
    static constexpr Nanoseconds kSuspensionMax = std::chrono::milliseconds(640);
    static constexpr Nanoseconds kCrowdedOut = kSuspensionMax;
    static constexpr std::uint32_t kCalm = 1024;  // waits after which a suspension is forgotten

    /// How long waits took of late, in octaves of microseconds, and what follows.
    struct History {
        static constexpr std::size_t kOctaves = 10;  // up to 1, 2, 4 ... 256 us, and longer
        static constexpr std::uint32_t kMemory = 128, kEnough = 8;

        std::array<std::uint32_t, kOctaves> waits{};
        std::uint32_t total = 0;
        Nanoseconds window{};

        void add(Nanoseconds how_long) {
            const auto us = static_cast<std::uint64_t>(how_long / std::chrono::microseconds(1));
            waits[std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(us)), kOctaves - 1)]++;
            if (++total >= kMemory) {
                total = 0;
                for (std::uint32_t& count : waits) total += count /= 2;
            }
            window = best();
        }
        /// The window that saves the most: its wake-ups saved, less the price of the polling.
        Nanoseconds best() const {
            if (total < kEnough) return {};
            Nanoseconds best_window{}, most{}, polled{};
            std::uint32_t in_time = 0;
            for (std::size_t octave = 0; octave + 1 < kOctaves; octave++) {
                const Nanoseconds end = std::chrono::microseconds(std::uint64_t{1} << octave);
                in_time += waits[octave];
                polled += waits[octave] * end;
                const Nanoseconds saved = in_time * kWakeUp - (polled + (total - in_time) * end) / kPrice;
                if (saved > most) {
                    most = saved;
                    best_window = end;
                }
            }
            return best_window;
        }
    };

    History& history(Awaited what) { return what == Awaited::kFault ? faults_ : answers_; }
    const History& history(Awaited what) const { return what == Awaited::kFault ? faults_ : answers_; }

    History faults_, answers_;
    Time suspended_until_{};
    Nanoseconds suspension_{};
    std::uint32_t calm_ = 0;
};

}  // namespace farswap
