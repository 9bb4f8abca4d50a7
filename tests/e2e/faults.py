"""Cases of bad_input.py in which something goes wrong, or is short, while the program runs."""
import contextlib
import os
import pathlib
import signal
import subprocess
import threading
import time

import harness
from fault_lab import REFUSED, case
from harness import MIB

CORRUPT_FROM = 1 * MIB  # past the owner's record


def verify(lab, *arguments):
    return [lab.tools.workloads / "verify", "--size", "256M", "--threads", "2", *arguments]


def wait_until(condition, limit_s=300):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


class Background:
    """farswap in the background, for what happens to it while it runs."""

    def __init__(self, lab, url, *program, **options):
        self.thread = threading.Thread(target=self.work, args=(lab, url, program, options))
        self.result = None
        self.thread.start()

    def work(self, lab, url, program, options):
        self.result = lab.job(url, *program, **options)

    def end(self):
        self.thread.join()
        return self.result


def holds_pages(path):
    """Space is reserved ahead, so that the size says nothing: look whether the first megabytes were written."""
    try:
        with open(path, "rb") as file:
            return all(any(os.pread(file.fileno(), 4096, offset)) for offset in (4 * MIB, 12 * MIB, 20 * MIB))
    except OSError:
        return False


def store_file(directory):
    """The job's file once pages lie in it, or None."""
    found = []

    def written():
        found[:] = [path for path in pathlib.Path(directory).iterdir() if path.is_file() and holds_pages(path)]
        return bool(found)
    return found[0] if wait_until(written) else None


def pager_of(directory):
    """The process that has the directory's store open."""
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if (entry / "comm").read_text().strip() != "farswap":
                continue
            for link in (entry / "fd").iterdir():
                if os.readlink(link).startswith(str(directory)):
                    return int(entry.name)
        except OSError:
            continue
    return None


@case
def exit_status_is_the_programs(lab):
    for status in (0, 1, 7, 125, 126, 127, 255):
        run = lab.job(lab.file_url(), "sh", "-c", f"exit {status}", flags=["--quiet"])
        lab.expect(run.status == status, f"exit status {run.status} instead of {status}")
        lab.expect(run.error == "", f"said something: {run.error}")
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
        run = lab.job(lab.file_url(), "sh", "-c", f"kill -{int(number)} $$", flags=["--quiet"])
        lab.expect(run.status == 128 + number, f"exit status {run.status} instead of 128 + {int(number)}")
    lab.expect_nothing_left(run)


@case
def streams_are_the_programs(lab):
    text = b"".join(b"%d\n" % i for i in range(100_000))
    source = lab.directory / "input"
    source.write_bytes(text)
    with open(source, "rb") as stdin:
        run = lab.job(lab.file_url(), "sh", "-c", "cat; echo problem >&2", flags=["--quiet"], stdin=stdin)
    lab.expect(run.output.read_bytes() == text, "standard input or output was changed")
    lab.expect(run.error == "problem\n", f"standard error was changed: {run.error!r}")


@case
def wrong_bytes_in_the_store(lab):
    """The store's content is changed behind the pager's back: the program is stopped, it never reads wrong bytes."""
    background = Background(lab, lab.file_url(), *verify(lab, "--seconds", "60"), flags=["--quiet"], limit_s=120)
    path = store_file(lab.store)
    if lab.expect(path is not None, "nothing was written to the store"):
        with open(path, "r+b") as file:
            end = os.fstat(file.fileno()).st_size
            file.seek(CORRUPT_FROM)
            while file.tell() < end:
                file.write(os.urandom(MIB))
            with contextlib.suppress(OSError):  # EIO, where farswap's direct I/O came between (open(2), O_DIRECT)
                os.fsync(file.fileno())
    run = background.end()
    lab.expect("WRONG BYTE" not in run.error, f"the program read wrong bytes: {run.last_error()}")
    lab.expect_refusal(run, REFUSED, "page", "slot", str(lab.store))


@case
def store_gets_full(lab):
    """The job needs more than the store holds: it is stopped with one line."""
    run = lab.job(lab.file_url("?size=32M"), *verify(lab, "--seconds", "10"), flags=["--quiet"], limit_s=120)
    lab.expect("WRONG BYTE" not in run.error, f"the program read wrong bytes: {run.last_error()}")
    lab.expect_refusal(run, REFUSED, f"swap is full .*{lab.store}")


HUGE_PAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")
HOLDS = """
import ctypes, mmap, sys
bytes = 80 << 20
kind = {"shared": mmap.MAP_SHARED, "locked": mmap.MAP_PRIVATE, "huge": mmap.MAP_PRIVATE | 0x40000,
        "traced": mmap.MAP_PRIVATE}[sys.argv[1]]
memory = mmap.mmap(-1, bytes, kind | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
if sys.argv[1] == "locked" and ctypes.CDLL(None).mlock(ctypes.c_void_p(address), ctypes.c_size_t(bytes)) != 0:
    sys.exit("cannot lock memory")
for at in range(0, bytes, 4096): memory[at] = 1
sys.stdin.read()
"""


