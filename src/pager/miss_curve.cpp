// Follows pages, and reasons about other caps; see miss_curve.h.
#include "pager/miss_curve.h"

#include <algorithm>
#include <unordered_map>

#include "farswap/request.h"

namespace farswap {
namespace {

constexpr int kRoundsMax = 200;
constexpr double kSettled = 1e-4;               // change of a pace
constexpr double kPagersOwn = 8.0 * (1 << 20);  // of any cap
constexpr double kJobsShare = 15.0 / 16;        // of the rest; the pool has the other part
constexpr auto kPage = static_cast<double>(kPageSize);
// What words() begins with: these, the counts by how pages came back, and then four words for each thing.
constexpr std::uint64_t kWordsFormat = 0x6d69737363757201;
enum Head : std::size_t { kFormat, kFollowed, kClock, kDepartures, kPeriods, kCounts };
constexpr std::size_t kHeadWords = kCounts + MissCurve::kBacks;
static_assert(kHeadWords <= 16);

/// What a cap leaves the job, without pages that are kept compressed.
double room_in(std::uint64_t cap) {
    return (static_cast<double>(cap) - kPagersOwn) * kJobsShare;
}

}  // namespace

MissCurve::MissCurve() {
    departures_.reserve(kDeparturesMax);
    last_.assign(kSlots, kNone);
    periods_.reserve(kConditionsMax);
}

std::uint16_t& MissCurve::slot_of(std::uint64_t hash) noexcept {
    std::size_t slot = hash % kSlots;
    while (last_[slot] != kNone && departures_[last_[slot]].hash != hash) slot = (slot + 1) % kSlots;
    return last_[slot];
}

void MissCurve::note_left(std::uint64_t hash) noexcept {
    while (departures_.size() == kDeparturesMax) follow_fewer();
    if (hash > followed_) return;
    std::uint16_t& number = slot_of(hash);
    const bool is_first = number == kNone;
    number = static_cast<std::uint16_t>(departures_.size());
    departures_.push_back({hash, clock_, 0, Back::kNot, is_first});
}

void MissCurve::note_back(std::uint64_t hash, Back how) noexcept {
    const std::uint16_t number = slot_of(hash);
    if (number == kNone) return;  // it left under another name
    Departure& departure = departures_[number];
    if (departure.how != Back::kNot) return;
    departure.back = clock_;
    departure.how = how;
}

/// The hashes stay evenly spread, so those of the lower half are half of the pages.
void MissCurve::follow_fewer() noexcept {
    followed_ /= 2;
    std::erase_if(departures_, [this](const Departure& departure) { return departure.hash > followed_; });
    std::fill(last_.begin(), last_.end(), kNone);
    for (std::size_t i = 0; i < departures_.size(); i++)
        slot_of(departures_[i].hash) = static_cast<std::uint16_t>(i);
}

void MissCurve::note(const Conditions& now) noexcept {
    if (!periods_.empty() && (periods_.back().end == clock_ || notes_ < notes_each_)) {
        Period& last = periods_.back();
        last.end = clock_;
        const std::uint64_t needed = std::max(last.conditions.needed, now.needed);
        last.conditions = now;
        last.conditions.needed = needed;
        notes_++;
        return;
    }
    if (periods_.size() == kConditionsMax) {
        for (std::size_t i = 0; i < kConditionsMax / 2; i++) {
            periods_[i] = periods_[2 * i + 1];
            periods_[i].conditions.needed =
                std::max(periods_[2 * i].conditions.needed, periods_[2 * i + 1].conditions.needed);
        }
        periods_.resize(kConditionsMax / 2);
        notes_each_ *= 2;
    }
    periods_.push_back({clock_, now});
    notes_ = 1;
}

std::uint64_t MissCurve::cap_for(std::uint64_t needed) noexcept {
    return static_cast<std::uint64_t>(static_cast<double>(needed) / kJobsShare + kPagersOwn) + kPageSize;
}

std::uint64_t MissCurve::misses_followed() const noexcept {
    return static_cast<std::uint64_t>(std::ranges::count_if(
        departures_, [](const Departure& d) { return d.how == Back::kCached || d.how == Back::kStored; }));
}

/// Pages leave in the order of a sweep, whether they are in use or not. So with `inside` pages of memory one
/// leaves that many arrivals after it came, and comes back when it is touched next. With more memory it would
/// leave later. If that is before the touch, nothing changes. If it is after the touch, that is a hit; but
/// the page leaves all the same, later, and stays out for a while like the one that was seen. It comes back
/// once in (memory then + out) arrivals, instead of once in (inside + out).
///
/// By which clock? Arrivals get fewer. The pace of a stretch is the share of its arrivals that remain: all
/// new pages, and of those that come back what follows from the reasoning above, which needs the pace. From a
/// pace of 1 on this is repeated until it settles. It can only fall, so it ends at the highest pace that
/// agrees with itself, as it must: a walk round and round through more than fits misses all, though to miss
/// nothing would agree, too.
class MissCurve::Model {
  public:
    Model(const MissCurve& curve, std::uint64_t cap) : curve_(curve) {
        prepare(cap);
        average();
    }
    Prediction settle();

