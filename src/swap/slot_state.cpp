// The table of rules behind slot_step(). Pure: computed by the compiler.
#include "swap/slot_state.h"

#include <array>

namespace farswap {
namespace {

using enum SlotState;
using enum SlotEvent;

struct Rule {
    SlotState from;
    SlotEvent event;
    SlotState to;
};

constexpr Rule kRules[] = {
    {kFree, kAdded, kDirty},
    {kFree, kAddedFilled, kFilled},
    {kFilled, kLastPut, kFree},
    {kFree, kAddedPacked, kPacked},
    {kPacked, kUnpacked, kDirty},
    {kPacked, kLastPut, kFree},

    {kDirty, kWriteStarted, kWriting},
    {kDirty, kPackedAway, kPacked},
    {kDirty, kLastPut, kFree},

    {kWriting, kWriteDone, kWritten},
    {kWriting, kWriteFailed, kDirty},
    {kWriting, kLost, kRewriting},  // the server may have taken this write before it lost its memory
    {kWriting, kLastPut, kOrphanWriting},

    {kRewriting, kWriteDone, kDirty},
    {kRewriting, kWriteFailed, kDirty},
    {kRewriting, kLost, kRewriting},
    {kRewriting, kLastPut, kOrphanWriting},

    {kWritten, kFlushed, kClean},
    {kWritten, kLost, kDirty},
    {kWritten, kLastPut, kFree},

    {kClean, kDropped, kStored},
    {kClean, kLastPut, kFree},

    {kStored, kReadStarted, kReading},
    {kStored, kPackedToo, kPackedStored},
    {kStored, kLastPut, kFree},

    {kPackedStored, kDropped, kStored},
    {kPackedStored, kLastPut, kFree},

    {kReading, kReadDone, kClean},
    {kReading, kReadFailed, kStored},
    {kReading, kLastPut, kOrphanReading},

    // A slot under I/O is not reused: a late write would land on its next owner's page.
    {kOrphanWriting, kWriteDone, kFree},
    {kOrphanWriting, kWriteFailed, kFree},
    {kOrphanWriting, kLost, kOrphanWriting},
    {kOrphanReading, kReadDone, kFree},
    {kOrphanReading, kReadFailed, kFree},
};

using StepTable = std::array<std::array<SlotStep, kSlotEvents>, kSlotStates>;

constexpr StepTable make_steps() {
    StepTable steps{};
    for (const Rule& rule : kRules) {
        SlotStep& step = steps[static_cast<unsigned>(rule.from)][static_cast<unsigned>(rule.event)];
        step.next = rule.to;
        step.legal = true;
        step.releases_frame = has_frame(rule.from) && !has_frame(rule.to);
        step.frees_slot = rule.to == kFree;
    }
    return steps;
}

constexpr StepTable kSteps = make_steps();

}  // namespace

const SlotStep& slot_step(SlotState state, SlotEvent event) noexcept {
    return kSteps[static_cast<unsigned>(state)][static_cast<unsigned>(event)];
}

}  // namespace farswap
