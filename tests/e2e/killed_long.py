"""The long case of bad_input.py about pagers that are killed: 500 deaths, and where each of them was."""
import collections
import re
import subprocess
import time

from attaching import wait_until
from fault_lab import case
from killed import Job, kill_again_and_again

# Numbers of x86-64, and of the ioctl(2)s of userfaultfd.
SYSTEM_CALLS = {0: "read", 1: "write", 16: "ioctl", 17: "pread", 19: "readv", 24: "sched_yield", 28: "madvise", 44: "sendto",
                45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 151: "mlockall", 228: "clock_gettime", 232: "epoll_wait", 257: "openat",
                310: "process_vm_readv", 426: "io_uring_enter", 441: "epoll_pwait2"}
UFFD_CALLS = {0xc028aa03: "COPY", 0xc020aa04: "ZEROPAGE", 0x8010aa02: "WAKE", 0xc018aa06: "WRITEPROTECT", 0xc020aa00: "REGISTER",
              0x8010aa01: "UNREGISTER"}


def place_of(line, tools):
    """Where a pager was killed, from what the next one says: a system call, or a function."""
    number, argument, address = re.search(r"killed in system call (-?\d+) with (\w+), at (\w+)", line).groups()
    if int(number) >= 0:
        name = SYSTEM_CALLS.get(int(number), f"system call {number}")
        return UFFD_CALLS.get(int(argument, 16), name) if name == "ioctl" else name
    found = subprocess.run(["addr2line", "-C", "-f", "-e", tools.farswap, address], capture_output=True, text=True, check=False)
    function = found.stdout.splitlines()[0] if found.stdout else "??"
    return re.sub(r"\(.*", "", function).replace("farswap::", "")


def killed_five_hundred_times(lab, url, out):
    places = collections.Counter()
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
    lab.expect(deaths >= 500, f"only {deaths} deaths")
    out.append((deaths, ends, places))


@case
def killed_500_times(lab):
    """Everywhere in the pager's life; prints where, as a histogram."""
    found = []
    killed_five_hundred_times(lab, lab.server().url, found)
    for deaths, ends, places in found:
        print(f"  {deaths} deaths survived, {ends} in which the job had to be ended (an agent was being put in); killed in:")
        for place, count in places.most_common():
            print(f"  {count:5d} {'#' * max(1, count * 60 // deaths)} {place}")
