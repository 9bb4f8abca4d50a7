/* The pinning calls from C11: the clauses of their contract that a C caller meets. Knows the public header
 * only. */
#include <errno.h>
#include <farswap/kernel_pages.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, FRAMES = 4 };

static int failures;

#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            ++failures;                                                     \
        }                                                                   \
    } while (0)

static void creation_reports_errors(void) {
    errno = 0;
    CHECK(farswap_pool_create(0, 0) == NULL && errno == EINVAL);
    errno = 0;
    CHECK(farswap_pool_create(1, 1u << 31) == NULL && errno == EINVAL);
    CHECK(farswap_pool_destroy(NULL) == 0);
}

static void frames_are_taken_and_reused(void) {
    struct farswap_pool* pool = farswap_pool_create(FRAMES, FARSWAP_POOL_HUGE_PAGES);
    void* frames[FRAMES];
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
    struct farswap_pool* pool = farswap_pool_create(FRAMES, 0);
    struct kvec segments[FRAMES];
    struct page* pages[FRAMES];
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
    CHECK(get_kernel_pages(NULL, INT_MIN, 1, NULL) == 0);
    CHECK(farswap_pool_destroy(pool) == 0);
}

static void single_call_is_the_vector_call_with_one_segment(void) {
    struct farswap_pool* pool = farswap_pool_create(FRAMES, 0);
    const struct kvec segment = {farswap_pool_alloc(pool), PAGE};
    struct page *by_vector, *by_address;
    for (int write = 0; write < 2; ++write) {
        CHECK(get_kernel_pages(&segment, 1, write, &by_vector) == 1);
        CHECK(get_kernel_page((unsigned long)(uintptr_t)segment.iov_base, write, &by_address) == 1);
        CHECK(by_vector == by_address);
        put_page(by_vector);
        CHECK(page_dirty(by_address) == write);
        put_page(by_address);
    }
    CHECK(farswap_pool_destroy(pool) == 0);
}

static void bad_segments_end_the_call(void) {
    struct farswap_pool* pool = farswap_pool_create(FRAMES, 0);
    char* frame = farswap_pool_alloc(pool);
    const struct kvec short_second[] = {{frame, PAGE}, {frame, PAGE - 1}};
    const struct kvec foreign_second[] = {{frame, PAGE}, {&failures, PAGE}};
    struct page* const untouched = (struct page*)8;
    struct page* pages[2] = {NULL, untouched};
    CHECK(get_kernel_pages(short_second, 2, 0, pages) == 1 && pages[1] == untouched);
    put_page(pages[0]);
    CHECK(get_kernel_pages(foreign_second, 2, 0, pages) == 1 && pages[1] == untouched);
    put_page(pages[0]);
    pages[0] = untouched;
    CHECK(get_kernel_pages(short_second + 1, 1, 0, pages) == -EINVAL);
    CHECK(get_kernel_pages(foreign_second + 1, 1, 0, pages) == -EFAULT);
    CHECK(get_kernel_page((unsigned long)(uintptr_t)(frame + 1), 0, pages) == -EFAULT);
    farswap_pool_free(pool, frame);
    CHECK(get_kernel_page((unsigned long)(uintptr_t)frame, 0, pages) == -EFAULT);
    CHECK(pages[0] == untouched);
    CHECK(farswap_pool_destroy(pool) == 0);
}

static void pin_outlives_the_owner_and_the_pool(void) {
    struct farswap_pool* pool = farswap_pool_create(1, 0);
    void* frame = farswap_pool_alloc(pool);
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

enum { ROUNDS = 20000 };

/* Pins one frame for reading and for writing, over and over. Returns NULL when all went well. */
static void* pin_and_put(void* frame) {
    const struct kvec segments[] = {{frame, PAGE}, {frame, PAGE}};
    for (int round = 0; round < ROUNDS; ++round) {
        struct page* pages[2];
        if (get_kernel_pages(segments, 2, round & 1, pages) != 2) return frame;
        put_page(pages[1]);
        put_page(pages[0]);
    }
    return NULL;
}

static void any_thread_may_pin_and_put(void) {
    struct farswap_pool* pool = farswap_pool_create(1, 0);
    void *frame = farswap_pool_alloc(pool), *wrong = frame;
    pthread_t other;
    CHECK(pthread_create(&other, NULL, pin_and_put, frame) == 0);
    CHECK(pin_and_put(frame) == NULL);
    CHECK(pthread_join(other, &wrong) == 0 && wrong == NULL);
    farswap_pool_free(pool, frame);
    CHECK(farswap_pool_destroy(pool) == 0);
}

/* Runs `program` in a process of its own, of which it gives the wait status and the first bytes of standard
 * error. */
static int run_apart(void (*program)(void), char* text, size_t size) {
    int ends[2], status = -1;
    size_t have = 0;
    ssize_t got;
    pid_t child;
    CHECK(pipe(ends) == 0);
    child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        program();
        _exit(0);
    }
    close(ends[1]);
    while (have < size - 1 && (got = read(ends[0], text + have, size - 1 - have)) > 0) have += (size_t)got;
    text[have] = '\0';
    close(ends[0]);
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static void give_a_wrong_length_twice(void) {
    struct farswap_pool* pool = farswap_pool_create(1, 0);
    char* frame = farswap_pool_alloc(pool);
    const struct kvec segments[] = {{frame, PAGE}, {frame, 1234}};
    struct page* pages[2];
    if (get_kernel_pages(segments, 2, 0, pages) != 1) _exit(1);
    if (get_kernel_pages(segments, 2, 0, pages) != 1) _exit(1);
}

static void wrong_length_is_warned_of_once(void) {
    char text[512];
    const char* warning;
    CHECK(run_apart(give_a_wrong_length_twice, text, sizeof text) == 0);
    warning = strstr(text, "segment 1 is 1234 bytes long");
    CHECK(warning != NULL && strstr(warning + 1, "segment 1") == NULL);
}

static void leave_a_pin(void) {
    struct farswap_pool* pool = farswap_pool_create(2, 0);
    struct page* pin;
    farswap_pool_alloc(pool);
    if (get_kernel_page((unsigned long)(uintptr_t)farswap_pool_alloc(pool), 1, &pin) != 1) _exit(1);
    if (farswap_pool_destroy(pool) != 1) _exit(1);
}

static void pin_left_is_reported_with_its_frame(void) {
    char text[512];
    CHECK(run_apart(leave_a_pin, text, sizeof text) == 0);
    CHECK(strstr(text, "frame 1 still pinned (0 for reading, 1 for writing)") != NULL);
}

static void put_once_too_often(void) {
    struct farswap_pool* pool = farswap_pool_create(1, 0);
    struct page* pin;
    if (get_kernel_page((unsigned long)(uintptr_t)farswap_pool_alloc(pool), 0, &pin) != 1) _exit(1);
    put_page(pin);
    put_page(pin);
}

static void one_put_too_many_aborts(void) {
    char text[512];
    const int status = run_apart(put_once_too_often, text, sizeof text);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK(strstr(text, "invariant broken") != NULL);
}

int main(void) {
    wrong_length_is_warned_of_once(); /* before the others, which use up the one warning of a process */
    creation_reports_errors();
    frames_are_taken_and_reused();
    vector_call_pins_in_order();
    single_call_is_the_vector_call_with_one_segment();
    bad_segments_end_the_call();
    pin_outlives_the_owner_and_the_pool();
    any_thread_may_pin_and_put();
    pin_left_is_reported_with_its_frame();
    one_put_too_many_aborts();
    return failures != 0;
}
