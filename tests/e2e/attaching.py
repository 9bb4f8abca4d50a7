"""Cases of bad_input.py in which farswap comes to programs that run already, and leaves them: what they compute stays
right, and nothing that can be seen from outside tells afterwards that it was there.
"""
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import harness
from fault_lab import REFUSED, USAGE, Skip, case

LIMIT_S = 90
SYSTEM_CALLS = {"mmap": 9, "ioctl": 16, "madvise": 28, "socket": 41, "socketpair": 53, "recvmsg": 47, "clone": 56, "ptrace": 101}  # x86-64
MIB = harness.MIB


def wait_until(holds, what, limit_s=LIMIT_S):
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"never: {what}")
        time.sleep(0.01)


def status_of(pid, label):
    """0 also when it is gone: children end while they are looked at."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(label + ":"):
                return int(line.split()[1])
    return 0


def threads_of(pid):
    return sorted(os.listdir(f"/proc/{pid}/task"))


def footprint(pid):
    """All of a process that farswap could leave something in: threads, descriptors, mappings with their flags."""
    mappings = []
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            mappings.append(line)
        elif line.startswith("VmFlags:"):
            mappings.append(line)
    descriptors = [f"{fd} {os.readlink(f'/proc/{pid}/fd/{fd}')}" for fd in sorted(os.listdir(f"/proc/{pid}/fd"))]
    return {"threads": threads_of(pid), "descriptors": descriptors, "mappings": mappings}


def differences(before, after):
    found = []
    for key in before:
        gone, new = set(before[key]) - set(after[key]), set(after[key]) - set(before[key])
        if gone or new or len(before[key]) != len(after[key]):
            found.append(f"{key}: gone {sorted(gone)[:3]}, new {sorted(new)[:3]}")
    return found


class Program:
    """A program that runs for itself; standard output in a file."""

    def __init__(self, lab, *argv, **options):
        self.lab, self.output = lab, lab.output()
        with open(self.output, "wb") as out:
            options.setdefault("stdin", subprocess.DEVNULL)
            self.process = subprocess.Popen([str(word) for word in argv], stdout=out, stderr=subprocess.STDOUT,
                                            cwd=lab.directory, start_new_session=True, **options)
        self.pid = self.process.pid
        self.enough = None
        harness.keep_nice(self.pid)
        lab.cleanup.callback(self.kill)

    def kill(self):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def text(self):
        return self.output.read_text(errors="replace")

    def wait_for(self, word):
        wait_until(lambda: word in self.text() or self.process.poll() is not None, f"{word} from {self.pid}")

    def wait_for_memory(self, mib):
        wait_until(lambda: self.process.poll() is not None or status_of(self.pid, "VmRSS") >= mib << 10, f"{mib} MiB")

    def expect_success(self, limit_s=LIMIT_S):
        if self.enough:
            self.enough.touch()
        try:
            status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.lab.expect(False, f"the program does not end:\n{harness.describe_process(self.pid)}")
            return
        self.lab.expect(status == 0, f"the program ended with {status}: {self.text()[-300:]}")


class Attached:
    """farswap attach, in the background."""

    def __init__(self, lab, *pids, ram="64M", url=None, flags=()):
        self.lab, self.output = lab, lab.output()
        with open(self.output, "wb") as out:
            self.process = subprocess.Popen(
                [str(lab.tools.farswap), "attach", "-v", "--ram", ram, "--swap", url or lab.file_url(), *flags,
                 *map(str, pids)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        harness.keep_nice(self.process.pid)
        lab.cleanup.callback(self.kill)
        wait_until(lambda: "attached to" in self.text() or self.process.poll() is not None, "attached")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def text(self):
        return self.output.read_text(errors="replace")

    def wait_until_paged(self, pid, mib):
        """Until the process has no more than so many MiB in RAM."""
        wait_until(lambda: self.process.poll() is not None or status_of(pid, "RssAnon") <= mib << 10,
                   f"{pid} down to {mib} MiB")

    def expect_end(self, limit_s=LIMIT_S):
        try:
            status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.lab.expect(False, f"the pager does not end: {self.text()[-300:]}")
            return
        self.lab.expect(status == 0, f"the pager ended with {status}: {self.text()[-300:]}")
        self.lab.expect("note" not in self.text(), f"a note: {self.text()[-400:]}")
        left = harness.listing(self.lab.store)
        self.lab.expect(not left, f"left in the store: {left}")


def detach(lab, *arguments):
    return lab.farswap("detach", *arguments, limit_s=LIMIT_S)


def verify(lab, *arguments, **options):
    """The self-checking workload; ready when its memory is filled. It goes on until it is expected to end well, and checks all
    of its memory once more then."""
    enough = lab.output()
    program = Program(lab, lab.tools.workloads / "verify", "--until", enough, "--seconds", 4 * LIMIT_S, *arguments, **options)
    program.enough = enough
    return program


@case
def attach_page_detach(lab):
    """Comes and goes three times while four threads check every byte."""
    program = verify(lab, "--size", "200M", "--threads", "4")
    program.wait_for_memory(200)
    before = footprint(program.pid)
    for _ in range(3):
        stats = lab.output()
        attached = Attached(lab, program.pid, ram="80M", flags=("--stats", str(stats)))
        attached.wait_until_paged(program.pid, 90)
        run = detach(lab, program.pid)
        lab.expect(run.status == 0, f"detach: {run.status} {run.error}")
        attached.expect_end()
        # What only came back to leave with the program was touched by nobody.
        faults = json.loads(stats.read_text())["faults"]
        parts = sum(faults[kind] for kind in ("first_touch", "second_chance", "cached", "stored"))
        lab.expect(parts <= faults["all"], f"of {faults['all']} faults {parts} are accounted for")
        if program.process.poll() is None:
            found = differences(before, footprint(program.pid))
            lab.expect(not found, f"left in the program: {found}")
    program.expect_success()


@case
def attach_over_nfs(lab):
    server = lab.server()
    program = verify(lab, "--size", "200M", "--threads", "2")
    program.wait_for_memory(200)
    attached = Attached(lab, program.pid, ram="60M", url=server.url)
    attached.wait_until_paged(program.pid, 64)
    program.expect_success()
    attached.expect_end()
    lab.expect(not harness.listing(server.store_directory()), "left on the server")


@case
def attach_to_a_tree(lab):
    """A shell and what it has started, and starts later; a signal to the pager lets all go."""
    enough = lab.output()
    inner = f"{lab.tools.workloads}/verify --size 100M --until {enough} --seconds {4 * LIMIT_S}"
    shell = Program(lab, "sh", "-c", f"{inner} & {inner} --seed 7 & sleep 2; {inner} --seed 9; wait; echo all done")
    shell.enough = enough
    wait_until(lambda: sum(status_of(pid, "VmRSS") for pid in children_of(shell.pid)) > 200 << 10, "both are filled")
    attached = Attached(lab, shell.pid, ram="80M")
    wait_until(lambda: sum(status_of(pid, "RssAnon") for pid in [shell.pid, *children_of(shell.pid)]) < 90 << 10, "paged")
    time.sleep(2)
    attached.process.send_signal(signal.SIGINT)
    attached.expect_end()
    for pid in [shell.pid, *children_of(shell.pid)]:
        with contextlib.suppress(FileNotFoundError):
            names = {pathlib.Path(f"/proc/{pid}/task/{task}/comm").read_text().strip() for task in threads_of(pid)}
            lab.expect("farswap" not in names, f"process {pid} still has an agent")
    shell.expect_success()
    lab.expect("all done" in shell.text(), "the shell went on")


def children_of(pid):
    try:
        tasks = threads_of(pid)
        return [int(child) for task in tasks
                for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def child_named(pid, name):
    for child in children_of(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == name:
                return child
    return None


@case
def detach_from_a_run(lab):
    """A job of farswap run: the program goes on by itself, and its exit status still comes through."""
    output, enough = lab.output(), lab.output()
    with open(output, "wb") as out:
        run = subprocess.Popen([str(lab.tools.farswap), "run", "--ram", "80M", "--swap", lab.file_url(), "--",
                                str(lab.tools.workloads / "verify"), "--size", "200M", "--until", enough, "--seconds", str(4 * LIMIT_S)],
                               stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    lab.cleanup.callback(run.kill)
    # Before the program, farswap has a child of its own in which it tries what the machine lets it do.
    wait_until(lambda: child_named(run.pid, "verify"), "started")
    pid = child_named(run.pid, "verify")
    wait_until(lambda: status_of(pid, "RssAnon") > 60 << 10 and harness.listing(lab.store), "paged")
    time.sleep(1)
    done = detach(lab, pid)
    lab.expect(done.status == 0, f"detach: {done.error}")
    # On a busy machine it may have been detached from before it had filled all of its memory.
    most = 0

    def came_back():
        nonlocal most
        if run.poll() is None:
            most = max(most, status_of(pid, "RssAnon"))
        return run.poll() is not None or most > 190 << 10
    wait_until(came_back, "its memory is back")
    lab.expect(most > 190 << 10, f"it had {most >> 10} MiB back when it ended")
    enough.touch()
    lab.expect(run.wait(LIMIT_S) == 0, f"status {run.returncode}: {output.read_text()[-300:]}")
    lab.expect(not harness.listing(lab.store), "left in the store")


@case
def detach_after_agents_took_turns(lab):
    """A job whose agent has ended and come again, so that a thread could be the only one: the memory of none is left."""
    output = lab.output()
    with open(output, "wb") as out:
        run = subprocess.Popen([str(lab.tools.farswap), "run", "--ram", "40M", "--swap", lab.file_url(), "--",
                                str(lab.tools.workloads / "newuser"), "--filler", "64M", "--rounds", "12"],
                               stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    lab.cleanup.callback(run.kill)
    wait_until(lambda: child_named(run.pid, "newuser"), "started")
    pid = child_named(run.pid, "newuser")
    home = os.readlink("/proc/self/ns/user")
    wait_until(lambda: os.readlink(f"/proc/{pid}/ns/user") != home, "it is in another user namespace")
    wait_until(lambda: len(threads_of(pid)) == 2, "another agent has come")
    done = detach(lab, pid)
    lab.expect(done.status == 0, f"detach: {done.error}")
    lab.expect(run.wait(LIMIT_S) == 0, f"status {run.returncode}: {output.read_text()[-300:]}")
    lab.expect("keeps" not in output.read_text(), f"left behind: {output.read_text()[-300:]}")


@case
def attached_programs_that_fork(lab):
    """Children of an attached parent: shared, rewritten, wiped, let go of in the middle."""
    for name, rounds in (("fork_tree", 1), ("fork_change", 1), ("fork_rewrite", 1), ("orphans", 2), ("wipeonfork", 1),
                         ("wipe_and_end", 6), ("mmap_race", 1), ("threads", 20)):
        program = Program(lab, lab.tools.workloads / name, "--filler", "64M", "--rounds", rounds, "--seconds", "4",
                          "--dir", lab.directory)
        time.sleep(0.1)
        attached = Attached(lab, program.pid, ram="48M")
        time.sleep(1.5)
        attached.process.send_signal(signal.SIGTERM)
        attached.expect_end()
        program.expect_success()


@case
def detach_can_be_interrupted(lab):
    """The client of a detach that takes long is ended: what had not left stays managed, and right."""
    program = verify(lab, "--size", "400M", "--threads", "2")
    program.wait_for_memory(400)
    attached = Attached(lab, program.pid, ram="64M")
    attached.wait_until_paged(program.pid, 70)
    client = subprocess.Popen([str(lab.tools.farswap), "detach", str(program.pid)], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: status_of(program.pid, "RssAnon") > 80 << 10 or client.poll() is not None, "it has begun")
    client.send_signal(signal.SIGINT)
    error = client.communicate(timeout=LIMIT_S)[1]
    if client.returncode == 0:
        raise Skip("it was done before it could be interrupted")
    lab.expect(client.returncode in (-signal.SIGINT, 128 + signal.SIGINT), f"status {client.returncode}")
    lab.expect(re.search("interrupted: .* of .* came back", error), f"says {error}")
    attached.wait_until_paged(program.pid, 80)
    attached.process.send_signal(signal.SIGTERM)
    attached.expect_end()
    program.expect_success()


@case
def attach_to_a_stopped_program(lab):
    """Ctrl-Z: its agent would be stopped, too. One of two that is stopped later does not hold up the other."""
    program = verify(lab, "--size", "100M", "--threads", "2")
    program.wait_for_memory(100)
    os.kill(program.pid, signal.SIGSTOP)
    wait_until(lambda: pathlib.Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "stopped")
    lab.expect_refusal(lab.farswap("attach", "--swap", lab.file_url(), program.pid), REFUSED, "stopped", "CONT")
    os.kill(program.pid, signal.SIGCONT)
    other = verify(lab, "--size", "100M", "--threads", "2", "--seed", "5")
    other.wait_for_memory(100)
    attached = Attached(lab, program.pid, other.pid, ram="100M")
    attached.wait_until_paged(program.pid, 60)
    os.kill(program.pid, signal.SIGSTOP)
    other.expect_success()
    os.kill(program.pid, signal.SIGCONT)
    program.expect_success()
    attached.expect_end()


@case
def attach_refusals(lab):
    def refused(pid, *words, status=REFUSED):
        run = lab.farswap("attach", "--ram", "64M", "--swap", lab.file_url(), pid, limit_s=LIMIT_S)
        lab.expect_refusal(run, status, *words)
    refused("banana", "banana", status=USAGE)
    refused("0", "process number", status=USAGE)
    lab.expect_refusal(lab.farswap("attach"), USAGE, "PID")
    lab.expect_refusal(lab.farswap("detach"), USAGE, "PID")
    ended = subprocess.Popen(["true"])
    ended.wait()
    refused(ended.pid, "no process", str(ended.pid))
    lab.expect_refusal(detach(lab, ended.pid), REFUSED, "no process")
    refused(2, "kernel")
    refused(os.getpid(), "started it")
    zombie = subprocess.Popen(["true"])
    wait_until(lambda: pathlib.Path(f"/proc/{zombie.pid}/stat").read_text().split()[2] == "Z", "a zombie")
    refused(zombie.pid, "ended")
    zombie.wait()
    sleeper = Program(lab, "sleep", "1000")
    lab.expect_refusal(detach(lab, sleeper.pid), REFUSED, "not managed")
    attached = Attached(lab, sleeper.pid)
    run = lab.farswap("attach", "--ram", "64M", "--swap", "file:" + str(lab.directory), sleeper.pid)
    lab.expect(run.status == REFUSED and "managed by farswap already" in run.error, f"twice: {run.error}")
    run = lab.farswap("attach", "--ram", "64M", "--swap", "file:" + str(lab.directory), attached.process.pid)
    lab.expect(run.status == REFUSED and "farswap" in run.error, f"a pager: {run.error}")
    attached.process.send_signal(signal.SIGINT)
    attached.expect_end()


@case
def attach_beside_a_tracer(lab):
    sleeper = Program(lab, "sleep", "1000")
    tracer = subprocess.Popen(["gdb", "-q", "-p", str(sleeper.pid)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    lab.cleanup.callback(tracer.kill)
    wait_until(lambda: status_of(sleeper.pid, "TracerPid") == tracer.pid, "traced")
    run = lab.farswap("attach", "--swap", lab.file_url(), sleeper.pid)
    lab.expect_refusal(run, REFUSED, "traced by process", "gdb")
    tracer.communicate(b"detach\nquit\n", timeout=LIMIT_S)


@case
def one_refused_pid_refuses_all(lab):
    """Two processes, the second confined: the first is let go of again."""
    plain = Program(lab, "sleep", "1000")
    confined = confined_program(lab, "strict")
    before = footprint(plain.pid)
    run = lab.farswap("attach", "--swap", lab.file_url(), plain.pid, confined.pid)
    lab.expect_refusal(run, REFUSED, "strict")
    found = differences(before, footprint(plain.pid))
    lab.expect(not found, f"left in the first: {found}")


def confined_program(lab, kind):
    """Goes on until its standard input is closed."""
    program = Program(lab, lab.tools.workloads / "confined", kind, stdin=subprocess.PIPE)
    lab.cleanup.callback(program.process.stdin.close)
    program.wait_for("ready")
    return program


@case
def attach_to_the_confined(lab):
    """Strict mode, filters that answer an errno, filters that kill: paged where the agent can work, and else refused by
    name with the program unharmed."""
    for kind in (f"errno:{SYSTEM_CALLS['socket']}", f"kill:{SYSTEM_CALLS['ptrace']}"):
        program = confined_program(lab, kind)
        attached = Attached(lab, program.pid, ram="24M")
        attached.wait_until_paged(program.pid, 20)
        program.process.stdin.close()
        program.expect_success()
        attached.expect_end()
    refused = [("strict", "strict")] + [(f"{answer}:{SYSTEM_CALLS[name]}", name) for answer, name in (
        ("errno", "recvmsg"), ("kill", "clone"), ("kill", "ioctl"), ("kill", "mmap"), ("errno", "madvise"))]
    for kind, word in refused:
        program = confined_program(lab, kind)
        run = lab.farswap("attach", "--ram", "64M", "--swap", lab.file_url(), program.pid)
        lab.expect_refusal(run, REFUSED, word, "seccomp")
        lab.expect(program.process.poll() is None, f"{kind}: the program has ended: {program.text()}")
        program.kill()


@case
def a_filter_for_all_threads(lab):
    """One that comes later (SECCOMP_FILTER_FLAG_TSYNC) and kills for what the agent does: pages are outside by then. They
    come back right, and farswap says by name what keeps the process in RAM from now on."""
    stats = lab.directory / "stats.json"
    run = lab.job(lab.file_url(), lab.tools.workloads / "tsync", "--filler", "32M", "--rounds", "2", "--extra", "narrow", ram="1G",
                  flags=["--chaos", "20000", "--pool", "4M", "--stats", stats], limit_s=LIMIT_S)
    lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}")
    lab.expect(re.search("stays in RAM.*seccomp filter that does not allow", run.error), f"does not say what is left in RAM: {run.error}")
    processes = harness.read_stats(stats).get("processes", {})
    lab.expect(processes.get("unmanaged") == 1 and processes.get("seen") == 1, f"counts {processes}")
    lab.expect_nothing_left(run)


@case
def a_confined_child_is_counted(lab):
    """What a shell starts behind a filter can have no agent: the summary says that it stayed in RAM."""
    stats = lab.directory / "stats.json"
    script = f'{lab.tools.workloads}/confined kill:{SYSTEM_CALLS["ptrace"]} 100 & {lab.tools.workloads}/confined ' + \
        f'kill:{SYSTEM_CALLS["socketpair"]} exec {lab.tools.workloads}/confined kill:{SYSTEM_CALLS["ptrace"]} 100 & wait $! && wait'
    run = lab.job(lab.file_url(), "sh", "-c", script, ram="400M", flags=["--stats", stats], limit_s=LIMIT_S)
    lab.expect(run.status == 0 and "good" in run.output.read_text(), f"exit status {run.status}: {run.last_error()}")
    processes = harness.read_stats(stats).get("processes", {})
    lab.expect(processes.get("unmanaged") == 1 and processes.get("seen") == 3, f"counts {processes}")
    lab.expect("1 of 3 processes ran without being managed" in run.error, f"says {run.error}")


@case
def a_pager_killed_while_attaching(lab):
    """At many moments between the first look and the end of the injection: the program is as before, or, when the pager
    was in the middle of its system calls, gone; never anything in between, and never left with a thread of ours."""
    def state(program):
        with contextlib.suppress(FileNotFoundError):
            return pathlib.Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return "Z"
    gone = 0
    for step in range(40):
        program = Program(lab, "sleep", "1000")
        pager = subprocess.Popen([str(lab.tools.farswap), "attach", "--ram", "64M", "--swap", lab.file_url(), "--keeper", "off",
                                  str(program.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.0015 * step)
        pager.kill()
        pager.wait()
        wait_until(lambda: state(program) in "SZ", "it sleeps on or is gone")
        if state(program) == "Z":
            lab.expect(program.process.wait(LIMIT_S) == -signal.SIGKILL, "it is gone for another reason")
            gone += 1
            continue
        wait_until(lambda: state(program) == "Z" or len(threads_of(program.pid)) == 1, "the agent has ended")
        os.kill(program.pid, signal.SIGTERM)
        lab.expect(program.process.wait(LIMIT_S) == -signal.SIGTERM, "it ends as told")
    lab.expect(gone < 20, f"{gone} of 40 are gone")
    for path in lab.store.iterdir():  # a killed pager cannot remove its file: `check --clean` can
        path.unlink()


@case
def a_program_killed_while_attaching(lab):
    for step in range(40):
        program = Program(lab, "sleep", "1000")
        output = lab.output()
        with open(output, "wb") as out:
            pager = subprocess.Popen([str(lab.tools.farswap), "attach", "--ram", "64M", "--swap", lab.file_url(),
                                      str(program.pid)], stdout=out, stderr=out)
        time.sleep(0.0015 * step)
        program.process.kill()
        try:
            status = pager.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            pager.kill()
            lab.expect(False, f"step {step}: the pager does not end")
            return
        lines = output.read_text().splitlines()
        if status == 0:
            lab.expect(len(lines) <= 1, f"step {step}: {lines}")
        else:
            lab.expect(status == REFUSED and len(lines) == 1, f"step {step}: status {status}, {lines}")
        lab.expect(not harness.listing(lab.store), f"step {step}: left in the store")
