// The rules of a slot's life, explored completely: every order of events against a store that may lose, delay
// and repeat, with the one question whether a page's only good copy can ever be given away.
#include "swap/slot_state.h"

#include <gtest/gtest.h>

#include <compare>
#include <deque>
#include <set>

namespace farswap {
namespace {

/// What is at the slot's place on the store.
enum class Place : std::uint8_t {
    kOther,     ///< nothing, or somebody else's page
    kVolatile,  ///< our page, lost when the server restarts
    kDurable,   ///< our page, for good
};

/// One slot and all of its surroundings that matter.
struct World {
    SlotState slot = SlotState::kFree;
    bool referenced = false;
    Place place = Place::kOther;
    bool write_in_flight = false;
    bool write_executed = false;  ///< the server has taken it, the reply is on its way
    bool read_in_flight = false;
    bool restarted = false;  ///< the server has restarted and no flush has told us yet
    bool flush_in_flight = false;
    bool flush_covers = false;  ///< our write completed before the flush was submitted
    auto operator<=>(const World&) const = default;
};

class Explorer {
  public:
    void explore() {
        visit(World{});
        while (!queue_.empty()) {
            const World world = queue_.front();
            queue_.pop_front();
            expand(world);
        }
    }
    std::set<SlotState> states() const {
        std::set<SlotState> states;
        for (const World& world : seen_) states.insert(world.slot);
        return states;
    }

  private:
    void visit(const World& world) {
        check(world);
        if (!::testing::Test::HasFailure() && seen_.insert(world).second) queue_.push_back(world);
    }

    /// The invariants.
    static void check(const World& w) {
        if (is_safe(w.slot) && w.slot != SlotState::kWritten) {
            EXPECT_EQ(w.place, Place::kDurable) << "a frame may be reused without a durable copy";
        }
        if (w.slot == SlotState::kFree) {
            EXPECT_FALSE(w.write_in_flight || w.read_in_flight) << "a slot under I/O is free";
            EXPECT_FALSE(w.referenced);
        } else {
            EXPECT_EQ(w.referenced,
                      w.slot != SlotState::kOrphanReading && w.slot != SlotState::kOrphanWriting);
        }
        EXPECT_FALSE(w.write_in_flight && w.read_in_flight);
    }

    static World after(World world, SlotEvent event) {
        const SlotStep& step = slot_step(world.slot, event);
        EXPECT_TRUE(step.legal) << "state " << int(world.slot) << " event " << int(event);
        EXPECT_EQ(step.releases_frame, has_frame(world.slot) && !has_frame(step.next));
        EXPECT_EQ(step.frees_slot, step.next == SlotState::kFree);
        world.slot = step.next;
        if (step.frees_slot) {  // the next owner starts afresh on an unknown place
            world.place = Place::kOther;
            world.flush_covers = false;
        }
        return world;
    }

    void expand(const World& w) {
        user(w);
        writer(w);
        reader(w);
        server(w);
        flusher(w);
    }

    void user(const World& w) {
        if (w.slot == SlotState::kFree) {
            World next = after(w, SlotEvent::kAdded);
            next.referenced = true;
            visit(next);
            for (const SlotEvent kept : {SlotEvent::kAddedFilled, SlotEvent::kAddedPacked}) {
                next = after(w, kept);
                next.referenced = true;
                visit(next);
            }
        }
        if (w.referenced) {
            World next = w;
            next.referenced = false;
            visit(after(next, SlotEvent::kLastPut));
        }
    }

    void writer(const World& w) {
        if (w.slot == SlotState::kDirty) {
            World next = after(w, SlotEvent::kWriteStarted);
            next.write_in_flight = true;
            next.write_executed = false;
            next.place = Place::kOther;  // being overwritten
            next.flush_covers = false;
            visit(next);
            visit(after(w, SlotEvent::kPackedAway));
        }
        if (w.slot == SlotState::kPacked) visit(after(w, SlotEvent::kUnpacked));
        if (!w.write_in_flight) return;
        World ended = w;
        ended.write_in_flight = ended.write_executed = false;
        if (w.write_executed) visit(after(ended, SlotEvent::kWriteDone));
        visit(after(ended, SlotEvent::kWriteFailed));  // whether the server has taken it or not
    }

