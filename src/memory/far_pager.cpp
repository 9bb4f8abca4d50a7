#include "memory/far_pager.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "base/assert.h"
#include "base/log.h"
#include "store/open.h"
#include "target/uapi.h"
#include "target/uffd_source.h"

namespace farswap {
namespace {

constexpr std::uint64_t kWaitingMax = 4096;  // pages; faults beyond them stay unread
constexpr std::uint32_t kFetchesMax = 128;
constexpr std::uint64_t kSlotLooks = 1 << 16;         // in one round
constexpr std::uint32_t kStreakMax = 32;              // pages that come along with a fault in a run of them
constexpr std::size_t kMessages = 64;                 // read at once
constexpr std::size_t kLockedLeast = 256;             // frames
constexpr std::size_t kLockedBesidePool = 256 << 10;  // keys and half-made records
constexpr std::chrono::milliseconds kRetry{5};
constexpr std::chrono::seconds kShutdown{20};

Result<Fd> make_descriptor(int device) {
    constexpr int kFlags = O_CLOEXEC | O_NONBLOCK;
    const long made = device >= 0 ? ::ioctl(device, USERFAULTFD_IOC_NEW, kFlags)
                                  : ::syscall(SYS_userfaultfd, static_cast<long>(kFlags));
    if (made < 0) return fail_errno(errno, "cannot make a userfaultfd");
    return Fd(static_cast<int>(made));
}

}  // namespace

void end_process(const std::string& why) noexcept {
    log::write_last_line(why);
    std::abort();
}

FarPager::FarPager(const FarRange& range, std::uint64_t ram)
    : range_(range), ram_(ram), flags_(range.pages), slots_(range.pages) {}

Result<std::unique_ptr<FarPager>> FarPager::create(const FarRange& range, std::uint64_t ram,
                                                   std::uint64_t pool, const std::string& store) {
    std::unique_ptr<FarPager> pager(new FarPager(range, ram));
    if (!pager->flags_ || !pager->slots_) return fail(ENOMEM, "no memory to note {} pages in", range.pages);
    if (auto status = pager->open_range(); !status) return std::unexpected(status.error());
    if (auto status = pager->open_area(pool, store); !status) return std::unexpected(status.error());
    if (auto status = pager->check_room(); !status) return std::unexpected(status.error());
    return pager;
}

FarPager::~FarPager() {
    if (area_) area_->shutdown(kShutdown);
}

Status FarPager::open_range() {
    auto made = target::make_uffd(make_descriptor);
    if (!made) return std::unexpected(made.error());
    uffd_ = target::Uffd(std::move(made->fd));
    // No event: what changes the range is ours, and a child of fork(2) does not have it.
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_MOVE;
    if (::ioctl(uffd_.fd(), UFFDIO_API, &api) != 0)
        return fail_errno(errno, "the kernel's userfaultfd cannot move pages (Linux 6.8 can)");
    const auto start = reinterpret_cast<std::uintptr_t>(range_.base);
    if (const int error = uffd_.register_range(start, range_.mapped_bytes()))
        return fail_errno(error, "cannot register the memory");
    pagemap_ = Fd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    if (!pagemap_) return fail_errno(errno, "cannot open /proc/self/pagemap");
    return {};
}

Status FarPager::open_area(std::uint64_t pool, const std::string& url) {
    auto loop = io::Loop::create();
    if (!loop) return std::unexpected(loop.error());
    loop_ = std::move(*loop);
    // Who seals what goes to the store does not want it in the kernel's own swap in the clear, either.
    const auto count = static_cast<std::size_t>(pool / kPageSize);
    auto frames = Pool::create(
        {.frames = count, .locked_least = std::min(count, kLockedLeast), .lock_spare = kLockedBesidePool});
    if (!frames) return std::unexpected(frames.error());
    pool_ = std::move(*frames);
    // Without it requests are slower; the limit on locked memory decides.
    (void)loop_->register_memory(pool_->memory());

    const StoreOptions options{};
    auto store = url.empty() ? open_default_store(options, *loop_) : open_store(url, options, *loop_);
    if (!store) return std::unexpected(store.error());
    std::vector<std::unique_ptr<Store>> stores;
    stores.push_back(std::move(*store));
    auto area = SwapArea::create(*pool_, *loop_, std::move(stores), {.compression = Compression::kLz4});
    if (!area) return std::unexpected(area.error());
    area_ = std::move(*area);
    area_->frames_available = [this] {
        if (waiting_count_ > 0) loop_->arm(retry_, io::Clock::now());
    };
    area_->store_failed = [](const Error& error) { end_process(error.message); };

    waiting_.resize(kWaitingMax);
    zeros_.resize(kStreakMax * kPageSize);
    fetches_.resize(kFetchesMax);
    for (Fetch& fetch : fetches_) {
        fetch.pager = this;
        fetch.slot.owner = &fetch;
        fetch.slot.ready = [](SlotFetch& slot, const std::byte* data, int error) {
            auto& ready = *static_cast<Fetch*>(slot.owner);
            ready.pager->fetched(ready, data, error);
        };
        fetch.next_free = std::exchange(free_fetch_, &fetch);
    }
    watch_.fd = uffd_.fd();
    watch_.owner = this;
    watch_.ready = [](io::Watch& watch, std::uint32_t) {
        static_cast<FarPager*>(watch.owner)->read_faults();
    };
    loop_->add(watch_);
    retry_.owner = this;
    retry_.fire = [](io::Timer& timer) { static_cast<FarPager*>(timer.owner)->serve_waiting(); };
    return {};
}

void FarPager::run() {
    while (!stopping_.load(std::memory_order_acquire)) {
        loop_->run_once(std::chrono::nanoseconds::max());
        do_discards();
        give_up_slots(kSlotLooks);
        note_counters();
    }
    loop_->cancel(retry_);
    loop_->remove(watch_);
}

void FarPager::stop() noexcept {
    stopping_.store(true, std::memory_order_release);
    loop_->wake();
}

void FarPager::read_faults() {
    std::array<uffd_msg, kMessages> messages;
    if (kWaitingMax - waiting_count_ < kMessages) {
        // Whoever touches something now waits in the kernel; serve_waiting() has us look again.
        loop_->modify(watch_, 0);
        return;
    }
    const ssize_t bytes = ::read(uffd_.fd(), messages.data(), sizeof messages);
    if (bytes < 0) return;
    for (std::size_t i = 0; i < static_cast<std::size_t>(bytes) / sizeof(uffd_msg); i++) {
        if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
        const std::uint64_t at = messages[i].arg.pagefault.address;
        FARSWAP_ASSERT(at >= address(0) && at < address(0) + range_.mapped_bytes());
        const std::uint64_t page = (at - address(0)) / kPageSize;
        if (page >= range_.pages) {  // mlockall(2) waits for it; it goes again before the next MOVE
            staging_filled_ = true;
            copy_in(page, zeros_.data(), 1);
            continue;
        }
        counters_.faults.fetch_add(1, std::memory_order_relaxed);
        // Threads that wait for one page are woken together.
        if (has(page, kWaiting) || has(page, kFetching)) continue;
        if (!serve(page)) wait(page);
    }
}

void FarPager::wait(std::uint64_t page) {
    FARSWAP_ASSERT(waiting_count_ < kWaitingMax);
    waiting_[(waiting_first_ + waiting_count_++) % kWaitingMax] = page;
    flags_[page] |= kWaiting;
    if (!retry_.armed()) loop_->arm(retry_, io::Clock::now() + kRetry);
}

void FarPager::serve_waiting() {
    while (waiting_count_ > 0) {
        const std::uint64_t page = waiting_[waiting_first_];
        flags_[page] &= static_cast<std::uint8_t>(~kWaiting);
        if (!serve(page)) {
            flags_[page] |= kWaiting;
            if (!retry_.armed()) loop_->arm(retry_, io::Clock::now() + kRetry);
            return;
        }
        waiting_first_ = (waiting_first_ + 1) % kWaitingMax;
        waiting_count_--;
    }
    if (watch_.events == 0) loop_->modify(watch_, EPOLLIN);
}

/// How many pages may come along with the one that is touched: the more, the longer the run of faults.
std::uint32_t FarPager::note_streak(std::uint64_t page) {
    streak_ = page == expected_ ? std::min(streak_ * 2, kStreakMax) : 1;
    const auto width = static_cast<std::uint32_t>(std::min<std::uint64_t>(streak_, range_.pages - page));
    expected_ = page + width;
    return width;
}

/// Whether the page is here, or on its way. Else it has to be tried again.
bool FarPager::serve(std::uint64_t page) {
    if (has(page, kInside)) {
        refill(page);
        return true;
    }
    if (!make_room(1)) return false;
    const bool is_far = slot(page) != kNoSlot;
    if (is_far && free_fetch_ == nullptr && area_->lookup(slot(page)) == nullptr) return false;
    // It is not inside, so that making room leaves it alone.
    const std::uint32_t width = note_streak(page);
    if (!is_far) {
        fill_zeros(page, width);
        return true;
    }
    make_room(width);
    if (const std::byte* const data = area_->lookup(slot(page))) {
        resident_++;
        bring_in(page, data, area_->is_dirty(slot(page)));
        bring_along(page, width);
        return true;
    }
    fetch(page, width);
    return true;
}

/// Somebody was told of too late (the page has come along with another), or has given it up by madvise(2).
void FarPager::refill(std::uint64_t page) {
    if (slot(page) != kNoSlot) area_->put(slot(page));
    set_slot(page, kNoSlot);
    copy_in(page, zeros_.data(), 1);
}

void FarPager::fill_zeros(std::uint64_t page, std::uint32_t width) {
    std::uint32_t count = 1;
    while (count < width && slot(page + count) == kNoSlot && flags_[page + count] == 0) count++;
    if (count > 1 && !make_room(count)) count = 1;
    std::fill_n(&flags_[page], count, std::uint8_t{kInside});
    resident_ += count;
    copy_in(page, zeros_.data(), count);
}

void FarPager::fetch(std::uint64_t page, std::uint32_t width) {
    Fetch& fetch = *free_fetch_;
    free_fetch_ = fetch.next_free;
    fetch.page = page;
    fetch.width = width;
    fetch.slot.slot = slot(page);
    // What left one after the other has slots in that order.
    fetch.slot.window = {slot(page), width};
    flags_[page] |= kFetching;
    resident_++;
    area_->fetch(fetch.slot);
}

void FarPager::fetched(Fetch& fetch, const std::byte* data, int error) {
    const std::uint64_t page = fetch.page;
    const std::uint32_t width = fetch.width;
    fetch.next_free = std::exchange(free_fetch_, &fetch);
    const bool is_given_up = has(page, kGivenUp);
    flags_[page] &= static_cast<std::uint8_t>(~(kFetching | kGivenUp));
    if (error != 0 && stopping_.load(std::memory_order_acquire)) return;
    if (is_given_up) {
        area_->put(slot(page));
        set_slot(page, kNoSlot);
        flags_[page] = kInside;  // of resident_ already
        copy_in(page, zeros_.data(), 1);
        if (waiting_count_ > 0) serve_waiting();
        return;
    }
    if (error != 0) {
        const char* const text = strerrordesc_np(-error);
        end_process(
            fmt::format("the page at {:#x} cannot be brought back from {}: {}", address(page),
                        area_->describe(slot(page)),
                        error == -EILSEQ ? "the store has changed it" : (text != nullptr ? text : "error")));
    }
    bring_in(page, data, false);
    make_room(width - 1);
    bring_along(page, width);
    if (waiting_count_ > 0) serve_waiting();
}

/// The page is one of resident_ already.
void FarPager::bring_in(std::uint64_t page, const std::byte* data, bool is_hot) {
    copy_in(page, data, 1);
    far_--;
    flags_[page] = static_cast<std::uint8_t>(kInside | (is_hot ? kHot : 0));
    const SlotId was_at = slot(page);
    if (!is_hot && area_->worth_keeping(was_at)) {
        area_->note_back(was_at);
    } else {
        set_slot(page, kNoSlot);
        area_->put(was_at);
    }
}

/// What lies behind a page that was wanted and is in the cache, as far as there is room.
void FarPager::bring_along(std::uint64_t page, std::uint32_t width) {
    for (std::uint64_t next = page + 1; next < page + width; next++) {
        if (slot(next) == kNoSlot || flags_[next] != 0 || resident_ >= room_pages()) return;
        const std::byte* const data = area_->lookup(slot(next));
        if (data == nullptr) return;
        resident_++;
        bring_in(next, data, false);
    }
}

void FarPager::copy_in(std::uint64_t page, const std::byte* data, std::uint64_t count) {
    std::uint64_t at_once = count;
    for (std::uint64_t done = 0; done < count;) {
        const std::uint64_t left = std::min(count - done, at_once) * kPageSize;
        const auto result = uffd_.copy(address(page + done), data + done * kPageSize, left);
        done += result.bytes / kPageSize;
        if (result.error == 0) continue;
        if (result.error == EAGAIN) continue;  // the address space is being changed at this moment
        // Not all in one mapping: mlock(2) of a part divides them.
        if (result.error == ENOENT && left > kPageSize) {
            at_once = 1;
            continue;
        }
        // Present: it was touched between two faults of threads that are woken together.
        if (result.error != EEXIST)
            end_process(fmt::format("the page at {:#x} cannot be filled: {}", address(page + done),
                                    strerrordesc_np(result.error)));
        uffd_.wake(address(page + done), kPageSize);
        done++;
    }
}

void FarPager::note_counters() noexcept {
    const auto area = area_->counters();
    constexpr auto kOrder = std::memory_order_relaxed;
    counters_.far_pages.store(far_, kOrder);
    counters_.pages_out.store(area.pages_out, kOrder);
    counters_.pages_written.store(area.pages_written, kOrder);
    counters_.pages_in.store(area.pages_in, kOrder);
    // Above ram_ where more is inside than there is room for, so that it shows.
    const std::uint64_t ram = ram_ - room_pages() * kPageSize + resident_ * kPageSize;
    counters_.ram_bytes.store(ram, kOrder);
    counters_.ram_peak_bytes.store(std::max(ram, counters_.ram_peak_bytes.load(kOrder)), kOrder);
}

}  // namespace farswap
