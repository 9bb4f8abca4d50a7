/** @file
 * The pinning calls: pages of a pool as the source or target of direct I/O.
 *
 * These are user-space successors of the calls that Linux had from 3.6 to 6.2 for swap over NFS
 * (mm/swap.c: get_kernel_pages, get_kernel_page). They take page-sized segments of a pool's own memory
 * and hold each page in place until it is put. All calls are lock-free, allocate nothing and may be made
 * from any thread. Usable from C and C++.
 */
#ifndef FARSWAP_KERNEL_PAGES_H
#define FARSWAP_KERNEL_PAGES_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One page. A pin for reading and one for writing of the same page are different, stable addresses, so that
 * put_page() knows which of the two counts it lowers. Never dereferenced by callers. */
struct page;

/** A segment of memory: exactly one page of a pool where get_kernel_pages() takes it. */
struct kvec {
    void* iov_base; /**< its first byte */
    size_t iov_len; /**< bytes */
};

/** Pins the pages of `nr_segs` segments, in order.
 *
 * @param kiov     `nr_segs` segments; each starts at a page of a pool and is one page long. The caller holds
 * a reference to every frame across the call.
 * @param nr_segs  how many
 * @param write    non-zero when the I/O will store into the pages (a read from the store).
 * @param pages    room for `nr_segs` pointers; the first `return value` of them are filled.
 *
 * @return how many pages are now pinned; the first segment that cannot be pinned ends the call, those before
 * it stay pinned. 0 for nr_segs <= 0, touching nothing. When nothing could be pinned: -EINVAL for a segment
 * that is not one page long (the first one in a process is warned of, with its index and length), -EFAULT for
 * an address that is not a page of a pool, or is one whose count (owner's reference and pins) is zero. */
int get_kernel_pages(const struct kvec* kiov, int nr_segs, int write, struct page** pages);

/** The same for the one page at `start`: 1, or a negative errno. */
int get_kernel_page(unsigned long start, int write, struct page** pages);

/** Releases one pin. A page pinned for writing is marked dirty. Each page returned by the calls above is put
 * exactly once; one too many is a broken invariant and aborts. */
void put_page(struct page* page);

/** The address of the page's memory (page-aligned). */
void* page_address(const struct page* page);

/** Whether I/O has stored into the page since its frame was allocated. */
int page_dirty(const struct page* page);

/** A pool of page frames. */
struct farswap_pool;

#define FARSWAP_POOL_LOCKED 1u     /**< lock the memory (mlock2); fails with EPERM/ENOMEM when it cannot be */
#define FARSWAP_POOL_HUGE_PAGES 2u /**< ask for huge pages; serves with small ones where there are none */

/** Creates a pool of `frames` pages. NULL and errno on failure. Not on a hot path. */
struct farswap_pool* farswap_pool_create(size_t frames, unsigned flags);
/** Destroys it. Returns how many pins were still held (each is reported): 0 is the only clean answer; the
 * memory is kept while there are any. */
size_t farswap_pool_destroy(struct farswap_pool* pool);
/** Takes a frame (one page, owner's reference held), or NULL when none is free. Any thread. */
void* farswap_pool_alloc(struct farswap_pool* pool);
/** Drops the owner's reference; the frame is reused when its last pin has been put. Any thread. */
void farswap_pool_free(struct farswap_pool* pool, void* frame);

#ifdef __cplusplus
}
#endif
#endif
