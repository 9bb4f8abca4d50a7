// Tries a store: one write, one flush, one read of a page, timed. Knows nothing of jobs.
#pragma once

#include <string>

#include "base/result.h"
#include "farswap/store.h"
#include "io/loop.h"

namespace farswap::cli {

struct StoreProbe {
    std::string name;
    std::uint64_t capacity = 0;  ///< bytes
    double write_ms = 0, flush_ms = 0, read_ms = 0;
};

/// Opens the store at `url`, writes a page, flushes, reads it back, compares, and closes the store. EILSEQ
/// when it gives other bytes than were written; ETIMEDOUT after ten seconds without an answer.
Result<StoreProbe> probe_store(const std::string& url, io::Loop& loop);

}  // namespace farswap::cli
