// See no_store.h.
#include "store/no_store.h"

#include "base/assert.h"

namespace farswap {
namespace {

class NoStore final : public Store {
  public:
    explicit NoStore(std::uint64_t capacity) : capacity_(capacity) {}

    const std::string& name() const noexcept override { return name_; }
    std::uint64_t capacity() const noexcept override { return capacity_; }
    std::uint64_t reserved() const noexcept override { return capacity_; }
    std::uint32_t alignment() const noexcept override { return 1; }
    std::uint32_t transfer_max() const noexcept override { return kPageSize; }

    void submit(Request&) noexcept override { FARSWAP_ASSERT(!"a page for no store"); }
    void flush(FlushRequest&) noexcept override { FARSWAP_ASSERT(!"a flush for no store"); }
    void reserve(ReserveRequest&) noexcept override { FARSWAP_ASSERT(!"space of no store"); }
    void cancel(Request&) noexcept override {}
    void close() noexcept override {}
    Counters counters() const noexcept override { return {}; }

  private:
    const std::string name_ = "none";
    const std::uint64_t capacity_;
};

}  // namespace

std::unique_ptr<Store> make_no_store(std::uint64_t capacity) {
    return std::make_unique<NoStore>(capacity);
}

}  // namespace farswap
