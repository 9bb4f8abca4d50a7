/* The pinning calls from C11: the clauses of their contract that a C caller meets. Knows the public header only. */
#include <errno.h>
#include <farswap/kernel_pages.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { PAGE = 4096, FRAMES = 4 };

static int failures;

#define CHECK(condition)                                                     \
    do {                                                                     \
        if (!(condition)) {                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            ++failures;                                                      \
        }                                                                    \
    } while (0)

static void creation_reports_errors(void) {
    errno = 0;
    CHECK(farswap_pool_create(0, 0) == NULL && errno == EINVAL);
    errno = 0;
    CHECK(farswap_pool_create(1, 1u << 31) == NULL && errno == EINVAL);
    CHECK(farswap_pool_destroy(NULL) == 0);
}

static void frames_are_taken_and_reused(void) {
    struct farswap_pool *pool = farswap_pool_create(FRAMES, FARSWAP_POOL_HUGE_PAGES);
    void *frames[FRAMES];
    CHECK(pool != NULL);
    for (int i = 0; i < FRAMES; ++i) {
        frames[i] = farswap_pool_alloc(pool);
        CHECK(frames[i] != NULL && (uintptr_t)frames[i] % PAGE == 0);
        memset(frames[i], i, PAGE);
    }
    CHECK(farswap_pool_alloc(pool) == NULL);
    farswap_pool_free(pool, frames[2]);
    CHECK(farswap_pool_alloc(pool) == frames[2]);
    CHECK(farswap_pool_destroy(pool) == 0);
}

static void vector_call_pins_in_order(void) {
    struct farswap_pool *pool = farswap_pool_create(FRAMES, 0);
    struct kvec segments[FRAMES];
    struct page *pages[FRAMES];
    for (int i = 0; i < FRAMES; ++i) segments[i] = (struct kvec){farswap_pool_alloc(pool), PAGE};
    CHECK(get_kernel_pages(segments, FRAMES, 1, pages) == FRAMES);
    for (int i = 0; i < FRAMES; ++i) {
        CHECK(page_address(pages[i]) == segments[i].iov_base);
        CHECK(!page_dirty(pages[i]));
        put_page(pages[i]);
        CHECK(page_dirty(pages[i]));
    }
    CHECK(get_kernel_pages(NULL, 0, 0, NULL) == 0);
    CHECK(get_kernel_pages(NULL, -3, 0, NULL) == 0);
    CHECK(farswap_pool_destroy(pool) == 0);
}

static void bad_segments_end_the_call(void) {
    struct farswap_pool *pool = farswap_pool_create(FRAMES, 0);
    char *frame = farswap_pool_alloc(pool);
    const struct kvec short_second[] = {{frame, PAGE}, {frame, PAGE - 1}};
    const struct kvec foreign_second[] = {{frame, PAGE}, {&failures, PAGE}};
    struct page *pages[2];
    CHECK(get_kernel_pages(short_second, 2, 0, pages) == 1);
    put_page(pages[0]);
    CHECK(get_kernel_pages(foreign_second, 2, 0, pages) == 1);
    put_page(pages[0]);
    CHECK(get_kernel_pages(short_second + 1, 1, 0, pages) == -EINVAL);
    CHECK(get_kernel_pages(foreign_second + 1, 1, 0, pages) == -EFAULT);
    CHECK(get_kernel_page((unsigned long)(uintptr_t)(frame + 1), 0, pages) == -EFAULT);
    farswap_pool_free(pool, frame);
    CHECK(get_kernel_page((unsigned long)(uintptr_t)frame, 0, pages) == -EFAULT);
    CHECK(farswap_pool_destroy(pool) == 0);
}

static void pin_outlives_the_owner_and_the_pool(void) {
    struct farswap_pool *pool = farswap_pool_create(1, 0);
    void *frame = farswap_pool_alloc(pool);
    struct page *reading, *writing;
    CHECK(get_kernel_page((unsigned long)(uintptr_t)frame, 0, &reading) == 1);
    CHECK(get_kernel_page((unsigned long)(uintptr_t)frame, 1, &writing) == 1);
    CHECK(reading != writing);
    farswap_pool_free(pool, frame);
    CHECK(farswap_pool_alloc(pool) == NULL);
    put_page(reading);
    CHECK(farswap_pool_alloc(pool) == NULL);
    CHECK(farswap_pool_destroy(pool) == 1);
    memset(page_address(writing), 1, PAGE);
    put_page(writing);
}

int main(void) {
    creation_reports_errors();
    frames_are_taken_and_reused();
    vector_call_pins_in_order();
    bad_segments_end_the_call();
    pin_outlives_the_owner_and_the_pool();
    return failures != 0;
}
