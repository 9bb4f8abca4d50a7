#!/usr/bin/python3
"""When farswap begins to touch a program's memory, and when a page comes back without its store: both seen from outside,
while a program under farswap does what it is told.

  life_of_pages.py --build DIR [--only CHECK,...]

Prints a line for each check; exits 1 when one failed.
"""
import argparse
import ctypes
import json
import os
import pathlib
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import harness
from harness import MIB

LIMIT_S = 60
PAGE = 4096
CAP = 400 * MIB
ENGAGED_AT = CAP * 85 // 100
POOL = 64 * MIB
QUARTER_CAP = 200 * MIB  # where a quarter of the program's memory is to have room: above the pool, and soon filled
# Each command is a line on standard input and is answered by one. A page holds its own number, so that a wrong one shows.
PROGRAM = """
import mmap, random, struct, sys, time, ctypes
blocks, filled = [], []
def grow(pages):
    block = mmap.mmap(-1, pages * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(pages): block[page * 4096:page * 4096 + 8] = struct.pack("Q", page + 1)
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    blocks.append((block, address, pages))
    return f"{address:x} {address + pages * 4096:x}"
def outside(address, pages):
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(address // 4096 * 8)
        words = struct.unpack(f"{pages}Q", pagemap.read(pages * 8))
    return [page for page in range(pages) if not words[page] >> 63]
def right(block, wanted):
    return sum(block[page * 4096:page * 4096 + 8] == struct.pack("Q", page + 1) for page in wanted)
def touch_outside(count):
    block, address, pages = blocks[0]
    while len(found := outside(address, pages)) < count: time.sleep(0.001)
    return right(block, found[:count])
def reread(count):
    block, address, pages = blocks[0]
    return right(block, (random.randrange(pages) for _ in range(count)))
def fill(pages, byte):
    block = mmap.mmap(-1, pages * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    content = bytes([byte]) * (1 << 20)
    for at in range(0, len(block), 1 << 20): block[at:at + (1 << 20)] = content
    filled.append((block, content))
    return len(block)
def filled_right():
    return all(block[at:at + (1 << 20)] == content for block, content in filled for at in range(0, len(block), 1 << 20))
def check():
    return all(right(block, range(pages)) == pages for block, _, pages in blocks)
print("ready", flush=True)
for line in sys.stdin: print(eval(line), flush=True)
"""


