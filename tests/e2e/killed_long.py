"""The long case of bad_input.py about pagers that are killed: 500 deaths, where each of them was, and what was under way."""
import collections
import re
import subprocess
import time

from attaching import wait_until
from fault_lab import case
from killed import Job, census_of, kill_again_and_again

# Numbers of x86-64, and of the ioctl(2)s of userfaultfd.
SYSTEM_CALLS = {0: "read", 1: "write", 3: "close", 16: "ioctl", 17: "pread", 19: "readv", 24: "sched_yield", 28: "madvise",
                44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 151: "mlockall", 203: "sched_setaffinity",
                217: "getdents", 228: "clock_gettime", 232: "epoll_wait", 257: "openat", 310: "process_vm_readv",
                426: "io_uring_enter", 434: "pidfd_open", 441: "epoll_pwait2"}
UFFD_CALLS = {0xc028aa03: "COPY", 0xc020aa04: "ZEROPAGE", 0x8010aa02: "WAKE", 0xc018aa06: "WRITEPROTECT", 0xc020aa00: "REGISTER",
              0x8010aa01: "UNREGISTER"}
# Of a page's way out and back: what it is in, and by which counts of the census: the pager's own thread was at it, and how many
# kills found some of it under way (with the agent, in flight, or lying so). None: it is never that.
PHASES = {
    "MOVE asked for or not settled": (None, "with_move"),
    "staged: copied out of staging": ("in_staged", None),
    "sealing": ("in_sealing", None),
    "written: handed over or noted; in flight": ("in_writing", "with_write"),
    "written and not committed": (None, "with_uncommitted"),
    "committed: handed over or noted; in flight": ("in_committing", "with_commit"),
    "read: in flight": (None, "with_read"),
    "opening": ("in_opening", None),
    "COPY issued": ("in_copying", None),
    "elsewhere, waiting above all": ("in_elsewhere", None),
    "an heir that was nobody yet": ("not_begun", None),
}
# A run of 500 kills that has met none of one of these proves less than it says.
WANTED = [phase for phase in PHASES if not phase.startswith(("opening", "an heir"))]


def place_of(line, tools):
    """Where a pager was killed, from what the next one says: a system call, or a function."""
    number, argument, address = re.search(r"killed in system call (-?\d+) with (\w+), at (\w+)", line).groups()
    if int(number) >= 0:
        name = SYSTEM_CALLS.get(int(number), f"system call {number}")
        return UFFD_CALLS.get(int(argument, 16), name) if name == "ioctl" else name
    found = subprocess.run(["addr2line", "-C", "-f", "-e", tools.farswap, address], capture_output=True, text=True, check=False)
    function = found.stdout.splitlines()[0] if found.stdout else "??"
    if function == "??":
        return "a library"
    return re.sub(r"\(.*", "", function).replace("farswap::", "")


def killed_five_hundred_times(lab, url, out):
    places, phases = collections.Counter(), collections.Counter()
    deaths = ends = 0
    for round_ in range(40):
        if deaths >= 500:
            break
        name, arguments = (("verify", ("--size", "200M", "--threads", "2", "--seconds", "30")),
                           ("mmap_race", ("--rounds", "200")), ("fork_rewrite", ("--rounds", "6")))[round_ % 3]
        job = Job(lab, lab.tools.workloads / name, *arguments, ram="48M", url=url, env={"FARSWAP_LOG": "debug"})
        time.sleep(0.5)
        kill_again_and_again(job, 60, seed=round_, pause_max_s=0.05)
        for line in job.errors().splitlines():
            if "killed in system call" in line:
                places[place_of(line, lab.tools)] += 1
        deaths += job.deaths
        if "while it prepared process" in job.errors():
            ends += 1
            wait_until(lambda job=job: not job.is_paged(), "its end")
        else:
            job.expect_success()
        phases.update(census_of(job))
    lab.expect(deaths >= 500, f"only {deaths} deaths")
    # Of the last ones of a job that had to be ended nobody has told.
    lab.expect(deaths * 98 // 100 <= phases["kills"] <= deaths, f"{deaths} deaths, {phases['kills']} counted")
    for phase in WANTED:
        lab.expect(any(phases[count] for count in PHASES[phase]), f"no kill met: {phase}")
    out.append((deaths, ends, places, phases))


@case
def killed_500_times(lab):
    """Everywhere in the pager's life; prints where, and in which phases pages were, as histograms."""
    found = []
    killed_five_hundred_times(lab, lab.server().url, found)
    for deaths, ends, places, phases in found:
        print(f"  {deaths} deaths survived, {ends} in which the job had to be ended (an agent was being put in); killed in:")
        for place, count in places.most_common():
            print(f"  {count:5d} {'#' * max(1, count * 60 // deaths)} {place}")
        print(f"  of {phases['kills']} of them: the pager's own thread was at it; some was under way")
        for phase, (own, under_way) in PHASES.items():
            most = max(phases[own], phases[under_way])
            counts = " ".join(f"{phases[count]:5d}" if count else "    -" for count in (own, under_way))
            print(f"  {counts} {'#' * max(most > 0, most * 60 // deaths):60s} {phase}")