@case
def cap_too_small_for_what_cannot_leave(lab):
    """80 MiB that are locked, shared, huge pages, or another's to trace, under a cap of 32 MiB: the job is stopped and told
    what it needs."""
    kinds = ["locked", "shared", "traced"]
    before = HUGE_PAGES.read_text()
    lab.cleanup.callback(HUGE_PAGES.write_text, before)
    HUGE_PAGES.write_text("48")
    if int(HUGE_PAGES.read_text()) >= 40:
        kinds.append("huge")
    for kind in kinds:
        program, keep_open = os.pipe()
        around = ["strace", "-f", "-o", "/dev/null"] if kind == "traced" else []
        run = lab.job(lab.file_url(), *around, "/usr/bin/python3", "-c", HOLDS, kind, ram="32M", flags=["--quiet"], limit_s=120,
                      stdin=program)
        os.close(program)
        os.close(keep_open)
        named = [r"of it that of process \d+ \(process \d+ is being traced by process \d+ \(strace\)\)"]
        lab.expect_refusal(run, REFUSED, "cannot be moved out", "--ram [0-9]+M or more", *(named if around else []))


@case
def server_gets_full(lab):
    """The same where nobody said a size and the server's disk is the limit."""
    point = lab.small_filesystem(48)
    server = lab.server(str(point))
    run = lab.job(server.url, *verify(lab, "--seconds", "10"), flags=["--quiet"], limit_s=120)
    lab.expect("WRONG BYTE" not in run.error, f"the program read wrong bytes: {run.last_error()}")
    lab.expect_refusal(run, REFUSED, f"swap is full .*{point}", left_in=[point])


@case
def wrong_bytes_on_the_server(lab):
    """As above, over NFS: the server's file is changed behind its back."""
    server = lab.server()
    background = Background(lab, server.url, *verify(lab, "--seconds", "60"), flags=["--quiet"], limit_s=120)
    path = store_file(server.store_directory())
    if lab.expect(path is not None, "nothing was written to the store"):
        with open(path, "r+b") as file:
            end = os.fstat(file.fileno()).st_size
            file.seek(CORRUPT_FROM)
            while file.tell() < end:
                file.write(os.urandom(MIB))
    run = background.end()
    lab.expect("WRONG BYTE" not in run.error, f"the program read wrong bytes: {run.last_error()}")
    lab.expect_refusal(run, REFUSED, "page", "slot", str(server.store_directory()), left_in=[server.store_directory()])


@case
def ended_by_a_signal(lab):
    """SIGTERM to farswap ends the program and leaves nothing."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A suite under nohup(1) would hand an ignored SIGHUP down.
        background = Background(lab, lab.file_url(), *verify(lab, "--seconds", "60"), flags=["--quiet"],
                                preexec=lambda number=number: signal.signal(number, signal.SIG_DFL))
        if lab.expect(store_file(lab.store) is not None, "nothing was written to the store"):
            pager = pager_of(lab.store)
            if lab.expect(pager is not None, "no pager has the store open"):
                os.kill(pager, number)
        run = background.end()
        lab.expect(run.status == 128 + number, f"exit status {run.status} instead of 128 + {int(number)}")
        lab.expect_nothing_left(run)


@case
def pager_killed(lab):
    """SIGKILL to farswap: the program must not go on with zeros, and must not stay for ever."""
    background = Background(lab, lab.file_url(), *verify(lab, "--seconds", "20"), flags=["--quiet", "--keeper", "off"])
    if lab.expect(store_file(lab.store) is not None, "nothing was written to the store"):
        pager = pager_of(lab.store)
        if lab.expect(pager is not None, "no pager has the store open"):
            os.kill(pager, signal.SIGKILL)
    run = background.end()
    lab.expect("WRONG BYTE" not in run.error, f"the program read wrong bytes: {run.last_error()}")
    clean = lab.farswap("check", "--clean", "--yes", lab.file_url())
    left = harness.listing(lab.store)
    lab.expect(not left, f"check --clean (status {clean.status}) left {left}: {clean.last_error()}")


@case
def second_owner_of_a_file(lab):
    path, started = lab.store / "swap", lab.directory / "started"
    background = Background(lab, f"file:{path}?size=1G", "sh", "-c", f"touch {started}; exec sleep 300", flags=["--quiet"],
                            limit_s=120)
    if lab.expect(wait_until(started.exists), "the first job does not start"):
        run = lab.job(f"file:{path}?size=1G", "true", limit_s=90)
        lab.expect_refusal(run, REFUSED, "in use|owner", f"pid {pager_of(path)}", left_in=[lab.directory / "nowhere"])
        os.kill(pager_of(path), signal.SIGTERM)
    run = background.end()
    lab.expect_nothing_left(run)


@case
def server_restarts(lab):
    """The NFS server crashes and comes back: the job goes on as if it had been slow."""
    server = lab.server()
    background = Background(lab, server.url, *verify(lab, "--seconds", "15"), flags=["--quiet"], limit_s=150)
    if lab.expect(store_file(server.store_directory()) is not None, "nothing was written to the store"):
        subprocess.run([harness.GANESHA, "kill", server.directory], check=True)
        time.sleep(1)
        subprocess.run([harness.GANESHA, "restart", server.directory], check=True)
    run = background.end()
    lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}")
    lab.expect_nothing_left(run, server.store_directory())


@case
def hundred_jobs_share_a_directory(lab):
    """Many short jobs over one line: each has its own file."""
    problems = []

    def work():
        for _ in range(5):
            run = lab.job(lab.file_url(), "sh", "-c", "exit 3", ram="32M", flags=["--quiet"])
            if run.status != 3:
                problems.append(f"exit status {run.status}: {run.last_error()}")
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lab.problems += problems
    left = harness.listing(lab.store)
    lab.expect(not left, f"left in the store: {left}")
