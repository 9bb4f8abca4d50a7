#include "job.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/log.h"
#include "base/no_allocation.h"
#include "program.h"
#include "store.h"
#include "store/mirror_store.h"
#include "store/no_store.h"

namespace farswap::simulate {
namespace {

constexpr std::uint64_t kAgents = 0x200'0000'0000;
constexpr std::uint64_t kAgentPages = 2 + target::kCookiePages + kBatchPages + 1;
constexpr std::int64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kPagesMax = 4096;  // of a store

/// Patient for as long as suits stores that are away for a second.
constexpr MirrorOptions kMirror{.outage_max = std::chrono::milliseconds(200),
                                .read_patience = std::chrono::milliseconds(30),
                                .shy = std::chrono::milliseconds(100),
                                .retry_delay = std::chrono::milliseconds(5),
                                .probe_delay = std::chrono::milliseconds(20),
                                .probe_delay_max = std::chrono::milliseconds(200)};

bool is_allowed(const Error& why) {
    const Options& options = world->options;
    switch (why.code) {
        case EILSEQ:
            return std::ranges::any_of(world->stores, &SimulatedStore::is_lying);
        case ENOSPC:
            return options.has(Feature::kFull);
        default:
            return options.has(Feature::kFailure) || (options.has(Feature::kErrors) && why.code != EPROTO);
    }
}

/// What leaves from where no fault is told of comes back as zeros, without anybody being asked.
void expect_only_registered_evictable(const farswap::Process& process) {
    for (const AddressRange& range : process.target->evictable().ranges()) {
        const auto missing = process.target->registered().missing(range.start, range.end);
        if (missing.empty()) continue;
        fail_run(fmt::format("what lies at {:#x} may leave process {} and is not registered",
                             missing[0].start, process.target->process()));
    }
}

/// In the place of keeper::births(); asked where a number is taken to seal a page under.
std::uint32_t births() noexcept {
    const MayAllocate simulated("the others go on");
    world->death.may_come();
    return world->death.births();
}

}  // namespace

SimulatedJob::SimulatedJob()
    : budget_(world->options.cap_pages * kPageSize, world->options.cap_pages * kPageSize) {
    loop_ = io::Loop::create().value();
    const std::size_t frames = world->options.frames;
    pool_ = Pool::create({.frames = frames,
                          .frames_ready = world->options.seed % 4 == 1 ? frames / 2 : 0,
                          .lock = false,
                          .huge_pages = false})
                .value();
    warmup_.emplace(*loop_, *pool_, budget_);
    make_area();
    if (world->options.has(Feature::kChaos)) budget_.be_chaotic();
    pager_ = std::make_unique<Pager>(*loop_, *pool_, *area_, budget_, stats_);
    pager_->forks_may_wipe(!world->options.is_gated());
    pager_->fatal = [this](const Error& why) { stop_for(why); };
    area_->store_failed = [this](const Error& why) { stop_for(why); };
    pager_->process_gone = [this](farswap::Process& gone, bool) {
        std::erase_if(owners_, [&](const auto& one) { return one.second == &gone; });
    };
    if (world->options.has(Feature::kLeave))
        leave_at_ = world->random.between(world->options.steps / 8, world->options.steps / 8 * 7);
    poll_timer_.owner = this;
    poll_timer_.fire = [](io::Timer& timer) { static_cast<SimulatedJob*>(timer.owner)->poll(); };
}

SimulatedJob::~SimulatedJob() = default;

void SimulatedJob::make_area() {
    Random& random = world->random;
    const Options& options = world->options;
    const std::uint64_t capacity = (options.has(Feature::kFull) ? 300 : kPagesMax) * kPageSize;
    const StoreSize size{.capacity = capacity, .reserved = (32 + random.below(64)) * kPageSize};
    const bool has_death = options.has(Feature::kDeath);
    const bool in_memory = options.has(Feature::kMemory);
    const bool is_mirrored = options.has(Feature::kMirror) && !in_memory;
    const std::size_t count = in_memory ? 0 : is_mirrored || options.has(Feature::kStores) ? 2 : 1;
    std::vector<std::unique_ptr<Store>> stores;
    for (std::size_t i = 0; i < count; ++i) {
        auto store = std::make_unique<SimulatedStore>(
            fmt::format("store {}", i), size,
            has_death && world->death.random.once_in(2) ? loop_.get() : nullptr);
        simulated_.push_back(store.get());
        stores.push_back(std::move(store));
    }
    if (is_mirrored) {
        auto mirror = MirrorStore::create(std::move(stores[0]), std::move(stores[1]), *loop_, kMirror);
        stores.clear();
        stores.push_back(std::move(mirror).value());
    }
    SwapAreaOptions area;
    if (in_memory) {
        area.keep_in_memory = (options.has(Feature::kFull) ? 60 : kPagesMax) * kPageSize;
        stores.push_back(make_no_store(8 * area.keep_in_memory));
    }
    if (stores.size() > 1 && random.once_in(2)) area.priorities = {1, 0};
    area.write_run_max = static_cast<std::uint32_t>(random.between(1, 32));
    area.read_run_max = static_cast<std::uint32_t>(random.between(1, 32));
    area.read_frames_min = static_cast<std::uint32_t>(random.between(4, 16));
    area.writes_max = static_cast<std::uint32_t>(random.between(1, 6));
    area.reads_max = static_cast<std::uint32_t>(random.between(1, 24));
    area.held_percent = static_cast<std::uint32_t>(random.below(30));
    area.io_timeout = std::chrono::milliseconds(500);
    area.retry_delay = std::chrono::milliseconds(random.between(1, 50));
    area.idle_flush_delay = std::chrono::milliseconds(random.between(1, 50));
    area.reserve_chunk = (16 + random.below(128)) * kPageSize;
    area.attempts_max = 12;
    area.seal = random.once_in(2);
    area.seal_memory = options.seed % 3 == 0;
    area.compression = static_cast<Compression>(random.below(3));
    if (in_memory && area.compression == Compression::kOff) area.compression = Compression::kLz4;
    if (options.has(Feature::kTier)) {
        area.cache_tier = random.between(8, kPagesMax) * kPageSize;
        if (area.compression == Compression::kOff) area.compression = Compression::kLz4;
    }
    if (has_death) area.births = births;
    area_ = SwapArea::create(*pool_, *loop_, std::move(stores), area).value();
}

void SimulatedJob::stop_for(const Error& why) {
    const MayAllocate end("the job is stopped");
    trace("stopped: " + why.message);
    if (stopped_by_) return;
    stopped_by_ = why;
    world->stopped = true;
    if (!is_allowed(why)) fail_run("the program was stopped without a reason: " + why.message);
    world->kill_all();
}

farswap::Process* SimulatedJob::owner_of(const simulate::Process& process) const {
    const auto found = owners_.find(process.id);
    return found == owners_.end() ? nullptr : found->second;
}

void SimulatedJob::run() {
    put_agent_in(start_program());
    hand_agents_over();
    loop_->arm(poll_timer_, io::Clock::now());
    // What goes wrong is told in a line of the log or the sentence of an error, which are not exempt
    // (decision 0026).
    constexpr std::array kTold = {Feature::kErrors, Feature::kLosses,  Feature::kOutages,
                                  Feature::kLate,   Feature::kFailure, Feature::kFull};
    const bool is_trapped = std::ranges::none_of(kTold, [](Feature one) { return world->options.has(one); });
    while (world->any_alive() || !pager_->processes().empty()) {
        const NoAllocation none(is_trapped ? "the pager's loop" : nullptr);
        loop_->run_once(std::chrono::nanoseconds::max());
        pager_->pump();
        pager_->bury();
    }
    check_the_end();
}

/// The mappings, the thread and the registrations of an agent; the pager hears of it later.
void SimulatedJob::put_agent_in(simulate::Process& process) {
    Memory& memory = *process.memory;
    std::uint64_t base = kAgents;
    while (!memory.is_free(base, base + kAgentPages * kPageSize)) base += kAgentPages * kPageSize;
    target::Agent agent;
    agent.process = process.id;
    agent.base = base;
    agent.length = kAgentPages * kPageSize;
    agent.cookie = base + kPageSize;
    agent.staging = agent.cookie + (target::kCookiePages + 1) * kPageSize;
    agent.staging_pages = kBatchPages;
    const auto add = [&](std::uint64_t start, std::uint64_t pages, bool inherited) {
        memory.vmas.emplace(
            start,
            Vma{.start = start, .end = start + pages * kPageSize, .agents = true, .dont_fork = !inherited});
    };
    add(base, 1, false);
    add(agent.cookie, target::kCookiePages, true);
    add(agent.staging, kBatchPages, false);
    farswap::Process* child = owner_of(process);
    Context& uffd = memory.uffd != nullptr ? *memory.uffd : world->make_context(memory);
    uffd.register_range(agent.staging, kBatchPages * kPageSize);
    uffd.register_range(agent.cookie, target::kCookiePages * kPageSize);
    process.channel = std::make_shared<Channel>();
    Thread& thread = world->make_thread(process);
    thread.is_agent = true;
    thread.main = run_agent(thread, process.channel, uffd);
    thread.at = thread.main.handle();
    agent.thread = thread.id;
    agent.pidfd = Fd(world->files.add({.kind = File::Kind::kPidfd, .process = process.id}));
    agent.socket = Fd(world->files.add({.kind = File::Kind::kSocket, .channel = process.channel}));
    agent.uffd = Fd(world->files.add({.kind = File::Kind::kUffd, .uffd = &uffd}));
    trace(fmt::format("process {} gets agent {} at {:#x}{}", process.id, agent.thread, base,
                      child ? ", a child" : ""));
    if (child != nullptr) child->injecting = true;
    process.agent_is_new = true;
    ready_.push_back({process.id, process.programs, std::move(agent), child});
}

void SimulatedJob::hand_agents_over() {
    for (Ready& ready : std::exchange(ready_, {})) {
        simulate::Process* process = world->find(ready.process);
        process->agent_is_new = false;
        const bool same = process->alive && process->programs == ready.program;
        if (ready.child != nullptr) {
            if (owner_of(*process) != ready.child) continue;  // it is gone
            ready.child->injecting = false;
            if (same) pager_->give_agent(*ready.child, std::move(ready.agent));
        } else if (auto adopted = pager_->adopt(std::move(ready.agent))) {
            // It may have forked before anybody could have told us.
            (*adopted)->forked = true;
            owners_[ready.process] = *adopted;
        }
    }
}

/// As Members::consider(): is it one of the children that are known by their userfaultfd; is it worth an
/// agent.
void SimulatedJob::look_at(simulate::Process& process) {
    const auto is_on_its_way = [&](const Ready& ready) { return ready.process == process.id; };
    if (std::ranges::any_of(ready_, is_on_its_way)) return;
    farswap::Process* owner = owner_of(process);
    if (owner == nullptr) {
        const Pager::Recognised recognised = pager_->recognise(process.id);
        if (recognised.child != nullptr) {
            owners_[process.id] = recognised.child;
        } else if (recognised.certain && process.alive && process.memory->advising == 0 &&
                   world->random.once_in(3)) {
            put_agent_in(process);
        }
        return;
    }
    if (process.memory->advising > 0) return;
    const bool is_old = world->now - process.born > 2 * kMillisecond;
    if (is_old && process.alive && !owner->gone && !owner->target->has_agent() && !owner->target->is_moving())
        put_agent_in(process);
}

/// As Members::deal_with(). At each system call that it makes, other threads may come to the gate.
void SimulatedJob::let_calls_go() {
    for (std::shared_ptr<GateCall>& call : std::exchange(world->gate, {}))
        if (!stopped_by_ && !deal_with(*call)) world->gate.push_back(std::move(call));
}

bool SimulatedJob::deal_with(GateCall& call) {
    simulate::Process* process = world->find(call.process);
    if (!process->alive || process->memory != call.memory) return true;
    const auto is_on_its_way = [&](const Ready& ready) { return ready.process == process->id; };
    if (std::ranges::any_of(ready_, is_on_its_way)) return false;
    farswap::Process* owner = owner_of(*process);
    if (owner == nullptr) {
        const Pager::Recognised recognised = pager_->recognise(process->id);
        if (recognised.child != nullptr) owners_[process->id] = owner = recognised.child;
        if (recognised.child == nullptr && !recognised.certain) return false;
    }
    call.is_let_go = pager_->note_fork_advice(owner, call.range, call.wipes);
    return call.is_let_go;
}

void SimulatedJob::measure() {
    std::uint64_t sum = 0;
    for (const auto& process : world->processes) {
        if (!process->alive) continue;
        const std::uint64_t rss = process->memory->pages_present() * kPageSize;
        sum += rss;
        if (farswap::Process* owner = owner_of(*process)) owner->rss = rss;
    }
    const std::uint64_t used = world->pages_in_use() * kPageSize;
    shared_bytes_ = sum - std::min(sum, used);
    pager_->note_shared(shared_bytes_);
    budget_.measured(used + pool_->ready_frames() * kPageSize);
    warmup_->look();
}

/// As Members::hold_copies().
void SimulatedJob::hold_copies() {
    const std::uint64_t at_worst = budget_.used() + shared_bytes_;
    const bool hold = at_worst > budget_.cap() && shared_bytes_ > 0;
    if (!hold && at_worst > budget_.cap() / 4 * 3) return;
    for (const auto& [number, owner] : owners_) {
        if (!owner->forked || owner->gone) continue;
        if (!hold)
            pager_->release_copies(*owner);
        else if (!pager_->hold_copies(*owner))
            break;
    }
}

/// As Job: nothing can leave, so that somebody is let in above the cap.
void SimulatedJob::admit_the_stuck() {
    const auto since = pager_->stuck_since();
    const auto now = io::Clock::now();
    if (since == io::Clock::time_point::max() || now - since < std::chrono::milliseconds(50)) return;
    if (budget_.used() < budget_.soft_limit() && !pager_->is_full()) {
        budget_.lend();
        if (budget_.has_room(kPageSize)) return;
    }
    if (now - since < std::chrono::milliseconds(500)) return;
    for (int i = 0; i < 64 && pager_->admit_one_waiting_fault(); i++) {
    }
}

void SimulatedJob::disturb() {
    if (world->steps - disturbed_at_ < 100) return;  // who waits for a store must be able to get it
    disturbed_at_ = world->steps;
    for (SimulatedStore* store : simulated_) store->disturb();
    if (world->options.has(Feature::kChaos)) {
        std::mt19937_64 random(world->random.next());
        for (std::uint64_t strikes = world->random.below(4); strikes > 0; --strikes)
            pager_->evict_at_random(random);
    }
}

void SimulatedJob::poll() {
    const MayAllocate simulated("what stands for the job");
    ++polls_;
    if (world->steps >= world->options.steps) world->winding_down = true;
    hand_agents_over();
    const bool leaves = world->steps >= leave_at_;
    if (!stopped_by_ && leaves) step_departures();
    if (!stopped_by_ && !leaves) {
        for (std::size_t i = 0; i < world->processes.size(); ++i)
            if (world->processes[i]->alive) look_at(*world->processes[i]);
    }
    pager_->look_for_gone_children();
    pager_->expire_doubts();
    let_calls_go();
    measure();
    if (world->options.has(Feature::kHold)) hold_copies();
    if (budget_.used() >= budget_.engage_at() && !leaves) {
        for (const auto& [number, owner] : owners_) {
            if (owner->gone) continue;
            if (polls_ % 64 == 0) owner->target->forgive_refusals();
            const bool due = owner->target->registered().empty() || owner->target->refresh_due();
            if (due || world->random.once_in(4)) {
                (void)pager_->engage(*owner);
                expect_only_registered_evictable(*owner);
            }
        }
    }
    admit_the_stuck();
    give_up_if_crowded();
    disturb();
    if (world->steps - checked_at_ > 1000) check_counts();
    if (!leaves) check_ram();  // what comes back comes back, cap or not
    world->check_that_all_are_served();
    loop_->arm(poll_timer_, io::Clock::now() + std::min<std::chrono::nanoseconds>(
                                                   budget_.poll_period(), std::chrono::milliseconds(20)));
}

/// Each slot is counted once for every page that refers to it, and no other is in use.
void SimulatedJob::check_counts() {
    checked_at_ = world->steps;
    std::map<SlotId, std::uint32_t> references;
    for (const auto& process : pager_->processes()) {
        std::uint64_t far = 0;
        const auto count = [&](std::uint64_t, PageWord word) {
            far += word.is_far();
            if (word.has_slot()) ++references[word.value()];
        };
        process->pages->for_each(0, PageTable::kAddressEnd, count);
        for (const auto& [at, word] : process->displaced) count(at, word);
        for (const auto& moved : process->moved_away) ++references[moved.word.value()];
        for (const auto& [at, word] : process->removed) ++references[word.value()];
        for (const auto& left : process->left_behind) ++references[left.word.value()];
        if (far != process->far_pages)
            fail_run(fmt::format("process {} has {} pages outside, and counts {}", process->target->process(),
                                 far, process->far_pages));
    }
    for (const auto& [slot, count] : references) {
        if (area_->count(slot) != count)
            fail_run(fmt::format("slot {} is counted {} times, and {} pages refer to it", slot,
                                 area_->count(slot), count));
    }
    check_seals();
    if (!world->options.has(Feature::kLate) && area_->slots_used() < references.size())
        fail_run(fmt::format("{} slots are in use, and pages refer to {}", area_->slots_used(),
                             references.size()));
}

/// An heir seals under numbers of another epoch than whoever was before it (decision 0019).
void SimulatedJob::check_seals() {
    const std::uint32_t epoch = area_->seal_epoch();
    const std::uint32_t born = world->death.births();
    if (epoch == 0) return;  // nothing is sealed
    if (epoch < epoch_ || (born > born_ && epoch == epoch_))
        fail_run(
            fmt::format("the seals' epoch is {}, and was {} before the pager was killed", epoch, epoch_));
    born_ = born;
    epoch_ = epoch;
}

void SimulatedJob::check_the_end() {
    const auto end = io::Clock::now() + std::chrono::seconds(30);
    bool done = false;
    while (!done && io::Clock::now() < end) {
        loop_->run_once(std::chrono::milliseconds(100));
        pager_->pump();
        done = area_->slots_used() == 0;
    }
    if (area_->slots_used() != 0)
        fail_run(fmt::format("{} slots are in use, and all processes are gone", area_->slots_used()));
    loop_->cancel(poll_timer_);
    ready_.clear();  // for processes that have ended meanwhile
    pager_.reset();
    area_->shutdown(std::chrono::seconds(100));
    if (pool_->pinned_frames() != 0)
        fail_run(fmt::format("{} frames are pinned at the end", pool_->pinned_frames()));
    area_.reset();
    if (pool_->free_frames() != pool_->frames())
        fail_run(fmt::format("{} frames are not free at the end", pool_->frames() - pool_->free_frames()));
    loop_.reset();
    pool_.reset();
    if (world->files.open() != 0)
        fail_run(fmt::format("{} descriptors are open at the end", world->files.open()));
}

}  // namespace farswap::simulate
