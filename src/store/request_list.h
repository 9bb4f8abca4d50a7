// A first-in first-out list of requests through their `next`. Knows nothing of what they ask for.
#pragma once

#include <utility>

namespace farswap {

template <typename T>
struct RequestList {
    T* head = nullptr;
    T* tail = nullptr;

    void push(T& item) noexcept {
        item.next = nullptr;
        (head == nullptr ? head : tail->next) = &item;
        tail = &item;
    }
    /// The oldest, or null.
    T* pop() noexcept {
        T* const item = head;
        if (item != nullptr) head = item->next;
        return item;
    }
    /// Moves what `wanted` says to the end of `to`.
    template <typename Wanted>
    void move_if(RequestList& to, Wanted wanted) noexcept {
        RequestList kept;
        while (T* item = pop()) (wanted(*item) ? to : kept).push(*item);
        *this = kept;
    }
    RequestList take() noexcept { return std::exchange(*this, {}); }
};

}  // namespace farswap
