// The agent: the little code that runs inside a paged program, on a thread of its own. It knows three verbs
// of memory (move, zap, unshare) and holds a copy of the userfaultfd; it decides nothing.
//
// Freestanding and position-independent: everything lies in the section farswap_agent, which the injector
// copies into the program as it is. No library call, no static data, no string, no jump table
// (tests/target/agent_blob checks).
#include <asm/unistd.h>
#include <linux/mman.h>
#include <linux/socket.h>
#include <stddef.h>

#include "target/agent_protocol.h"
#include "target/uapi.h"

#ifdef __GNUC__
#ifndef __clang__                                        /* which reads this file only to judge it */
#pragma GCC optimize("no-tree-loop-distribute-patterns") /* no calls of memset or memcpy */
#endif
#endif

#define AGENT_CODE __attribute__((section("farswap_agent"), used))
#define AGENT_INLINE static inline __attribute__((always_inline))

#define PAGE 4096ul
#define EAGAIN 11
#define EEXIST 17
#define EINVAL 22
#define ENODATA 61
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define MSG_CMSG_CLOEXEC 0x40000000
#define PR_SET_NAME 15
#define PR_SET_DUMPABLE 4
#define NOBODY 65534
#define CAPABILITY_VERSION_3 0x20080522
#define SIGKILL 9
#define F_SETFL 4
#define F_SETSIG 10
#define F_SETOWN_EX 15
#define F_OWNER_TID 0
#define O_ASYNC 020000
#define O_NONBLOCK 04000
#define O_CLOEXEC_NONBLOCK (02000000 | 04000)

