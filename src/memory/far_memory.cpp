// FarMemory: a range, the thread that pages it, and who has which part of it.
#include "farswap/far_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <csignal>
#include <future>
#include <mutex>
#include <new>
#include <thread>

#include "base/log.h"
#include "memory/far_pager.h"
#include "memory/range_allocator.h"

namespace farswap {
namespace {

constexpr std::uint64_t kPoolLeast = 4 << 20;
constexpr std::uint64_t kPoolMost = 256 << 20;
constexpr std::uint64_t kSizeMax = std::uint64_t{2} << 40;  // what a store may hold

std::uint64_t pages_of(std::uint64_t bytes) {
    return (bytes + kPageSize - 1) / kPageSize;
}

Result<FarRange> map_range(std::uint64_t size) {
    FarRange range{nullptr, pages_of(size)};
    void* const memory = ::mmap(nullptr, range.mapped_bytes(), PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return fail_errno(errno, "no room for {} MiB of addresses (with vm.overcommit_memory=2 they count)",
                          range.mapped_bytes() >> 20);
    range.base = static_cast<std::byte*>(memory);
    // A child would find zeros where pages are outside. And pages leave one by one.
    if (::madvise(memory, range.mapped_bytes(), MADV_DONTFORK) != 0) {
        const int error = errno;
        ::munmap(memory, range.mapped_bytes());
        return fail_errno(error, "cannot keep the memory from children");
    }
    ::madvise(memory, range.mapped_bytes(), MADV_NOHUGEPAGE);  // EINVAL where there are none
    return range;
}

Status check(const FarMemoryOptions& options) {
    if (options.size == 0 || options.size > kSizeMax)
        return fail(EINVAL, "a size of {} bytes: it must be above 0, and 2 TiB at the most", options.size);
    if (options.pool != 0 && options.pool < kPoolLeast)
        return fail(EINVAL, "a pool of {} bytes: 4 MiB are the least", options.pool);
    if (options.ram < kPoolLeast) return fail(EINVAL, "{} bytes of RAM are too little", options.ram);
    return {};
}

}  // namespace

struct FarMemory::State {
    log::Aside aside;  // who writes to standard error from this memory waits for our thread
    FarRange range;
    std::mutex mutex;  // of the allocator
    RangeAllocator allocator;
    FarPager* pager = nullptr;  // lives on the thread's stack
    std::thread thread;

    const pid_t owner = ::getpid();  ///< a child of fork(2) has this object, and neither memory nor thread

    explicit State(const FarRange& mapped) : range(mapped), allocator(mapped.pages) {}
    ~State() {
        if (thread.joinable()) {
            if (pager != nullptr) pager->stop();
            thread.join();
        }
        ::munmap(range.base, range.mapped_bytes());
    }
    bool is_ours() const noexcept { return ::getpid() == owner; }
    Status start(const FarMemoryOptions& options);
    void page(const FarMemoryOptions& options, std::promise<Status>& ready);
};

/// The thread: everything of the pager is made, used and ended by it.
void FarMemory::State::page(const FarMemoryOptions& options, std::promise<Status>& ready) {
    const std::uint64_t pool =
        options.pool != 0 ? options.pool : std::clamp(options.ram / 16, kPoolLeast, kPoolMost);
    auto made = [&]() -> Result<std::unique_ptr<FarPager>> {
        try {
            return FarPager::create(range, options.ram, pool, options.store);
        } catch (const std::exception& failure) {  // no memory; nobody catches it in a thread
            return fail(ENOMEM, "{}", failure.what());
        }
    }();
    if (!made) {
        ready.set_value(std::unexpected(made.error()));
        return;
    }
    pager = made->get();
    ready.set_value({});
    pager->run();
}

Status FarMemory::State::start(const FarMemoryOptions& options) {
    std::promise<Status> ready;
    auto outcome = ready.get_future();
    // A handler of the program's could touch the memory that this thread has to bring.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        thread = std::thread([&] { page(options, ready); });
    } catch (...) {
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::pthread_setname_np(thread.native_handle(), "farswap");
    return outcome.get();
}

std::unique_ptr<FarMemory> FarMemory::create(const FarMemoryOptions& options, std::string& message) {
    const auto refuse = [&message](const Error& error) {
        message = error.message;
        errno = error.code;
        return nullptr;
    };
    if (log::level() > log::Level::kWarning) log::set_level(log::Level::kWarning);
    try {
        if (auto status = check(options); !status) return refuse(status.error());
        auto range = map_range(options.size);
        if (!range) return refuse(range.error());
        auto state = std::make_unique<State>(*range);
        if (auto status = state->start(options); !status) {
            state.reset();
            return refuse(status.error());
        }
        return std::unique_ptr<FarMemory>(new FarMemory(std::move(state)));
    } catch (const std::exception& failure) {  // no memory, no thread
        return refuse({ENOMEM, failure.what()});
    }
}

FarMemory::FarMemory(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}

FarMemory::~FarMemory() {
    // There is no such thread to be joined, and the addresses may be somebody else's by now.
    if (!state_->is_ours()) static_cast<void>(state_.release());
}

FarMemory::Counters FarMemory::counters() const noexcept {
    const auto& now = state_->pager->counters();
    return {.ram_bytes = now.ram_bytes,
            .ram_peak_bytes = now.ram_peak_bytes,
            .far_bytes = now.far_pages * kPageSize,
            .faults = now.faults,
            .pages_out = now.pages_out,
            .pages_written = now.pages_written,
            .pages_in = now.pages_in};
}

void* FarMemory::do_allocate(std::size_t bytes, std::size_t alignment) {
    const std::uint64_t pages = std::max<std::uint64_t>(pages_of(bytes), 1);
    if (bytes > state_->range.pages * kPageSize || alignment > kPageSize || !state_->is_ours())
        throw std::bad_alloc();
    const std::lock_guard lock(state_->mutex);
    const auto first = state_->allocator.take(pages);
    if (!first) throw std::bad_alloc();
    return state_->range.base + *first * kPageSize;
}

void FarMemory::do_deallocate(void* memory, std::size_t bytes, std::size_t /*alignment*/) {
    if (!state_->is_ours()) return;
    const std::uint64_t pages = std::max<std::uint64_t>(pages_of(bytes), 1);
    const auto first =
        static_cast<std::uint64_t>(static_cast<std::byte*>(memory) - state_->range.base) / kPageSize;
    state_->pager->discard(first, pages);
    const std::lock_guard lock(state_->mutex);
    state_->allocator.give_back(first, pages);
}

bool FarMemory::do_is_equal(const std::pmr::memory_resource& other) const noexcept {
    return this == &other;
}

}  // namespace farswap
