// What the pager keeps of one managed process. Data only; fault.cpp, events.cpp and reclaim.cpp act on it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "pager/foresight.h"
#include "pager/page_table.h"
#include "pager/streams.h"
#include "pager/surroundings.h"
#include "swap/swap_area.h"
#include "target/target.h"

namespace farswap {

/// Tenths of a second on the steady clock: doubtful pages keep the time of their REMOVE in a word's 32 bits.
inline std::uint32_t tenths_now() {
    return static_cast<std::uint32_t>(io::Clock::now().time_since_epoch() / std::chrono::milliseconds(100));
}

/// How long a page stays doubtful: 10 s, as no madvise(2) takes that long unless its process is stopped.
inline constexpr std::uint32_t kDoubtTenths = 100;

/// Pages that one MOVE takes, and the size of the mapping that it takes them to.
inline constexpr std::uint32_t kBatchPages = 256;

/// A page that a MOVE has taken and that is not in the swap area yet.
struct MovedPage {
    std::uint64_t address = 0;        ///< where the program has it
    std::uint32_t staging_index = 0;  ///< where it lies now
};

/// Guards for a range of whole pages. A thread of the program waits for `done`, with 0 or an errno of
/// madvise(2); not called if the process ends meanwhile. Not begun once nobody waits: the addresses may be
/// others' by then.
struct GuardRequest {
    target::AddressRange range;
    std::function<bool()> wanted;
    std::function<void(int)> done;
};

struct Process {
    std::unique_ptr<target::Target> target;
    std::unique_ptr<PageTable> pages;

    target::Target* operator->() const { return target.get(); }
    /// What the agent has been asked for; its ranges say what the reply is about.
    agent_request asked{};
    std::chrono::nanoseconds moving_took{};  ///< the last MOVE, with the copies of what it took
    /// Whether a MOVE that is not settled may have taken that page.
    bool is_being_moved(std::uint64_t page) const {
        return target->is_moving() &&
               std::any_of(asked.range, asked.range + asked.count, [page](const agent_range& range) {
                   return page >= range.src && page - range.src < range.len;
               });
    }
    std::vector<FrameRun> lent;    ///< frames for what is being moved
    std::vector<MovedPage> moved;  ///< taken by the last MOVE; empty when all are in the swap area
    std::size_t put_back = 0;      ///< of these, pages that the program has again
    std::uint32_t staged = 0;      ///< pages in staging that take memory, not zapped yet
    bool staging_unfit = false;    ///< mlockall(2) in the program may have filled or locked it