  private:
    static constexpr std::size_t kStretches = 256;

    /// Of the clock of departures, all of equal length.
    struct Stretch {
        double inside = 0, then = 0;           ///< pages
        bool fits = false;                     ///< then all that there is would be inside
        bool fits_all = false;                 ///< and all that there ever is
        double fresh = 0, back = 0, kept = 0;  ///< arrivals that were followed; of `back`, what would be left
        double pace = 1, begin = 0;            ///< the latter by the clock that is looked for
    };

    std::size_t stretch_at(double clock) const {
        return std::min(static_cast<std::size_t>(clock / length_), kStretches - 1);
    }
    /// Before the first page left, memory was filled: at pace 1, whatever there is of it.
    double then_clock(double clock) const {
        if (clock < 0) return clock;
        const std::size_t number = stretch_at(clock);
        return stretches_[number].begin +
               stretches_[number].pace * (clock - static_cast<double>(number) * length_);
    }
    void prepare(std::uint64_t cap);
    void average();
    double share_of(const Departure& departure, double usually_out) const;
    void count();
    double change_pace();

    const MissCurve& curve_;
    double length_ = 1;
    std::array<Stretch, kStretches> stretches_{};
    std::vector<double> usually_out_;  ///< for each departure: how long its page is out, on the average
    double end_ = 0;                   ///< of the clock that is looked for
    std::array<double, kBacks> seen_{}, kept_{};
};

/// What there is of compressed pages depends on the program, and is taken to be as it was.
void MissCurve::Model::prepare(std::uint64_t cap) {
    length_ = std::max(static_cast<double>(curve_.clock_) / kStretches, 1.0);
    double most_needed = 0;
    for (const Period& p : curve_.periods_)
        most_needed = std::max(most_needed, static_cast<double>(p.conditions.needed));
    auto period = curve_.periods_.begin();
    for (std::size_t i = 0; i < kStretches; i++) {
        const double middle = (static_cast<double>(i) + 0.5) * length_;
        while (period + 1 != curve_.periods_.end() && static_cast<double>(period->end) < middle) ++period;
        const Conditions& now = period->conditions;
        const auto inside = static_cast<double>(now.inside);
        const double more = std::max(room_in(cap) - room_in(now.cap), 0.0);
        stretches_[i].inside = std::max(inside / kPage, 1.0);
        stretches_[i].then = stretches_[i].inside + more / kPage;
        stretches_[i].fits = room_in(cap) >= static_cast<double>(now.needed);
        stretches_[i].fits_all = room_in(cap) >= most_needed;
    }
}

void MissCurve::Model::average() {
    struct Sum {
        double out = 0;
        std::uint32_t count = 0;
    };
    std::unordered_map<std::uint64_t, Sum> sums;
    for (const Departure& departure : curve_.departures_) {
        if (departure.how == Back::kNot) continue;
        Sum& sum = sums[departure.hash];
        sum.out += static_cast<double>(departure.back - departure.left);
        sum.count++;
    }
    usually_out_.reserve(curve_.departures_.size());
    for (const Departure& departure : curve_.departures_) {
        const Sum& sum = sums[departure.hash];
        usually_out_.push_back(sum.count > 0 ? sum.out / sum.count : 0);
    }
}

/// How much of a page's leaving and coming back would be left; of one that never came back, whether it would
/// leave.
double MissCurve::Model::share_of(const Departure& departure, double usually_out) const {
    const auto at = static_cast<double>(departure.left);
    const Stretch& stretch = stretches_[stretch_at(at)];
    if (stretch.fits_all) return 0;
    const double came = then_clock(at - stretch.inside);
    if (departure.how == Back::kNot) return came + stretch.then < end_ ? 1 : 0;
    const double back = then_clock(static_cast<double>(departure.back));
    if (came + stretch.then < back) return 1;
    if (stretch.fits) return 0;
    return std::min((back - came) / (stretch.then + usually_out * stretch.pace), 1.0);
}

void MissCurve::Model::count() {
    end_ = 0;
    for (Stretch& stretch : stretches_) {
        stretch.begin = end_;
        end_ += stretch.pace * length_;
        stretch.fresh = stretch.back = stretch.kept = 0;
    }
    seen_ = kept_ = {};
    for (std::size_t i = 0; i < curve_.departures_.size(); i++) {
        const Departure& departure = curve_.departures_[i];
        const double share = share_of(departure, usually_out_[i]);
        const auto how = static_cast<std::size_t>(departure.how);
        seen_[how]++;
        kept_[how] += share;
        if (departure.is_first) {
            const double arrived = static_cast<double>(departure.left) -
                                   stretches_[stretch_at(static_cast<double>(departure.left))].inside;
            if (arrived >= 0) stretches_[stretch_at(arrived)].fresh++;
        }
        if (departure.how == Back::kNot) continue;
        Stretch& stretch = stretches_[stretch_at(static_cast<double>(departure.back))];
        stretch.back++;
        stretch.kept += share;
    }
}

/// By how much at the most.
double MissCurve::Model::change_pace() {
    double most = 0;
    for (Stretch& stretch : stretches_) {
        const double all = stretch.fresh + stretch.back;
        if (all == 0) continue;
        const double pace = std::min((stretch.fresh + stretch.kept) / all, stretch.pace);
        most = std::max(most, stretch.pace - pace);
        stretch.pace = pace;
    }
    return most;
}

MissCurve::Prediction MissCurve::Model::settle() {
    for (int round = 0; round < kRoundsMax; round++) {
        count();
        if (change_pace() < kSettled) break;
    }
    Prediction all;
    double seen = 0, kept = 0;
    for (std::size_t how = 0; how < kBacks; how++) {
        if (seen_[how] > 0) all.backs[how] = kept_[how] / seen_[how];
        seen += seen_[how];
        kept += kept_[how];
    }
    all.departures = kept / seen;
    return all;
}

MissCurve::Prediction MissCurve::predict(std::uint64_t cap) const {
    const bool is_less =
        std::ranges::all_of(periods_, [cap](const Period& p) { return cap <= p.conditions.cap; });
    if (departures_.empty() || is_less) return {};
    return Model(*this, cap).settle();
}

std::vector<std::uint64_t> MissCurve::words() const {
    std::vector<std::uint64_t> words{kWordsFormat, followed_, clock_, departures_.size(), periods_.size()};
    words.reserve(kHeadWords + 4 * (departures_.size() + periods_.size()));
    words.insert(words.end(), counts_.begin(), counts_.end());
    for (const Departure& d : departures_)
        words.insert(words.end(),
                     {d.hash, d.left, d.back, static_cast<std::uint64_t>(d.how) * 2 + (d.is_first ? 1 : 0)});
    for (const Period& p : periods_)
        words.insert(words.end(), {p.end, p.conditions.cap, p.conditions.inside, p.conditions.needed});
    return words;
}

std::optional<MissCurve> MissCurve::of_words(std::span<const std::uint64_t> words) {
    if (words.size() < kHeadWords || words[kFormat] != kWordsFormat) return {};
    const std::uint64_t departures = words[kDepartures], periods = words[kPeriods];
    if (departures > kDeparturesMax || periods > kConditionsMax ||
        words.size() != kHeadWords + 4 * (departures + periods))
        return {};
    MissCurve curve;
    curve.followed_ = words[kFollowed];
    curve.clock_ = words[kClock];
    std::ranges::copy(words.subspan(kCounts, kBacks), curve.counts_.begin());
    auto at = words.subspan(kHeadWords);
    for (std::uint64_t i = 0; i < departures; i++, at = at.subspan(4)) {
        const Departure one{at[0], at[1], at[2], static_cast<Back>(at[3] / 2), at[3] % 2 != 0};
        if (at[3] / 2 >= kBacks || one.left > curve.clock_ || one.back > curve.clock_) return {};
        if (one.how != Back::kNot && one.back < one.left) return {};
        curve.departures_.push_back(one);
    }
    for (std::uint64_t i = 0; i < periods; i++, at = at.subspan(4))
        curve.periods_.push_back({at[0], {at[1], at[2], at[3]}});
    return curve;
}

}  // namespace farswap
