// What the pager and the agent inside a program say to each other, over a SOCK_SEQPACKET pair. Plain C: the
// agent is freestanding code. One request is outstanding at a time; every request but AGENT_EXIT has one
// reply.
#pragma once

#include <linux/types.h>

enum agent_op {
    /* Makes the program's userfaultfd: by the /dev/userfaultfd descriptor that comes along (SCM_RIGHTS), else
     * by the system call. The reply carries the descriptor (SCM_RIGHTS); the agent keeps its own copy, so
     * that losing the pager freezes the program instead of turning evicted pages into zeros. */
    AGENT_CREATE_UFFD = 1,
    /* Keeps the userfaultfd that comes along (a forked child's, made by EVENT_FORK). */
    AGENT_ADOPT_UFFD = 2,
    /* For each range: probe its first page by UFFDIO_ZEROPAGE, then UFFDIO_MOVE src -> dst. */
    AGENT_MOVE = 3,
    /* For each range: madvise(dst, len, MADV_DONTNEED) of staging, munlock(2) before it where it is locked.
     * Blocks until the pager has read the REMOVE event; if the pager is gone, the process is killed then. */
    AGENT_ZAP = 4,
    /* For each range: read one byte of each page of src through process_vm_readv, so that pages shared by a
     * fork become this process's own and can be moved. May block in a page fault; without the pager, as
     * AGENT_ZAP. */
    AGENT_UNSHARE = 5,
    /* For the one range: madvise(src, len, MADV_GUARD_INSTALL), whose result is the status. */
    AGENT_GUARD = 7,
    /* Gives up the identity and the capabilities of the program, where that is allowed; the last thing before
     * the agent's work begins. `count` is the program's PR_GET_DUMPABLE, which this would change. The status
     * tells whether it was allowed. */
    AGENT_DROP_PRIVILEGES = 8,
    /* Gives up the capabilities alone, for a pager that could not reach a thread of another identity. The
     * status tells whether it was allowed. */
    AGENT_DROP_CAPABILITIES = 10,
    /* Keeps the end for reading of a pipe that comes along. The pager never writes to its own end, which is
     * closed with the pager: that kills the process when its agent waits for the pager inside the kernel. */
    AGENT_KEEP_PIPE = 9,
    /* The thread ends, with the exit status in `count`: where it is the last one, that is the process's
     * (do_exit, synchronize_group_exit() in kernel/exit.c). No reply. */
    AGENT_EXIT = 6,
};

#define AGENT_RANGES_MAX 128

struct agent_range {
    __u64 src; /* address in the program, page-aligned */
    __u64 dst; /* address in staging, page-aligned */
    __u64 len; /* bytes */
};

struct agent_request {
    __u32 op;
    __u32 count; /* ranges used */
    __u64 sequence;
    struct agent_range range[AGENT_RANGES_MAX];
};

/* What became of one range of AGENT_MOVE. */
struct agent_result {
    __u64 moved;  /* bytes, from the start of the range */
    __s32 error;  /* why it ended before its end: -errno of the probe or the move; 0 when all was moved */
    __u32 probed; /* whether `error` is the probe's: -ENOENT our view is stale, -EAGAIN an event waits,
                     -ENODATA a hole */
};

struct agent_reply {
    __u32 op;
    __u32 count;
    __u64 sequence;
    __s32 status; /* 0 or -errno of the request as a whole */
    __u32 unused;
    struct agent_result result[AGENT_RANGES_MAX];
};

/* Written by the pager before the agent starts; the agent's only argument. */
struct agent_start {
    __s32 socket;
    __s32 unused;
};