    void reader(const World& w) {
        if (w.slot == SlotState::kClean || w.slot == SlotState::kPackedStored)
            visit(after(w, SlotEvent::kDropped));
        if (w.slot == SlotState::kStored) visit(after(w, SlotEvent::kPackedToo));
        if (w.slot == SlotState::kStored) {
            World next = after(w, SlotEvent::kReadStarted);
            next.read_in_flight = true;
            visit(next);
        }
        if (!w.read_in_flight) return;
        World ended = w;
        ended.read_in_flight = false;
        visit(after(ended, SlotEvent::kReadDone));
        visit(after(ended, SlotEvent::kReadFailed));
    }

    void server(const World& w) {
        if (w.write_in_flight && !w.write_executed) {
            World next = w;
            next.write_executed = true;
            next.place = Place::kVolatile;
            visit(next);
        }
        World next = w;  // a restart: what was not flushed is gone, replies that were sent still arrive
        if (next.place == Place::kVolatile) next.place = Place::kOther;
        next.restarted = true;
        visit(next);
    }

    void flusher(const World& w) {
        if (!w.flush_in_flight) {
            World next = w;
            next.flush_in_flight = true;
            next.flush_covers = w.slot == SlotState::kWritten;
            visit(next);
            return;
        }
        World next = w;
        next.flush_in_flight = next.flush_covers = false;
        if (!w.restarted) {
            if (next.place == Place::kVolatile) next.place = Place::kDurable;
            // What a write that completed later left is not promised to be durable.
            if (!w.flush_covers && w.place == Place::kVolatile) next.place = Place::kVolatile;
            visit(w.flush_covers && w.slot == SlotState::kWritten ? after(next, SlotEvent::kFlushed) : next);
        } else {
            next.restarted = false;
            const bool concerned = w.slot == SlotState::kWritten || w.write_in_flight;
            visit(concerned ? after(next, SlotEvent::kLost) : next);
        }
    }

    std::set<World> seen_;
    std::deque<World> queue_;
};

TEST(SlotState, NoOrderOfEventsLosesTheOnlyCopy) {
    Explorer explorer;
    explorer.explore();
    EXPECT_EQ(explorer.states().size(), kSlotStates) << "a state was never reached";
}

TEST(SlotState, EveryStateIsLeftByTheRightEventsOnly) {
    int legal = 0;
    for (unsigned state = 0; state < kSlotStates; ++state)
        for (unsigned event = 0; event < kSlotEvents; ++event)
            legal += slot_step(static_cast<SlotState>(state), static_cast<SlotEvent>(event)).legal;
    EXPECT_EQ(legal, 35);
    EXPECT_FALSE(slot_step(SlotState::kDirty, SlotEvent::kDropped).legal);
    EXPECT_FALSE(slot_step(SlotState::kWritten, SlotEvent::kDropped).legal);
    EXPECT_FALSE(slot_step(SlotState::kWriting, SlotEvent::kDropped).legal);
    EXPECT_FALSE(slot_step(SlotState::kFree, SlotEvent::kLastPut).legal);
    EXPECT_FALSE(slot_step(SlotState::kPacked, SlotEvent::kDropped).legal);
    EXPECT_FALSE(slot_step(SlotState::kPackedStored, SlotEvent::kUnpacked).legal);
}

TEST(SlotState, FrameAndContentFollowTheState) {
    EXPECT_FALSE(has_frame(SlotState::kFree));
    EXPECT_FALSE(has_frame(SlotState::kStored));
    EXPECT_TRUE(has_frame(SlotState::kReading));
    EXPECT_FALSE(is_cached(SlotState::kReading));
    EXPECT_TRUE(is_cached(SlotState::kRewriting));
    EXPECT_TRUE(is_cached(SlotState::kClean));
    EXPECT_FALSE(is_cached(SlotState::kOrphanWriting));
    EXPECT_FALSE(has_frame(SlotState::kFilled));
    EXPECT_FALSE(is_cached(SlotState::kFilled));
    EXPECT_TRUE(has_content(SlotState::kFilled));
}

}  // namespace
}  // namespace farswap
