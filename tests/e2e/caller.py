#!/usr/bin/python3
"""farswap run as its caller sees it, with a real pager and a program that is paged: signals, job control on a terminal.

  caller.py --build DIR

Prints a line for each check; exits 1 when one failed.
"""
import argparse
import os
import pathlib
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import harness

LIMIT_S = 30
# Needs three times its cap and checks its memory after whatever happened: wrong bytes would end it with status 9.
PROGRAM = """
import os, signal, sys
size = 72 << 20
memory = bytearray(size)
for at in range(0, size, 4096): memory[at] = (at >> 12) %% 251
numbers = %s
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready", flush=True)
got = [signal.sigwait(numbers) for number in numbers]
if any(memory[at] != (at >> 12) %% 251 for at in range(0, size, 4096)): os._exit(9)
print("got", *sorted(int(number) for number in got), flush=True)
os._exit(40)
"""
LEAVES_A_DAEMON = """
import os
print(f"program {os.getpid()};", flush=True)
if os.fork() > 0: os._exit(40)
os.setsid()
"""


def as_a_shell(argv):
    """Runs argv in the foreground of this terminal and says what becomes of it; never returns."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(argv[0], argv)
    print(f"job {job};", flush=True)
    while True:
        status = os.waitpid(job, os.WUNTRACED)[1]
        if os.WIFSTOPPED(status):
            print("stopped;", flush=True)
        else:
            print(f"ended {os.waitstatus_to_exitcode(status)};", flush=True)
            os._exit(0)


class Far:
    """A program under farswap in the foreground of a terminal of its own."""

    def __init__(self, tools, store, script):
        self.shell, self.terminal = pty.fork()
        if self.shell == 0:
            as_a_shell([str(tools.farswap), "run", "--ram", "32M", "--quiet", "--swap", f"file:{store}", "--",
                        harness.PYTHON, "-c", script])
        self.text = ""
        self.wait_for(";")
        self.process = int(self.text.split("job ")[1].split(";")[0])

    def wait_for(self, word):
        deadline = time.monotonic() + LIMIT_S
        while word not in self.text:
            if not select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{word!r} did not come within {LIMIT_S} s; there was {self.text!r}")
            try:
                self.text += os.read(self.terminal, 4096).decode(errors="replace")
            except OSError as error:  # the other end is closed
                raise AssertionError(f"it ended without {word!r}; there was {self.text!r}") from error

    def end(self):
        try:
            os.kill(self.process, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.shell, 0)
        os.close(self.terminal)


def states_of(process):
    """Of farswap and the program's processes: letters of /proc/PID/stat. What is traced stops as t; the keeper does not."""
    found = subprocess.run(["ps", "--no-headers", "-o", "stat,comm", "--pid", str(process), "--ppid", str(process)],
                           capture_output=True, text=True, check=False).stdout
    return "".join(line[0].upper() for line in found.splitlines() if not line.endswith("farswap-keeper"))


def signals_are_passed_on(far):
    numbers = sorted([signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGTERM, signal.SIGRTMIN + 5])
    for number in numbers:
        os.kill(far.process, number)
    far.wait_for("got " + " ".join(str(int(number)) for number in numbers))
    far.wait_for("ended 40;")


def the_terminals_interrupt_comes_once(far):
    os.write(far.terminal, b"\x03")
    far.wait_for(f"got {int(signal.SIGINT)}")
    far.wait_for("ended 40;")


def a_stopped_job_goes_on(far):
    os.write(far.terminal, b"\x1a")
    far.wait_for("stopped;")
    assert set(states_of(far.process)) == {"T"}, states_of(far.process)
    os.kill(-far.process, signal.SIGCONT)  # as a shell does: to the whole process group
    os.kill(far.process, signal.SIGUSR1)
    far.wait_for(f"got {int(signal.SIGUSR1)}")
    far.wait_for("ended 40;")


def a_program_that_is_stopped_alone_goes_on(far):
    """As by cpulimit: who stops and continues the program knows nothing of farswap, which would sleep on."""
    program = int(subprocess.run(["pgrep", "--parent", str(far.process), "python3"], capture_output=True, text=True,
                                 check=True).stdout.split()[0])
    for _ in range(20):
        for number, letter in ((signal.SIGSTOP, "T"), (signal.SIGCONT, "S")):
            os.kill(program, number)
            deadline = time.monotonic() + LIMIT_S
            while pathlib.Path(f"/proc/{program}/stat").read_text().rpartition(")")[2].split()[0] != letter:
                assert time.monotonic() < deadline, f"the program did not become {letter}"
                time.sleep(0.01)
    assert "T" not in states_of(far.process), states_of(far.process)
    os.kill(program, signal.SIGUSR1)
    far.wait_for(f"got {int(signal.SIGUSR1)}")
    far.wait_for("ended 40;")


def what_the_program_left_is_told_to_end(far):
    """A daemon, whose terminal this is no more, and which neither Ctrl-C nor a signal to the program can reach."""
    program = int(far.text.split("program ")[1].split(";")[0])
    deadline = time.monotonic() + LIMIT_S
    while pathlib.Path(f"/proc/{program}").exists():  # until farswap has waited for it
        assert time.monotonic() < deadline, "the program did not end"
        time.sleep(0.01)
    os.write(far.terminal, b"\x03")
    os.kill(far.process, signal.SIGTERM)
    far.wait_for("got 2 15")
    far.wait_for("ended 40;")


CHECKS = {
    signals_are_passed_on: PROGRAM % "[10, 12, 14, 15, signal.SIGRTMIN + 5]",
    the_terminals_interrupt_comes_once: PROGRAM % "[2]",
    a_stopped_job_goes_on: PROGRAM % "[10]",
    a_program_that_is_stopped_alone_goes_on: PROGRAM % "[10]",
    what_the_program_left_is_told_to_end: LEAVES_A_DAEMON + PROGRAM % "[2, 15]",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    tools = harness.Tools.of_build(parser.parse_args().build)
    store = pathlib.Path(tempfile.mkdtemp(prefix="farswap-caller-", dir="/var/tmp"))
    failed = 0
    for check, program in CHECKS.items():
        far = Far(tools, store, program)
        try:
            far.wait_for("ready")
            check(far)
            left = os.listdir(store)
            assert not left, f"left in the store: {left}"
            print(f"PASS {check.__name__}", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"FAIL {check.__name__}: {error}", flush=True)
        finally:
            far.end()
    shutil.rmtree(store, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
