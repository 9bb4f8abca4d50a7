"""Runs a command and samples, from /proc alone, the memory that it and all its descendants use. Knows nothing of what
farswap says about itself: that is the point.
"""
import dataclasses
import os
import pathlib
import re
import select
import signal
import subprocess
import time

PERIOD_S = 0.02
FIELDS = re.compile(r"^(Pss_Anon|Pss_Shmem):\s+(\d+) kB", re.M)
OWN_FIELDS = re.compile(r"^(RssAnon|RssShmem):\s+(\d+) kB", re.M)


@dataclasses.dataclass
class Run:
    exit_status: int  # as a shell reports it: 128 + N for signal N
    seconds: float
    peak_bytes: int  # the most RAM at one sample


def descendants(pid):
    """All processes below `pid`, without it. One that ends meanwhile is simply not seen."""
    found, todo = [], [pid]
    while todo:
        for tasks in pathlib.Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            try:
                children = [int(word) for word in tasks.read_text().split()]
            except OSError:
                continue
            found += children
            todo += children
    return found


def kib_sum(path, fields):
    try:
        return sum(int(match.group(2)) for match in fields.finditer(pathlib.Path(path).read_text()))
    except OSError:  # gone meanwhile
        return 0


def is_keeper(pid):
    """The process that shares the pager's memory."""
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "farswap-keeper"
    except OSError:
        return False


def ram_bytes(pid, under_farswap):
    """Pss_Anon + Pss_Shmem of the job's processes; under farswap also all RssAnon + RssShmem of the pager `pid`."""
    job = [member for member in descendants(pid) if not is_keeper(member)]
    kib = kib_sum(f"/proc/{pid}/status", OWN_FIELDS) if under_farswap else 0
    for member in job if under_farswap else [pid, *job]:
        kib += kib_sum(f"/proc/{member}/smaps_rollup", FIELDS)
    return kib * 1024


def run(command, stdout, environment=None, under_farswap=False, limit_s=600):
    """Runs `command` with its output in the file object `stdout`. Ends it with SIGTERM when `limit_s` has passed."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, env=environment)
    # An ended child is waited for through this descriptor, so that the last sample does not cost a period.
    pidfd = os.pidfd_open(process.pid)
    peak = 0
    try:
        while process.poll() is None:
            peak = max(peak, ram_bytes(process.pid, under_farswap))
            if time.monotonic() - started > limit_s:
                process.terminate()
            wait_readable(pidfd, PERIOD_S)
    except BaseException:  # Ctrl-C: take the program along
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    finally:
        os.close(pidfd)
    status = process.returncode
    return Run(status if status >= 0 else 128 - status, time.monotonic() - started, peak)


def wait_readable(descriptor, seconds):
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    poller.poll(seconds * 1000)
