// How many pages would have been missed under larger caps: followed for some pages, by what leaves and comes
// back under the cap that there is. Pure; no clock but the count of pages that have left.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace farswap {

/// One thread. Allocates all that it ever has when it is made (0.6 MB), but for predict().
///
/// Pages are followed by a hash of their name, so that of a page that is followed all is known (SHARDS,
/// Waldspurger et al., FAST 2015); when there is no room for more, half of them are given up and the others
/// count twice. Each time that one of them leaves is stamped with the number of pages that had left by then;
/// when it comes back the difference says how much more memory would have kept it (the refault distance of
/// Linux, mm/workingset.c). What pages do that would have stayed is reasoned in predict().
class MissCurve {
  public:
    static constexpr std::size_t kDeparturesMax = 16384;  ///< that are known at one time, even
    static constexpr std::size_t kConditionsMax = 256;    ///< even

    /// How a page came back.
    enum class Back : std::uint8_t {
        kNot,     ///< not yet, or never
        kAlong,   ///< with another one, before it was touched
        kCached,  ///< it was touched, and was in the pager's memory
        kStored,  ///< it was touched, and had to be read
    };
    static constexpr std::size_t kBacks = 4;

    MissCurve();

    /// `page`: any number that is that page's own, the same each time. A few ns for most pages.
    void left(std::uint64_t page) noexcept {
        clock_++;
        const std::uint64_t hash = mix(page);
        if (hash <= followed_) note_left(hash);
    }
    void came_back(std::uint64_t page, Back how) noexcept {
        counts_[static_cast<std::size_t>(how)]++;
        const std::uint64_t hash = mix(page);
        if (hash <= followed_) note_back(hash, how);
    }

    /// Under which conditions pages leave. Bytes.
    struct Conditions {
        std::uint64_t cap = 0;
        std::uint64_t inside = 0;  ///< of the job's own
        std::uint64_t needed = 0;  ///< the same and what is outside
    };
    /// To be called at a steady pace, a few times a second.
    void note(const Conditions& now) noexcept;

    /// Of what happened under the caps that there were, how much would have under others; 1: all of it.
    struct Prediction {
        double departures = 1;                         ///< of the pages that left
        std::array<double, kBacks> backs{1, 1, 1, 1};  ///< of those that came back, by how
    };
    /// With a constant cap of so many bytes. Where that is less than what there was, as there was. Takes some
    /// 10 ms, and allocates.
    Prediction predict(std::uint64_t cap) const;

    /// The least cap under which nothing of so many bytes has to leave.
    static std::uint64_t cap_for(std::uint64_t needed) noexcept;

    /// Pages that were followed and came back because they were touched: what predict() knows of.
    std::uint64_t misses_followed() const noexcept;
    std::uint64_t departures() const noexcept { return clock_; }
    /// Came back so, all of them.
    std::uint64_t came_back(Back how) const noexcept { return counts_[static_cast<std::size_t>(how)]; }

    /// All that is known, as numbers: what predict() takes too long for where pages are waited for, another
    /// process does. At most kWordsMax; allocates them.
    static constexpr std::size_t kWordsMax = 16 + 4 * (kDeparturesMax + kConditionsMax);
    std::vector<std::uint64_t> words() const;
    /// The same again, to be asked only. Nothing: these are no such numbers.
    static std::optional<MissCurve> of_words(std::span<const std::uint64_t> words);

  private:
    class Model;
    static constexpr std::size_t kSlots = kDeparturesMax * 2;  // a power of two
    static constexpr std::uint16_t kNone = 0xffff;

    /// By the clock.
    struct Departure {
        std::uint64_t hash;
        std::uint64_t left, back;
        Back how;
        bool is_first;  ///< of its page
    };
    struct Period {
        std::uint64_t end;  ///< by the clock
        Conditions conditions;
    };

    /// The finaliser of SplitMix64 (Steele et al., OOPSLA 2014).
    static std::uint64_t mix(std::uint64_t x) noexcept {
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
    }
    std::uint16_t& slot_of(std::uint64_t hash) noexcept;
    void note_left(std::uint64_t hash) noexcept;
    void note_back(std::uint64_t hash, Back how) noexcept;
    void follow_fewer() noexcept;

    std::vector<Departure> departures_;
    std::vector<std::uint16_t> last_;  ///< a page's last departure, by its hash, or kNone
    std::uint64_t followed_ = ~std::uint64_t{0};
    std::uint64_t clock_ = 0;
    std::array<std::uint64_t, kBacks> counts_{};
    std::vector<Period> periods_;
    std::uint32_t notes_ = 0, notes_each_ = 1;
};

}  // namespace farswap