AGENT_INLINE long call6(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
AGENT_INLINE long call3(long number, long a, long b, long c) {
    return call6(number, a, b, c, 0, 0, 0);
}

struct io_vector {
    void* base;
    unsigned long length;
};

struct message_header {
    void* name;
    int name_length;
    struct io_vector* vector;
    unsigned long vector_length;
    void* control;
    unsigned long control_length;
    int flags;
};

/* A control message with one descriptor, laid out as in cmsg(3). */
struct descriptor_message {
    unsigned long length;
    int level;
    int type;
    int descriptor;
    int padding;
};

/* Receives a request and the descriptor that came along (-1: none). Bytes, 0 at end of file, or -errno. */
AGENT_INLINE long receive(int socket, struct agent_request* request, int* descriptor) {
    struct io_vector vector = {request, sizeof *request};
    struct descriptor_message control = {0, 0, 0, -1, 0};
    struct message_header header = {0, 0, &vector, 1, &control, sizeof control, 0};
    long received = call3(__NR_recvmsg, socket, (long)&header, MSG_CMSG_CLOEXEC);
    *descriptor = header.control_length >= 20 && control.type == SCM_RIGHTS ? control.descriptor : -1;
    return received;
}

AGENT_INLINE void answer(int socket, struct agent_reply* reply, int descriptor) {
    struct io_vector vector = {
        reply, offsetof(struct agent_reply, result) + reply->count * sizeof(struct agent_result)};
    struct descriptor_message control = {20, SOL_SOCKET, SCM_RIGHTS, descriptor, 0};
    struct message_header header = {0, 0, &vector, 1, 0, 0, 0};
    if (descriptor >= 0) {
        header.control = &control;
        header.control_length = sizeof control;
    }
    call3(__NR_sendmsg, socket, (long)&header, 0x4000 /* MSG_NOSIGNAL */);
}

/* Kernel fact 2.1: MOVE does not check that its source is registered, so ask by a ZEROPAGE that must fail
 * with EEXIST. */
AGENT_INLINE int probe(int uffd, unsigned long address) {
    struct uffdio_zeropage zero;
    zero.range.start = address;
    zero.range.len = PAGE;
    zero.mode = UFFDIO_ZEROPAGE_MODE_DONTWAKE;
    zero.zeropage = 0;
    long error = call3(__NR_ioctl, uffd, (long)UFFDIO_ZEROPAGE, (long)&zero);
    if (error == -EEXIST) return 0;
    return error == 0 ? -ENODATA : (int)error;
}

AGENT_INLINE void move_range(int uffd, const struct agent_range* range, struct agent_result* result) {
    result->moved = 0;
    result->probed = 1;
    result->error = probe(uffd, range->src);
    if (result->error) return;
    result->probed = 0;
    while (result->moved < range->len) {
        struct uffdio_move move;
        move.dst = range->dst + result->moved;
        move.src = range->src + result->moved;
        move.len = range->len - result->moved;
        move.mode = UFFDIO_MOVE_MODE_DONTWAKE;
        move.move = 0;
        long error = call3(__NR_ioctl, uffd, (long)UFFDIO_MOVE, (long)&move);
        if (error == 0) {
            result->moved = range->len;
            return;
        }
        if (move.move > 0) result->moved += (unsigned long)move.move;
        /* A part was moved: the kernel says EAGAIN and leaves the reason to the next try. */
        if (error == -EAGAIN && move.move > 0) continue;
        result->error = (int)error;
        return;
    }
}

/* mlockall(2) in the program locks staging along with all else. It must not stay so: locked pages are not
 * dropped, and a locked destination would let the program's locked pages be moved. */
AGENT_INLINE long zap_range(const struct agent_range* range) {
    long error = call3(__NR_madvise, (long)range->dst, (long)range->len, MADV_DONTNEED);
    if (error != -EINVAL) return error;
    call3(__NR_munlock, (long)range->dst, (long)range->len, 0);
    return call3(__NR_madvise, (long)range->dst, (long)range->len, MADV_DONTNEED);
}

/* A thread as the owner of a descriptor's signal (struct f_owner_ex of fcntl(2)). */
struct signal_owner {
    int type;
    int task;
};

/* ZAP and UNSHARE wait for the pager inside the kernel (userfaultfd_event_wait_completion(),
 * handle_userfault()): the end of the socket is not seen there, and our userfaultfd keeps such a wait from
 * ending with the pager's. So that it does not last for ever the pager's end kills the process meanwhile, by
 * the signal of a pipe that nothing is ever written to. (Not of the socket: the signal for a request may come
 * after the request.) 0: the pager is gone already. */
AGENT_INLINE int be_killed_without_the_pager(int life, long task) {
    const struct signal_owner owner = {F_OWNER_TID, (int)task};
    char byte;
    call3(__NR_fcntl, life, F_SETOWN_EX, (long)&owner);
    call3(__NR_fcntl, life, F_SETSIG, SIGKILL);
    call3(__NR_fcntl, life, F_SETFL, O_ASYNC | O_NONBLOCK);
    return call3(__NR_read, life, (long)&byte, 1) != 0;
}
AGENT_INLINE void hear_of_the_pager_by_the_socket(int life) {
    call3(__NR_fcntl, life, F_SETFL, O_NONBLOCK);
}

/* The pager is gone, its keeper too, and nobody will ever bring back what was moved out. Until here our
 * userfaultfd has kept it from turning into zeros, and it does so until the process has ended; the program is
 * not to stand still for ever. But not where nothing was moved out. */
AGENT_INLINE void end_without_the_pager(int may_be_outside) {
    if (may_be_outside) {
        call3(__NR_kill, call3(__NR_getpid, 0, 0, 0), SIGKILL, 0);
        for (;;) call3(__NR_exit_group, 128 + SIGKILL, 0, 0); /* where a filter refuses the kill */
    }
    for (;;) call3(__NR_exit, 0, 0, 0);
}

AGENT_INLINE void unshare_range(long task, const struct agent_range* range) {
    for (unsigned long done = 0; done < range->len; done += PAGE) {
        char byte;
        struct io_vector local = {&byte, 1};
        struct io_vector remote = {(void*)(range->src + done), 1};
        call6(__NR_process_vm_readv, task, (long)&local, 1, (long)&remote, 1, 0);
    }
}

/* Whoever takes the agent over, which lives in the program's memory, is to win nothing by it; the more so
 * when the program itself gives up privileges later, which does not reach the agent. What it has to do needs
 * none. */
AGENT_INLINE int drop_privileges(unsigned dumpable) {
    long error = call3(__NR_setresgid, NOBODY, NOBODY, NOBODY);
    if (error) return (int)error;
    call3(__NR_setgroups, 0, 0, 0);
    error = call3(__NR_setresuid, NOBODY, NOBODY, NOBODY);
    /* A change of identity makes the whole process one that must not be dumped or traced. */
    if (dumpable == 1) call3(__NR_prctl, PR_SET_DUMPABLE, 1, 0);
    return (int)error;
}

AGENT_INLINE int drop_capabilities(void) {
    /* volatile: as below */
    volatile unsigned header[2], sets[6]; /* version and thread; effective, permitted, inheritable, twice */
    header[0] = CAPABILITY_VERSION_3;
    header[1] = 0;
    for (int i = 0; i < 6; i++) sets[i] = 0;
    return (int)call3(__NR_capset, (long)&header, (long)&sets, 0);
}

AGENT_INLINE int make_uffd(int device) {
    if (device < 0) return (int)call3(__NR_userfaultfd, O_CLOEXEC_NONBLOCK, 0, 0);
    int uffd = (int)call3(__NR_ioctl, device, USERFAULTFD_IOC_NEW, O_CLOEXEC_NONBLOCK);
    call3(__NR_close, device, 0, 0);
    return uffd;
}

/* Lets go of the program's descriptors (a pipe held open here would never reach its end of file) and of its
 * working directory. */
AGENT_INLINE void leave_the_programs_files(int socket) {
    if (socket > 0) call3(__NR_close_range, 0, socket - 1, 0);
    call3(__NR_close_range, socket + 1, ~0u, 0);
    /* volatile: keeps the compiler from making constants of them, which would lie outside this section */
    volatile char name[8] = {'f', 'a', 'r', 's', 'w', 'a', 'p', 0};
    volatile char root[2] = {'/', 0};
    call3(__NR_prctl, PR_SET_NAME, (long)name, 0);
    call3(__NR_chdir, (long)root, 0, 0);
}

AGENT_CODE void farswap_agent_main(const struct agent_start* start) {
    const int socket = start->socket;
    const long task = call3(__NR_gettid, 0, 0, 0); /* the main thread may have ended */
    int uffd = -1, life = -1, may_be_outside = 0;
    leave_the_programs_files(socket);
    for (;;) {
        struct agent_request request;
        struct agent_reply reply;
        int descriptor;
        request.op = request.count = 0;
        request.sequence = 0;
        long received = receive(socket, &request, &descriptor);
        if (received <= 0) end_without_the_pager(may_be_outside);
        const int waits_for_the_pager = request.op == AGENT_ZAP || request.op == AGENT_UNSHARE;
        if (waits_for_the_pager && !be_killed_without_the_pager(life, task))
            end_without_the_pager(may_be_outside);
        reply.op = request.op;
        reply.count = 0;
        reply.sequence = request.sequence;
        reply.status = 0;
        int passed = -1;
        if (request.op == AGENT_MOVE) {
            may_be_outside = 1;
            for (unsigned i = 0; i < request.count; i++)
                move_range(uffd, &request.range[i], &reply.result[i]);
            reply.count = request.count;
        } else if (request.op == AGENT_ZAP) {
            for (unsigned i = 0; i < request.count; i++) {
                long error = zap_range(&request.range[i]);
                if (error) reply.status = (int)error;
            }
        } else if (request.op == AGENT_UNSHARE) {
            for (unsigned i = 0; i < request.count; i++) unshare_range(task, &request.range[i]);
        } else if (request.op == AGENT_GUARD) {
            reply.status = (int)call3(__NR_madvise, (long)request.range[0].src, (long)request.range[0].len,
                                      MADV_GUARD_INSTALL);
        } else if (request.op == AGENT_CREATE_UFFD) {
            passed = uffd = make_uffd(descriptor);
            if (uffd < 0) reply.status = uffd;
        } else if (request.op == AGENT_ADOPT_UFFD) {
            uffd = descriptor;
            may_be_outside = 1;
        } else if (request.op == AGENT_KEEP_PIPE) {
            life = descriptor;
        } else if (request.op == AGENT_DROP_PRIVILEGES) {
            reply.status = drop_privileges(request.count);
        } else if (request.op == AGENT_DROP_CAPABILITIES) {
            reply.status = drop_capabilities();
        } else {
            for (;;) call3(__NR_exit, request.count, 0, 0);
        }
        if (waits_for_the_pager) hear_of_the_pager_by_the_socket(life);
        answer(socket, &reply, passed);
    }
}
