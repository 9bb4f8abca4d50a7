"""Cases of bad_input.py about the job's key: where it is, and its expanded forms, in the memory of a pager that works, and in
that of all who go on when it was killed.
"""
import os
import pathlib
import re
import signal
import select
import subprocess
import time

from fault_lab import Skip, case
from faults import wait_until
from killed import checking_job, state_of
from users import Helper, User

DEATHS = 10
# Of the kills, those that have to have hit a pager in OpenSSL's code: there round keys are in its registers.
DEATHS_WHILE_SEALING = 7


def need_instructions_for_aes():
    if "aes" not in open("/proc/cpuinfo").read():
        raise Skip("no AES instructions: OpenSSL has keys in another form then")


def find_keys(lab, *processes):
    """A line for each place: what it is, the process, the address, the mapping's flags and name."""
    found = subprocess.run([lab.tools.farswap.parent / "find_keys", *map(str, processes)], capture_output=True, text=True,
                           check=False)
    return found.stdout.splitlines()


def schedules(lines):
    return [line for line in lines if line.startswith("schedule ")]


def expect_locked(lab, lines):
    for line in lines:
        flags = re.split(r" +", line)
        lab.expect("lo" in flags and "dd" in flags, f"in memory that is not locked or is in core files: {line}")


@case
def keys_are_in_locked_memory_only(lab):
    """Neither a key nor its expanded form is in a mapping that is not locked, or that a core file would have."""
    need_instructions_for_aes()
    command = [lab.tools.farswap, "run", "-q", "--ram", "40M", "--swap", lab.file_url(), "--",
               lab.tools.workloads / "verify", "--size", "96M", "--operations", "100000"]
    with open(lab.output(), "wb") as out:
        job = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    lines = []

    def has_all():
        lines[:] = find_keys(lab, job.pid)
        # Of the job's key, of sealing, and of opening from when a page has come back.
        return len(schedules(lines)) >= 3

    try:
        wait_until(lambda: has_all() or job.poll() is not None)
    finally:
        job.kill()
        job.wait()
    lab.expect(len(schedules(lines)) >= 3, f"expanded keys: {lines}")
    expect_locked(lab, lines)


def place_in(process):
    """The name of the mapping whose code the main thread, which is stopped, executes; "": it is in a system call."""
    words = pathlib.Path(f"/proc/{process}/syscall").read_text().split()
    if words[0] != "-1":
        return ""
    place = int(words[2], 16)
    for line in pathlib.Path(f"/proc/{process}/maps").read_text().splitlines():
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        if start <= place < end:
            return line.split()[-1]
    return ""


