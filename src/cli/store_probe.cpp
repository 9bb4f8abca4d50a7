// Tries a store; see store_probe.h.
#include "cli/store_probe.h"

#include <array>
#include <cstring>
#include <functional>

#include "cli/job_name.h"
#include "store/open.h"

namespace farswap::cli {

namespace {

constexpr std::chrono::seconds kTimeout{10};

/// Where a callback leaves its result for the caller that runs the loop.
struct Answer {
    bool arrived = false;
    int result = 0;

    template <typename Operation>
    static void take(Operation& operation, int result) {
        *static_cast<Answer*>(operation.owner) = {true, result};
    }
};

/// Starts an operation and runs the loop until its answer has arrived: milliseconds, or what went wrong. The
/// store ends it by its deadline.
Result<double> timed(io::Loop& loop, const char* what, const Answer& answer,
                     const std::function<void()>& start) {
    const auto begin = io::Clock::now();
    start();
    while (!answer.arrived) loop.run_once(std::chrono::milliseconds(100));
    if (answer.result < 0) return fail_errno(-answer.result, "{}", what);
    return std::chrono::duration<double, std::milli>(io::Clock::now() - begin).count();
}

Result<double> reserve(Store& store, io::Loop& loop) {
    if (store.reserved() >= kPageSize) return 0.0;
    Answer answer;
    ReserveRequest request{.bytes = kPageSize, .complete = Answer::take<ReserveRequest>, .owner = &answer};
    return timed(loop, "cannot reserve space", answer, [&] { store.reserve(request); });
}

Result<double> transfer(Store& store, io::Loop& loop, std::uint32_t operation, std::byte* data) {
    Answer answer;
    Request request{.op = operation,
                    .data = data,
                    .length = kPageSize,
                    .timeout = kTimeout,
                    .complete = Answer::take<Request>,
                    .owner = &answer};
    return timed(loop, operation == WRITE ? "cannot write" : "cannot read", answer,
                 [&] { store.submit(request); });
}

Result<double> flush(Store& store, io::Loop& loop) {
    Answer answer;
    FlushRequest request{.timeout = kTimeout, .complete = Answer::take<FlushRequest>, .owner = &answer};
    return timed(loop, "cannot flush", answer, [&] { store.flush(request); });
}

struct alignas(kPageSize) PageBuffer {
    std::array<std::byte, kPageSize> bytes;
};

Status exercise(Store& store, io::Loop& loop, StoreProbe& probe) {
    PageBuffer out, in;
    for (std::size_t i = 0; i < kPageSize; ++i) out.bytes[i] = static_cast<std::byte>(i * 7 + i / 256);
    if (auto reserved = reserve(store, loop); !reserved) return std::unexpected(reserved.error());
    const auto written = transfer(store, loop, WRITE, out.bytes.data());
    if (!written) return std::unexpected(written.error());
    const auto flushed = flush(store, loop);
    if (!flushed) return std::unexpected(flushed.error());
    const auto read = transfer(store, loop, READ, in.bytes.data());
    if (!read) return std::unexpected(read.error());
    if (in.bytes != out.bytes) return fail(EILSEQ, "gives other bytes than were written: do not use it");
    probe.write_ms = *written;
    probe.flush_ms = *flushed;
    probe.read_ms = *read;
    return {};
}

}  // namespace

Result<StoreProbe> probe_store(const std::string& url, io::Loop& loop) {
    auto opened = open_store(url, {.job = make_job_name()}, loop);
    if (!opened) return std::unexpected(opened.error());
    Store& store = **opened;
    StoreProbe probe{.name = store.name(), .capacity = store.capacity()};
    const auto exercised = exercise(store, loop, probe);
    store.close();
    if (!exercised) return fail(exercised.error().code, "{}: {}", probe.name, exercised.error().message);
    return probe;
}

}  // namespace farswap::cli
