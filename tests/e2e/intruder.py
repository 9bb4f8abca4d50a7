#!/usr/bin/python3
"""A program that tries to reach other processes: to trace them, to read their memory, to have their descriptors.

  intruder.py parent        prints a line for each way to the parent (the pager), to who traces that (the keeper) and to a child
                            of our own: what the kernel answers, "had" if it let us
  intruder.py kill TIMES    kills the parent and each that takes its place, while others of us try all the time; prints the ways
                            that were open, and a line at the end
"""
import contextlib
import ctypes
import errno
import os
import pathlib
import re
import select
import signal
import sys
import time

PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17
SYS_PTRACE, SYS_PROCESS_VM_READV, SYS_KCMP, SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 101, 310, 312, 434, 438
DESCRIPTORS = 64   # of these are tried; a pager has more than a dozen
WAIT_S = 30
OURSELVES = os.getpid()
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
word = ctypes.create_string_buffer(8)   # has the same address in a child


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def seize(pid):
    call(SYS_PTRACE, PTRACE_SEIZE, pid, 0, 0)
    with contextlib.suppress(OSError):
        call(SYS_PTRACE, PTRACE_DETACH, pid, 0, 0)


def read_memory(pid):
    vectors = [Vector(ctypes.addressof(word), len(word)) for _ in range(2)]
    call(SYS_PROCESS_VM_READV, pid, ctypes.addressof(vectors[0]), 1, ctypes.addressof(vectors[1]), 1, 0)


def open_file(name):
    def tried(pid):
        os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
    return tried


def have_one_of(have):
    """Any descriptor; the first that is there decides on the refusal."""
    refusal = None
    for number in range(DESCRIPTORS):
        try:
            have(number)
            return
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EBADF):
                refusal = refusal or error
    raise refusal or OSError(errno.ENOENT, "")


def open_descriptor(pid):
    have_one_of(lambda number: os.readlink(f"/proc/{pid}/fd/{number}"))


def take_descriptor(pid):
    pidfd = call(SYS_PIDFD_OPEN, pid, 0)
    try:
        have_one_of(lambda number: os.close(call(SYS_PIDFD_GETFD, pidfd, number, 0)))
    finally:
        os.close(pidfd)


WAYS = {"ptrace": seize, "process_vm_readv": read_memory, "pidfd_getfd": take_descriptor, "fd/N": open_descriptor,
        "kcmp": lambda pid: call(SYS_KCMP, pid, os.getpid(), 1, 0, 0),
        "fd": lambda pid: os.listdir(f"/proc/{pid}/fd"), "map_files": lambda pid: os.listdir(f"/proc/{pid}/map_files"),
        **{name: open_file(name) for name in ("mem", "maps", "smaps", "pagemap", "environ", "auxv", "exe")}}


def answer(way, pid):
    try:
        WAYS[way](pid)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "had"


def try_all(who, pid):
    for way in WAYS:
        print(who, way, answer(way, pid), flush=True)


def number_in(pid, label):
    return int(re.search(rf"^{label}:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1])


@contextlib.contextmanager
def child():
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def try_parent():
    pager = os.getppid()
    try_all("pager", pager)
    try_all("keeper", number_in(pager, "TracerPid"))
    with child() as own:
        try_all("child", own)


def hammer(keeper, end):
    """Tries the keeper, whose memory is the pager's, and its child, until there is something to read. -> the ways that were
    open, and how many times the youngest of them was tried."""
    had, tried = set(), 0
    while not select.select([end], [], [], 0)[0]:
        for pid in (keeper, *children_of(keeper)):
            for way in ("mem", "ptrace", "pidfd_getfd"):
                tried += 1
                if answer(way, pid) == "had":
                    had.add(way)
    return had, tried


@contextlib.contextmanager
def hammering(keeper):
    """Two of us do, meanwhile."""
    end, over = os.pipe()
    processes = [os.fork() for _ in range(2) if os.getpid() == OURSELVES]
    if os.getpid() != OURSELVES:
        os.close(over)
        had, tried = hammer(keeper, end)
        print("hammered", tried, *sorted(had), flush=True)
        os._exit(0)
    try:
        yield
    finally:
        os.close(over)
        for process in processes:
            os.waitpid(process, 0)


def children_of(pid):
    return [int(number) for number in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def name_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def heir_of(keeper, dead):
    """Who waits to be one has the keeper's name."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for pid in children_of(keeper):
            if pid != dead and name_of(pid) not in ("", name_of(keeper)):
                return pid
    raise TimeoutError("no pager goes on")


def kill_again_and_again(times):
    pager = os.getppid()
    keeper = number_in(pager, "TracerPid")
    with hammering(keeper):
        time.sleep(0.5)   # nobody is to be killed in the middle of a fork
        for _ in range(times):
            os.kill(pager, signal.SIGKILL)
            pager = heir_of(keeper, pager)
            try_all("heir", pager)
    print("killed", times, flush=True)


def main():
    if sys.argv[1] == "parent":
        try_parent()
    else:
        kill_again_and_again(int(sys.argv[2]))


if __name__ == "__main__":
    main()