    std::uint64_t hand = 0;          ///< where the sweep goes on
    std::uint64_t rss = 0;           ///< bytes, by the last measurement, fills and zaps since included
    std::uint64_t rss_measured = 0;  ///< bytes, the last measurement
    std::uint64_t far_pages = 0;
    std::uint64_t filled = 0;          ///< bytes brought in since it began
    std::uint64_t writes_allowed = 0;  ///< pages that it could copy or write to first, since it began
    bool forked = false;            ///< pages may be shared with a child or parent: MOVE may need an unshare
    bool copies_held = false;       ///< all that it shares is write-protected
    bool may_be_protected = false;  ///< some of it may be
    std::uint64_t held_until = 0;   ///< up to which address what it shares was protected
    io::Clock::time_point shares_since{};  ///< when what is not held yet came to be shared
    pid_t forked_by = 0;                   ///< for a child that has come by a fork
    std::uint64_t forkers_faults = 0;      ///< that process's minor faults at the fork
    bool sharing_counted = false;          ///< by SharedMemory
    std::vector<std::uint64_t> shared;     ///< addresses of pages to unshare before they can be moved
    /// What was unshared last: what is refused there all the same is pinned.
    target::IntervalSet unshared;
    /// Guards that the agent is to put in; it is at the first one if `installs_guard`.
    std::deque<GuardRequest> guards_wanted;
    bool installs_guard = false;
    target::IntervalSet guards;             ///< what may be guarded
    std::vector<std::uint64_t> kept_found;  ///< scratch of the thread scan
    /// Ranges whose old mapping's end is still to be announced, and the words of that mapping (see
    /// displace()).
    target::IntervalSet owed;
    std::map<std::uint64_t, PageWord> displaced;
    target::IntervalSet displaced_wiped;  ///< what of that forks wipe
    /// Where mappings have moved to since nothing was on its way, and what of that has been announced as
    /// unmapped: its end, or that of what lay there before (see doubt_end()).
    target::IntervalSet moved_in, ends_in_doubt;
    /// Announced as unmapped, with their words, and the far pages that have moved, under their old addresses
    /// and counted once more: a FORK that was overtaken may need them (overtaken.cpp).
    target::IntervalSet unmapped;
    /// A far page that lay there until that move, of it or of another mapping to its place.
    struct Moved {
        std::uint64_t address;
        PageWord word;
        std::uint64_t move;
    };
    std::vector<Moved> moved_away;
    /// What has moved, in the order in which the kernel did it, as far as is known.
    struct Move {
        std::uint64_t number, from, to, bytes;
    };
    std::vector<Move> moves;
    /// The same of what is to be removed, until the events that were read with that are handled.
    std::vector<std::pair<std::uint64_t, PageWord>> removed;
    /// Far pages where a child has none: they may have moved before its FORK, and it has them there.
    struct LeftBehind {
        Process* child;
        std::uint64_t address;
        PageWord word;
    };
    std::vector<LeftBehind> left_behind;
    io::Clock::time_point overtaking_since{};
    /// What of it forks wipe (MADV_WIPEONFORK), as far as is noted (wiped.cpp).
    target::IntervalSet wiped;
    bool wiped_is_whole = false;  ///< all that is registered has been looked at for it
    /// What its fork may have wiped: what is outside of it is not given to it before that is known
    /// (wiped.cpp). Nothing leaves it until then.
    target::IntervalSet perhaps_wiped;
    io::Clock::time_point perhaps_wiped_since{};
    std::vector<std::uint64_t> awaited;  ///< pages of that which threads wait for
    bool has_overtaking() const { return !unmapped.empty() || !moves.empty() || !left_behind.empty(); }
    bool out_of_reach = false;         ///< its memory may not be read: nothing leaves (reach.cpp)
    bool is_said_to_be_out = false;    ///< ... and that has been said
    bool leaving = false;              ///< all that is outside is to come back, and nothing leaves any more
    std::uint64_t kept_slots = 0;      ///< pages that are back and have kept their slots
    std::uint64_t admitted = 0;        ///< pages had above the cap because nothing could leave
    std::uint64_t slots_until = 0;     ///< where the search for slots to give up goes on
    std::uint64_t returned_until = 0;  ///< where the search for what is outside goes on
    bool has_doubts = false;           ///< pages may be doubtful that the last walk has passed by
    std::uint64_t doubts_until = 0;    ///< where the walk that ends doubts goes on; 0: there is none
    std::uint32_t doubts_walked = 0;   ///< when it began, in tenths of a second
    std::uint32_t holds = 0;           ///< of those who read it: nothing more goes out
    /// The memory of agents that ended so that a thread could be the only one.
    std::vector<target::AddressRange> agents_sent_away;
    /// Where the marks of those it was forked from lie in it.
    std::vector<std::uint64_t> inherited_marks;
    bool gone = false;       ///< to be deleted when the loop's callbacks have returned
    bool injecting = false;  ///< a forked child that is getting its agent

    /// A forked child is recognised by 16 bytes in its cookie page number `depth`.
    std::uint64_t cookie_base = 0;
    std::uint32_t cookie_depth = 0;
    bool marked = true;  ///< false: the cookie could not be placed yet
    std::array<std::uint64_t, 2> cookie{};
    bool unmarkable = false;  ///< its number cannot be learnt
    /// Where children are marked that were forked before this process had its agent; 0: nowhere.
    std::uint64_t former_base = 0;
    std::uint32_t former_depth = 0;

    Streams streams;               ///< of the faults on far pages
    Foresight foresight;           ///< of what those leave out
    Surroundings surroundings;     ///< of what is in no walk
    std::uint64_t next_fresh = 0;  ///< behind the last first touch that was filled
    std::uint32_t fresh_window = 1;
};

}  // namespace farswap
