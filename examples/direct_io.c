/* Direct I/O from pinned pages, in C: the pages of a pool are written to a file by io_uring with O_DIRECT
 * while their owner has long let go of them, and are read back into others.
 *
 * Why pin: between the submission of an asynchronous write and its completion the memory must stay what and
 * where it is. Usually the owner has to remember that and keep his hands off. Here a pin does:
 * farswap_pool_free() is allowed at once, and the frame is not handed out again before put_page().
 *
 * cc direct_io.c $(pkg-config --cflags --libs farswap liburing)          ./a.out [FILE]
 * Ends with 0 when all bytes are right, 77 where io_uring or O_DIRECT is refused. */
#define _GNU_SOURCE
#include <errno.h>
#include <farswap/kernel_pages.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 16, SKIPPED = 77 };

static void must(int ok, const char* what) {
    if (ok) return;
    perror(what);
    exit(EXIT_FAILURE);
}

/* Takes PAGES frames of the pool and pins them. `write`: whether the I/O will store into them. */
static void take_pinned(struct farswap_pool* pool, int write, struct kvec segments[PAGES],
                        struct page* pins[PAGES]) {
    for (int i = 0; i < PAGES; ++i) {
        segments[i].iov_base = farswap_pool_alloc(pool);
        segments[i].iov_len = PAGE;
        must(segments[i].iov_base != NULL, "farswap_pool_alloc");
    }
    /* All or the first few: those that were pinned are ours to put. */
    must(get_kernel_pages(segments, PAGES, write, pins) == PAGES, "get_kernel_pages");
}

static void give_up_frames(struct farswap_pool* pool, struct kvec segments[PAGES]) {
    for (int i = 0; i < PAGES; ++i) farswap_pool_free(pool, segments[i].iov_base);
}

static void submit(struct io_uring* ring, int fd, int write, struct page* pins[PAGES]) {
    for (int i = 0; i < PAGES; ++i) {
        struct io_uring_sqe* entry = io_uring_get_sqe(ring);
        must(entry != NULL, "io_uring_get_sqe");
        const __u64 offset = (__u64)i * PAGE;
        /* The pin is all that the I/O needs to know: it names the page. */
        if (write)
            io_uring_prep_read(entry, fd, page_address(pins[i]), PAGE, offset);
        else
            io_uring_prep_write(entry, fd, page_address(pins[i]), PAGE, offset);
        io_uring_sqe_set_data(entry, pins[i]);
    }
    must(io_uring_submit(ring) == PAGES, "io_uring_submit");
}

/* Waits for all of them. The pin goes when the I/O on its page has ended, and with it, if the owner has let
 * go, the frame. */
static void complete(struct io_uring* ring, int put) {
    for (int i = 0; i < PAGES; ++i) {
        struct io_uring_cqe* done;
        must(io_uring_wait_cqe(ring, &done) == 0, "io_uring_wait_cqe");
        errno = done->res < 0 ? -done->res : 0;
        must(done->res == PAGE, "direct I/O");
        if (put) put_page(io_uring_cqe_get_data(done));
        io_uring_cqe_seen(ring, done);
    }
}

int main(int argc, char** argv) {
    const char* path = argc > 1 ? argv[1] : "direct_io.example";
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EINVAL) return SKIPPED; /* a file system without direct I/O */
    must(fd >= 0, path);
    unlink(path);
    struct io_uring ring;
    if (io_uring_queue_init(PAGES, &ring, 0) != 0) return SKIPPED;

    /* Room for what is being written and nothing more: reading below has to get the same frames. */
    struct farswap_pool* pool = farswap_pool_create(PAGES, 0);
    must(pool != NULL, "farswap_pool_create");
    struct kvec segments[PAGES];
    struct page* pins[PAGES];

    take_pinned(pool, 0, segments, pins);
    for (int i = 0; i < PAGES; ++i) memset(segments[i].iov_base, 'a' + i, PAGE);
    submit(&ring, fd, 0, pins);
    give_up_frames(pool, segments);
    /* Nobody owns the frames any more, and yet none is free while its write may be under way. */
    must(farswap_pool_alloc(pool) == NULL, "a pinned frame was handed out");
    complete(&ring, 1);

    take_pinned(pool, 1, segments, pins);
    submit(&ring, fd, 1, pins);
    complete(&ring, 0);
    for (int i = 0; i < PAGES; ++i) {
        const char* bytes = segments[i].iov_base;
        for (int at = 0; at < PAGE; ++at) must(bytes[at] == 'a' + i, "a byte is wrong");
        put_page(pins[i]);
        must(page_dirty(pins[i]), "I/O has stored into the page, and it is not dirty");
    }
    give_up_frames(pool, segments);
    /* The answer is the number of pins that are left. */
    must(farswap_pool_destroy(pool) == 0, "a pin was left");
    io_uring_queue_exit(&ring);
    close(fd);
    puts("16 pages were written and read by direct I/O, pinned, and are right");
    return EXIT_SUCCESS;
}