class Far:
    """The program under farswap."""

    def __init__(self, tools, url, stats, cap=CAP, flags=()):
        self.process = subprocess.Popen(
            [tools.farswap, "run", "--ram", str(cap), "--pool", str(POOL), "--quiet", "--stats", str(stats), "--swap", url, *flags,
             "--", harness.PYTHON, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.tools, self.stats = tools, stats
        self.text = b""
        assert self.answer() == "ready"
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        programs = [int(child) for child in children
                    if pathlib.Path(f"/proc/{child}/comm").read_text().strip() != "farswap-keeper"]
        assert len(programs) == 1, children
        (self.program,) = programs

    def answer(self):
        deadline = time.monotonic() + LIMIT_S
        while b"\n" not in self.text:
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"no answer within {LIMIT_S} s")
            piece = os.read(self.process.stdout.fileno(), 4096)
            assert piece, "the program has ended"
            self.text += piece
        line, _, self.text = self.text.partition(b"\n")
        return line.decode()

    def tell(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, command):
        self.tell(command)
        return self.answer()

    def grow(self, size):
        """Maps so many bytes and touches them all. Returns where they are."""
        start, end = (int(word, 16) for word in self.ask(f"grow({size // PAGE})").split())
        return range(start, end)

    def now(self):
        """The job's figures so far."""
        told = subprocess.run([self.tools.farswap, "top", "--json", "--interval", "0.1"], capture_output=True, check=False).stdout
        return next(job for job in json.loads(told) if job.get("pager") == self.process.pid)

    def far_bytes_at_rest(self):
        """What is outside, once nothing leaves or comes back any more."""
        seen = []
        self.wait_until("nothing moves", lambda: seen.append(self.now()["memory"]["far_bytes"]) or seen[-4:] == [seen[-1]] * 4)
        return seen[-1]

    def used(self):
        """Bytes of the job as farswap counts them: the program's memory and the pager's own."""
        return sum(int(line.split()[1]) * 1024 for pid in (self.program, self.process.pid)
                   for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                   if line.startswith(("RssAnon:", "RssShmem:")))

    def registered(self, addresses):
        """Bytes of these addresses in mappings that are registered with a userfaultfd: VmFlags um, proc_pid_smaps(5)."""
        total, mapping = 0, range(0)
        for line in pathlib.Path(f"/proc/{self.program}/smaps").read_text().splitlines():
            if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                mapping = range(int(match[1], 16), int(match[2], 16))
            elif line.startswith("VmFlags:") and "um" in line.split():
                total += max(0, min(mapping.stop, addresses.stop) - max(mapping.start, addresses.start))
        return total

    def turns_of_the_pager(self):
        """How often it has gone to sleep."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", text, re.M)[1])

    def wait_until(self, what, holds):
        deadline = time.monotonic() + LIMIT_S
        while not holds():
            assert time.monotonic() < deadline, f"not within {LIMIT_S} s: {what}"
            time.sleep(0.001)

    def finish(self):
        assert self.ask("check()") == "True", "wrong bytes"
        self.process.stdin.close()
        assert self.process.wait(LIMIT_S) == 0
        return json.loads(pathlib.Path(self.stats).read_text())

    def kill(self):
        if self.process.poll() is not None:
            return
        for pid in (self.program, self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


def nothing_is_registered_below_85_percent(far, _server):
    memory = far.grow(200 * MIB)
    assert far.used() < ENGAGED_AT, far.used()
    before = far.turns_of_the_pager()
    far.wait_until("the pager has looked ten times", lambda: far.turns_of_the_pager() >= before + 10)
    assert far.registered(memory) == 0, f"{far.registered(memory) // MIB} MiB are registered"
    more = far.grow(80 * MIB)
    assert ENGAGED_AT < far.used() < CAP - 16 * MIB, far.used()
    # What was there before is registered as it is; what is new, too.
    far.wait_until("all is registered", lambda: far.registered(memory) + far.registered(more) == len(memory) + len(more))
    stats = far.finish()
    assert stats["pages"]["evicted"] == 0, stats["pages"]
    assert stats["faults"]["second_chance"] + stats["faults"]["cached"] + stats["faults"]["stored"] == 0, stats["faults"]


def pages_come_back_while_the_store_is_silent(far, server):
    touched = 200
    server.pause()
    far.grow(332 * MIB)  # what leaves fits into what the store has reserved before it fell silent
    right = far.ask(f"touch_outside({touched})")
    assert right == str(touched), f"{right} of {touched} pages are right"
    server.go_on()
    stats = far.finish()
    assert stats["faults"]["second_chance"] > 0, stats["faults"]


def pages_that_are_only_read_are_written_once(far, _server):
    memory = far.grow(1000 * MIB)
    pages = len(memory) // PAGE
    reads = 60_000
    assert far.ask(f"reread({reads})") == str(reads), "wrong bytes"
    stats = far.finish()
    figures = stats["pages"]
    assert figures["evicted"] > pages + reads // 2, figures
    assert figures["unchanged"] > reads // 2, figures
    # Of what left after its first time, less than 1% was written.
    again = figures["evicted"] - pages
    assert figures["written"] < pages + again // 100, figures


def pages_leave_unchanged(far, written_min):
    """With a quarter of them in memory: all leave in a first pass, and what is read at random then leaves without a write.
    `written_min`: the part of them that has to be written at all.
    """
    memory = far.grow(4 * QUARTER_CAP)
    pages, reads = len(memory) // PAGE, 60_000
    assert far.ask("check()") == "True", "wrong bytes"
    assert far.ask(f"reread({reads})") == str(reads), "wrong bytes"
    figures = far.finish()["pages"]
    again = figures["evicted"] - pages
    assert again > reads // 2, figures
    # Each was written once, when it first left; of the others less than 1%.
    assert pages * written_min <= figures["written"] < pages + again // 100, figures


def at_a_quarter_pages_leave_unchanged_with_the_tier(far, _server):
    pages_leave_unchanged(far, 0)  # compressed as these are they stay there


def at_a_quarter_pages_leave_unchanged_without_the_tier(far, _server):
    pages_leave_unchanged(far, 0.9)


def at_a_quarter_pages_leave_unchanged_uncompressed(far, _server):
    pages_leave_unchanged(far, 0.9)


class UffdioCopy(ctypes.Structure):
    """struct uffdio_copy of linux/userfaultfd.h."""
    _fields_ = [("dst", ctypes.c_uint64), ("src", ctypes.c_uint64), ("length", ctypes.c_uint64), ("mode", ctypes.c_uint64),
                ("copied", ctypes.c_int64)]


def fill_behind_its_back(pager, address, content):
    """Puts a page where a thread waits for one, with the pager's own userfaultfd, and wakes nobody."""
    pidfd_getfd, uffdio_copy, dont_wake = 438, 0xc028aa03, 1
    libc = ctypes.CDLL(None, use_errno=True)
    page = ctypes.create_string_buffer(content, PAGE)
    pidfd = os.pidfd_open(pager)
    try:
        for entry in pathlib.Path(f"/proc/{pager}/fd").iterdir():
            if "userfaultfd" not in os.readlink(entry):
                continue
            uffd = libc.syscall(pidfd_getfd, pidfd, int(entry.name), 0)
            assert uffd >= 0, os.strerror(ctypes.get_errno())
            request = UffdioCopy(address, ctypes.addressof(page), PAGE, dont_wake, 0)
            done = libc.ioctl(uffd, ctypes.c_ulong(uffdio_copy), ctypes.byref(request))
            os.close(uffd)
            if done == 0:
                return
    finally:
        os.close(pidfd)
    raise AssertionError("no userfaultfd took the page")


def a_page_that_is_there_already_is_not_outside(far, _server):
    """Where a page lies for which a thread waits, what the pager has outside is given up: it would never leave again."""
    memory = far.grow(480 * MIB)
    other, page = (int(word) for word in far.ask("'%d %d' % (lambda found: (found[0], found[-1]))("
                                                 f"outside(0x{memory.start:x}, {len(memory) // PAGE}))").split())
    assert far.ask(f"right(blocks[0][0], [{other}])") == "1", "wrong bytes"  # the program's own pages are inside now
    before = far.far_bytes_at_rest()
    os.kill(far.process.pid, signal.SIGSTOP)
    state = pathlib.Path(f"/proc/{far.process.pid}/stat")
    far.wait_until("a stop", lambda: state.read_text().rpartition(")")[2].split()[0] in "tT")
    far.tell(f"right(blocks[0][0], [{page}])")
    far.wait_until("a fault", lambda: "userfault" in pathlib.Path(f"/proc/{far.program}/wchan").read_text())
    fill_behind_its_back(far.process.pid, memory.start + page * PAGE, struct.pack("Q", page + 1))
    os.kill(far.process.pid, signal.SIGCONT)
    assert far.answer() == "1", "wrong bytes"
    after = far.far_bytes_at_rest()
    assert after < before, f"{before} bytes were outside, and {after} are"
    far.finish()


def pages_of_one_word_are_not_written(far, _server):
    for byte in (0, 0xa5):
        assert far.ask(f"fill({400 * MIB // PAGE}, {byte})") == str(400 * MIB)
    assert far.ask("filled_right()") == "True", "wrong bytes"
    stats = far.finish()
    figures = stats["pages"]
    assert figures["one_word"] > 300 * MIB // PAGE, figures
    assert figures["written"] < 40 * MIB // PAGE, figures


def without_a_store_pages_are_compressed_in_memory(far, _server):
    memory = far.grow(1000 * MIB)
    assert far.ask(f"outside(0x{memory.start:x}, {len(memory) // PAGE}) != []") == "True"
    assert far.ask("reread(60000)") == "60000", "wrong bytes"
    assert far.used() < CAP * 105 // 100, f"{far.used() / MIB:.0f} MiB are used under a cap of {CAP / MIB:.0f}"
    figures = far.finish()["pages"]
    assert figures["written"] == 0 and figures["packed_at_peak"] > 500 * MIB // PAGE, figures
    assert figures["packed_peak_bytes"] < figures["packed_at_peak"] * PAGE // 4, figures


class Server(harness.NfsServer):
    def pid(self):
        return int(re.search(r"^GANESHA_PID=(\d+)", (self.directory / "env").read_text(), re.M)[1])

    def pause(self):
        os.kill(self.pid(), signal.SIGSTOP)

    def go_on(self):
        os.kill(self.pid(), signal.SIGCONT)


CHECKS = [nothing_is_registered_below_85_percent, pages_come_back_while_the_store_is_silent,
          pages_that_are_only_read_are_written_once, a_page_that_is_there_already_is_not_outside,
          pages_of_one_word_are_not_written,
          without_a_store_pages_are_compressed_in_memory,
          at_a_quarter_pages_leave_unchanged_with_the_tier,
          at_a_quarter_pages_leave_unchanged_without_the_tier,
          at_a_quarter_pages_leave_unchanged_uncompressed]
# Other than on the server, at CAP. `{directory}`: one on a disk.
OPTIONS = {
    without_a_store_pages_are_compressed_in_memory: {"url": "none"},
    at_a_quarter_pages_leave_unchanged_with_the_tier: {"url": "file:{directory}", "cap": QUARTER_CAP},
    at_a_quarter_pages_leave_unchanged_without_the_tier: {"url": "file:{directory}", "cap": QUARTER_CAP,
                                                          "flags": ["--cache-tier", "off"]},
    at_a_quarter_pages_leave_unchanged_uncompressed: {"url": "file:{directory}", "cap": QUARTER_CAP,
                                                      "flags": ["--compress", "off"]},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--only", help="names of checks, with commas")
    arguments = parser.parse_args()
    tools = harness.Tools.of_build(arguments.build)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="farswap-pages-", dir="/var/tmp"))
    failed = 0
    with Server(directory / "server") as server:
        for check in CHECKS:
            if arguments.only and check.__name__ not in arguments.only.split(","):
                continue
            far = None
            try:
                options = {"url": server.url, **OPTIONS.get(check, {})}
                options["url"] = options["url"].format(directory=directory)
                far = Far(tools, stats=directory / "stats.json", **options)
                check(far, server)
                print(f"PASS {check.__name__}", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"FAIL {check.__name__}: {error}", flush=True)
            finally:
                server.go_on()
                if far:
                    far.kill()
    shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