def stop_while_it_seals(job, limit_s=20):
    """Stops the pager again and again until that was in OpenSSL's code, and leaves it stopped. False: it never was."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and not job.is_over():
        os.kill(job.pager, signal.SIGSTOP)
        wait_until(lambda: state_of(job.pager) in ("t", "T", "Z", ""))
        if "libcrypto" in place_in(job.pager):
            return True
        os.kill(job.pager, signal.SIGCONT)
        time.sleep(0.0007)
    return False


def processes_of(job):
    """All that live of the job: the programs, the keeper and the pager."""
    programs = {int(line.split()[0]) for line in job.left()}
    return sorted(programs | {job.keeper, job.pager})


@case
def killed_pagers_leave_no_keys(lab):
    """Killed while it seals, a pager has round keys in its registers, which the keeper reads and gives to the heir. What was kept
    for that is locked and wiped, and no process of the job has anything of it elsewhere. The same after the death of each heir.
    """
    need_instructions_for_aes()
    job = checking_job(lab, flags=("--compress", "off"))
    job.wait_until_paged(60)
    sealed = 0
    for death in range(1, DEATHS + 1):
        sealed += stop_while_it_seals(job)
        if not lab.expect(not job.is_over() and job.kill_pager(), f"nobody goes on after {death} deaths: {job.errors()[-300:]!r}"):
            return
        # What was kept of the registers is wiped by the heir's first instructions, and this line comes long after.
        wait_until(lambda: f"process {job.pager} pages on" in job.errors(), 60)
        lines = find_keys(lab, *processes_of(job))
        lab.expect(len(schedules(lines)) >= 2 * 3, f"after {death} deaths, expanded keys: {lines}")
        expect_locked(lab, lines)
        # In locked memory neither: the registers that were kept would lie there until the next death.
        rounds = [line for line in lines if line.startswith("round ")]
        if not lab.expect(not rounds, f"after {death} deaths, what was in registers: {rounds[:4]}"):
            return
    lab.expect(sealed >= DEATHS_WHILE_SEALING, f"only {sealed} of {job.deaths} pagers were killed while they sealed a page")
    job.expect_success()


# Pages that get smaller: lz4 copies what it has not seen yet in a page as it is. Written backwards in the program, whose text is in
# the pager's arguments.
SECRET = b"to be read by nobody else 0123456789"
WITH_SECRETS = f"""
import mmap, sys
secret = {SECRET[::-1]!r}[::-1]
size = 4096 * 16384
memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, size, 4096):
    memory[at:at + 52] = b"%08d" % (at // 4096) * 2 + secret
print("filled", flush=True)
sys.stdin.read()
assert all(memory[at + 16:at + 52] == secret for at in range(0, size, 4096))
"""


def mappings_of(process):
    """Each mapping of its memory: range, whether it is locked, and its line."""
    mapping = None
    for line in pathlib.Path(f"/proc/{process}/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line):
            mapping = int(found[1], 16), int(found[2], 16), line
        elif line.startswith("VmFlags:") and mapping is not None:
            flags = line.split()
            if "io" not in flags and "pf" not in flags:  # not of devices
                yield (*mapping[:2], "lo" in flags, mapping[2])
            mapping = None


def count_secrets(process):
    """How often the secret is in locked memory, and the mappings that are not locked and have it."""
    locked, others = 0, []
    with open(f"/proc/{process}/mem", "rb") as memory:
        for start, end, is_locked, line in mappings_of(process):
            for at in range(start, end, 16 << 20):
                try:
                    memory.seek(at)
                    count = memory.read(min(end - at, 16 << 20)).count(SECRET)
                except OSError:
                    continue  # one that has just gone, or vvar
                locked += count if is_locked else 0
                if count > 0 and not is_locked:
                    others.append(f"{count} times in {line}")
    return locked, others


@case
def pages_in_the_clear_are_in_locked_memory_only(lab):
    """Under the usual limit on locked memory, which a pool as large as it should be would exceed: pages are in the clear only where
    the kernel does not write them to its own swap, by whichever way they are compressed, and with no store at all."""
    helper = Helper(lab, "--allow-uid", "65534")
    user = User(lab, helper.path)
    for flags in (["--swap", lab.file_url()], ["--swap", lab.file_url(), "--compress", "zstd"], ["--swap", "none"]):
        command = [*user.prefix, user.program, "run", "--ram", "32M", "--pool", "12M", *flags, "--", "/usr/bin/python3", "-c",
                   WITH_SECRETS]
        errors = lab.output()
        with open(errors, "wb") as log:
            job = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                   env=user.environment, cwd="/")
        try:
            said = job.stdout.readline() if select.select([job.stdout], [], [], 60)[0] else b""
            lab.expect(said == b"filled\n", f"{flags}: the program said {said}: {errors.read_text()}")
            locked, others = count_secrets(job.pid)
            job.stdin.close()
            lab.expect(job.wait(60) == 0, f"{flags}: ends with {job.returncode}: {errors.read_text()}")
        finally:
            job.kill()
            job.wait()
            job.stdout.close()
        lab.expect(locked > 0, f"{flags}: nothing was found in locked memory either")
        lab.expect(not others, f"{flags}: in memory that is not locked: {others}")
        lab.expect("instead of 12 MiB" in errors.read_text(), f"{flags}: the summary does not say that: {errors.read_text()}")


@case
def without_locked_memory_nothing_is_sealed(lab):
    """A limit that holds not even the smallest pool: refused with what to do, unless pages need not be sealed."""
    helper = Helper(lab, "--allow-uid", "65534")
    user = User(lab, helper.path)
    # io_uring's rings count, too, and the kernel gives those of jobs that have ended back when it likes.
    around = ["env", "FARSWAP_IO_ENGINE=epoll", "prlimit", "--memlock=1048576:1048576"]
    run = user.farswap("run", "--ram", "40M", "--swap", lab.file_url(), "--", "true", around=around)
    lab.expect(run.status == 125, f"ends with {run.status}: {run.error}")
    for word in ("cannot lock", "ulimit -l", "--seal off"):
        lab.expect(word in run.error, f"does not say {word!r}: {run.error}")
    lab.expect(len(run.error.splitlines()) == 1, f"more than a line: {run.error}")
    run = user.farswap("run", "--ram", "40M", "--seal", "off", "--swap", lab.file_url(), "--", user.workload("verify"),
                       "--size", "64M", "--operations", "1000", around=around)
    lab.expect(run.status == 0, f"--seal off: ends with {run.status}: {run.error}")
    lab.expect("not locked" in run.error, f"--seal off: does not say that the pool is not locked: {run.error}")
    lab.expect_nothing_left(run)
