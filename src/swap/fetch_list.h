// A queue of fetches that wait for something, linked through themselves. Knows nothing of slots or I/O.
#pragma once

#include "base/assert.h"
#include "swap/swap_area.h"

namespace farswap {

/// First in, first out. A fetch is on at most one list and knows it, so that it can be cancelled wherever it
/// is. Never moved while anything is on it.
struct FetchList {
    SlotFetch* head = nullptr;
    SlotFetch* tail = nullptr;

    bool empty() const noexcept { return head == nullptr; }

    void push_back(SlotFetch& fetch) noexcept {
        FARSWAP_ASSERT(fetch.list == nullptr);
        fetch.list = this;
        fetch.next = nullptr;
        fetch.prev = tail;
        (tail ? tail->next : head) = &fetch;
        tail = &fetch;
    }

    void remove(SlotFetch& fetch) noexcept {
        FARSWAP_ASSERT(fetch.list == this);
        (fetch.prev ? fetch.prev->next : head) = fetch.next;
        (fetch.next ? fetch.next->prev : tail) = fetch.prev;
        fetch.list = nullptr;
        fetch.next = fetch.prev = nullptr;
    }

    /// Null when there is none.
    SlotFetch* pop_front() noexcept {
        SlotFetch* fetch = head;
        if (fetch) remove(*fetch);
        return fetch;
    }
};

}  // namespace farswap
