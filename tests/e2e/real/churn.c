/* A C program whose heap is the C library's own: threads that allocate, grow, free and pass on memory. Linked
 * statically against musl it has an allocator, a thread library and a start-up of its own. Prints digests.
 * Usage: churn ITEMS */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKERS = 4 };

struct item {
    struct item* next;
    uint64_t key;
    size_t words;
    uint64_t* data;
};

struct worker {
    pthread_t thread;
    uint64_t number, count, digest;
    struct item* items;
};

static uint64_t next_random(uint64_t* state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void fail(const char* what) {
    fprintf(stderr, "churn: %s\n", what);
    exit(1);
}

static void fill(struct item* one, size_t words) {
    uint64_t* data = realloc(one->data, words * sizeof *data);
    if (data == NULL) fail("no memory");
    for (size_t i = one->words; i < words; i++) data[i] = one->key * (i + 1);
    one->data = data;
    one->words = words;
}

static void* make(void* argument) {
    struct worker* self = argument;
    uint64_t state = self->number * 7919 + 1;
    for (uint64_t i = 0; i < self->count; i++) {
        struct item* one = calloc(1, sizeof *one);
        if (one == NULL) fail("no memory");
        one->key = next_random(&state);
        fill(one, 8 + one->key % 24);
        one->next = self->items;
        self->items = one;
        if (i % 3 == 2) {
            struct item* gone = one->next;
            fill(one, one->words + gone->words);
            one->next = gone->next;
            free(gone->data);
            free(gone);
        }
    }
    return NULL;
}

static void* check(void* argument) {
    struct worker* self = argument;
    while (self->items != NULL) {
        struct item* one = self->items;
        for (size_t i = 0; i < one->words; i++)
            if (one->data[i] != one->key * (i + 1)) fail("a word is wrong");
        self->digest = self->digest * 31 + one->key + one->words;
        self->items = one->next;
        free(one->data);
        free(one);
    }
    return NULL;
}

static void run_all(struct worker* workers, void* (*what)(void*)) {
    for (int i = 0; i < WORKERS; i++)
        if (pthread_create(&workers[i].thread, NULL, what, &workers[i]) != 0) fail("no thread");
    for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
}

int main(int argc, char** argv) {
    struct worker workers[WORKERS];
    if (argc != 2) return 2;
    memset(workers, 0, sizeof workers);
    for (int i = 0; i < WORKERS; i++) {
        workers[i].number = (uint64_t)i;
        workers[i].count = strtoull(argv[1], NULL, 10) / WORKERS;
    }
    run_all(workers, make);
    run_all(workers, check);
    for (int i = 0; i < WORKERS; i++) printf("%" PRIu64 " ", workers[i].digest);
    puts("");
    return 0;
}
