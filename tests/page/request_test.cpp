// What validate() lets through and what it refuses.
#include "farswap/request.h"

#include <array>
#include <cerrno>

#include "page_fixture.h"

namespace farswap {
namespace {

class RequestTest : public PageTest {
  protected:
    static constexpr std::uint32_t kPages = 3;

    RequestTest() {
        const FrameRun run = pool->allocate_run(kPages);
        for (std::uint32_t i = 0; i < kPages; ++i) {
            read_pins[i] = pin(run.first + i, false);
            write_pins[i] = pin(run.first + i, true);
        }
        data = pool->address(run.first);
    }
    ~RequestTest() override {
        for (page* page : read_pins) put_page(page);
        for (page* page : write_pins) put_page(page);
    }
    Request request(std::uint32_t op, page** pages) {
        return {.op = op,
                .data = data,
                .length = kPages * static_cast<std::uint32_t>(kPageSize),
                .pages = pages,
                .page_count = kPages,
                .complete = [](Request&, int) {}};
    }

    std::array<page*, kPages> read_pins{}, write_pins{};
    std::byte* data = nullptr;
};

TEST_F(RequestTest, KernelDirectionsAreDirectionAndFlag) {
    EXPECT_EQ(KERNEL_READ, READ | REQ_KERNEL);
    EXPECT_EQ(KERNEL_WRITE, WRITE | REQ_KERNEL);
}

TEST_F(RequestTest, PinnedForItsDirectionIsAccepted) {
    EXPECT_EQ(validate(request(KERNEL_READ, write_pins.data())), 0);
    EXPECT_EQ(validate(request(KERNEL_WRITE, read_pins.data())), 0);
}

TEST_F(RequestTest, PinOfTheOtherDirectionIsRefusedWhileBothAreHeld) {
    EXPECT_EQ(validate(request(KERNEL_READ, read_pins.data())), -EINVAL);
    EXPECT_EQ(validate(request(KERNEL_WRITE, write_pins.data())), -EINVAL);
    std::array mixed = write_pins;
    mixed.back() = read_pins.back();
    EXPECT_EQ(validate(request(KERNEL_READ, mixed.data())), -EINVAL);
}

TEST_F(RequestTest, PageThatIsNotPinnedIsRefused) {
    std::array pages = write_pins;
    put_page(pages[1]);
    EXPECT_EQ(validate(request(KERNEL_READ, pages.data())), -EINVAL);
    write_pins[1] = pin(pool->frame_of(data + kPageSize), true);
    EXPECT_EQ(validate(request(KERNEL_READ, pages.data())), 0);
}

TEST_F(RequestTest, WhatIsNoPageIsRefused) {
    std::array pages = write_pins;
    pages[2] = nullptr;
    EXPECT_EQ(validate(request(KERNEL_READ, pages.data())), -EINVAL);
    pages[2] = reinterpret_cast<page*>(&pages);
    EXPECT_EQ(validate(request(KERNEL_READ, pages.data())), -EINVAL);
    EXPECT_EQ(validate(request(KERNEL_READ, nullptr)), -EINVAL);
}

TEST_F(RequestTest, PinsMustCoverTheMemoryInOrder) {
    std::array swapped = write_pins;
    std::swap(swapped[0], swapped[1]);
    EXPECT_EQ(validate(request(KERNEL_READ, swapped.data())), -EINVAL);

    Request shifted = request(KERNEL_READ, write_pins.data());
    shifted.data += 512;
    EXPECT_EQ(validate(shifted), -EINVAL);

    Request too_short = request(KERNEL_READ, write_pins.data());
    too_short.page_count = kPages - 1;
    EXPECT_EQ(validate(too_short), -EINVAL);

    Request part_of_a_page = request(KERNEL_READ, write_pins.data());
    part_of_a_page.length -= 512;
    EXPECT_EQ(validate(part_of_a_page), -EINVAL);

    // 2^20 pages are 2^32 bytes: must not pass as a length of zero.
    Request wrapped = request(KERNEL_READ, write_pins.data());
    wrapped.length = 0;
    wrapped.page_count = 1u << 20;
    EXPECT_EQ(validate(wrapped), -EINVAL);
}

TEST_F(RequestTest, WithoutTheFlagAnyMemoryServes) {
    std::byte buffer[512];
    Request plain = request(READ, nullptr);
    plain.data = buffer;
    plain.length = sizeof buffer;
    plain.page_count = 0;
    EXPECT_EQ(validate(plain), 0);
    plain.op = WRITE;
    EXPECT_EQ(validate(plain), 0);
}

TEST_F(RequestTest, IncompleteRequestsAreRefused) {
    Request no_length = request(READ, nullptr);
    no_length.length = 0;
    EXPECT_EQ(validate(no_length), -EINVAL);
    Request no_memory = request(WRITE, nullptr);
    no_memory.data = nullptr;
    EXPECT_EQ(validate(no_memory), -EINVAL);
    Request no_callback = request(READ, nullptr);
    no_callback.complete = nullptr;
    EXPECT_EQ(validate(no_callback), -EINVAL);
    EXPECT_EQ(validate(request(8, nullptr)), -EINVAL) << "unknown flag";
}

}  // namespace
}  // namespace farswap
