"""Cases of bad_input.py about farswap size: what it says of programs whose need is known, of jobs that run, and when it says
that it cannot say.
"""
import json
import os
import pathlib
import signal
import subprocess
import time

from attaching import Attached, Program, wait_until
from fault_lab import REFUSED, USAGE, case

MIB = 1 << 20


def size(lab, *program, flags=()):
    """The run, and `size` of its statistics."""
    stats = lab.directory / "size.json"
    run = lab.farswap("size", "--swap", lab.file_url(), "--stats", stats, *flags, "--", *program, limit_s=150)
    lab.expect_nothing_left(run)
    return run, json.loads(stats.read_text())


@case
def size_of_a_known_working_set(lab):
    """All of 96 MiB is touched at random: it needs just that, and no cap below is nearly as good."""
    run, stats = size(lab, lab.tools.workloads / "verify", "--size", "96M", "--operations", "30000", "--pattern", "random")
    found = stats["size"]
    lab.expect(run.status == 0 and found["verdict"] == "known", f"{run.status} {found['verdict']} {run.error[-300:]}")
    lab.expect("within 5% of full speed" in run.error.splitlines()[-1], f"no sentence: {run.error[-300:]}")
    plot = [line for line in run.error.splitlines() if "##" in line]
    lab.expect(len(plot) > 8 and all(len(line) < 80 for line in plot), f"the plot: {plot}")
    lab.expect(found["nearly_full_bytes"] and 80 * MIB < found["nearly_full_bytes"] < 150 * MIB, f"nearly full: {found}")
    lab.expect(found["full_speed_s"] < stats["elapsed_s"] / 1.5, f"it was slowed by nothing: {found}")
    caps = [point["seconds"] for point in found["curve"]]
    lab.expect(caps == sorted(caps, reverse=True), f"slower with more memory: {caps}")


@case
def size_of_too_little(lab):
    """Of a program that ends at once, and of one that has room: one line says that there were too few misses."""
    roomy = [lab.tools.workloads / "verify", "--size", "20M", "--operations", "100"]
    for program, flags in ((["true"], []), (roomy, ["--ram", "256M"])):
        run, stats = size(lab, *program, flags=["-q", *flags])
        lab.expect(run.status == 0, f"{run.status} {run.error}")
        lab.expect(run.error.count("\n") == 1 and "too few misses to predict" in run.error, f"it says: {run.error!r}")
        found = stats["size"]
        lab.expect(found["curve"] == [] and found["nearly_full_bytes"] is None, f"a curve of nothing: {found}")


@case
def size_that_makes_no_sense(lab):
    lab.expect_refusal(lab.farswap("size"), USAGE, "no program given", "farswap size PROGRAM")
    lab.expect_refusal(lab.farswap("size", "--ram", "1M", "true"), USAGE, "--ram 1.0 MiB is too small")
    lab.expect_refusal(lab.farswap("size", "--ram", "much", "true"), USAGE, "--ram")
    lab.expect_refusal(lab.farswap("size", "--swap", "file:/no/such/folder/x", "true"), REFUSED, "does not exist")
    run = lab.farswap("size", "--swap", lab.file_url(), "/no/such/program")
    lab.expect(run.status == 127 and "predict" not in run.error, f"{run.status} {run.error}")
    lab.expect_refusal(lab.farswap("size", "--limit", "0", "true"), USAGE, "--limit")
    lab.expect_refusal(lab.farswap("size", "--json", "true"), USAGE, "--json goes with a PID")


@case
def size_with_a_limit(lab):
    """A run that would go on for minutes ends in time, with the curve of what it has done by then."""
    stats = lab.directory / "size.json"
    began = time.monotonic()
    run = lab.farswap("size", "--limit", "8", "--swap", lab.file_url(), "--stats", stats, "--", lab.tools.workloads / "verify",
                      "--size", "96M", "--seconds", "600", "--pattern", "random", limit_s=150)
    took = time.monotonic() - began
    lab.expect(run.status == 124 and took < 60, f"{run.status} after {took:.0f} s: {run.error[-300:]}")
    lab.expect_nothing_left(run)
    lines = [line for line in run.error.splitlines() if "--limit" in line]
    words = "verify was ended after 8 s (--limit): what is predicted is for what it has done by then"
    lab.expect(len(lines) == 1 and words in lines[0], f"it says: {lines}")
    found = json.loads(stats.read_text())
    lab.expect(found["size"]["verdict"] == "known" and "within 5% of full speed" in run.error.splitlines()[-1],
               f"no curve: {run.error[-300:]}")
    lab.expect(found["exit"]["status"] == 124 and "--limit" in found["failure"],
               f"the statistics say {found['exit']} {found['failure']}")
    run = lab.farswap("size", "-q", "--limit", "60", "--swap", lab.file_url(), "--", "sh", "-c", "exit 3")
    lab.expect(run.status == 3 and "--limit" not in run.error, f"one that ends before: {run.status} {run.error}")


def curve_of(lab, pid):
    run = lab.farswap("size", "--json", pid)
    lab.expect(run.status == 0 and not run.error, f"size --json: {run.status} {run.error}")
    return json.loads(run.output.read_text() or "{}")


def expect_curve_in_time(lab, pid, cap_mib):
    """Of a job that touches 96 MiB at random under a smaller cap."""
    # Enough at one moment may be too few at the next: when the table of followed pages is full, every other one is dropped.
    # It has to have touched all, and pages have to have come and gone: what comes back first had left all at once, as the cap
    # began to hold, and by that no cap below the need helps.
    found, lines = {}, []

    def known():
        found.update(curve_of(lab, pid))
        run = lab.farswap("size", pid)
        lab.expect(run.status == 0 and not run.error, f"{run.status} {run.error}")
        lines[:] = run.output.read_text().splitlines()
        whole = found.get("verdict") == "known" and found["need_bytes"] > 90 * MIB
        return whole and found["nearly_full_bytes"] and len(lines) > 1
    wait_until(known, "enough misses")
    lab.expect(found["process"] == pid and found["cap_bytes"] == cap_mib * MIB, f"another job or cap: {found}")
    lab.expect(found["nearly_full_bytes"] and 80 * MIB < found["nearly_full_bytes"] < 150 * MIB, f"nearly full: {found}")
    plot = [line for line in lines if "##" in line]
    lab.expect(len(plot) > 5 and all(len(line) < 80 for line in plot), f"the plot: {lines}")
    lab.expect("within 5% of full speed" in lines[-1] and f"with {cap_mib} MiB, as it has now" in lines[-1],
               f"no sentence: {lines[-1:]}")
    return found


@case
def size_of_a_running_job(lab):
    """Of run and of attach, while they run; the program notices nothing, and more can be said later."""
    enough = lab.output()
    verify = [lab.tools.workloads / "verify", "--size", "96M", "--until", enough, "--seconds", "200", "--pattern", "random"]
    job = Program(lab, lab.tools.farswap, "run", "-q", "--ram", "40M", "--swap", lab.file_url(), "--", *verify)
    pids = []

    def found():
        for one in json.loads(lab.farswap("top", "--json", "--interval", "0.1").output.read_text()):
            if one["pager"] == job.pid:
                pids[:] = one.get("processes", {}).get("pids", [])
        return pids
    wait_until(found, "the job")
    pid = pids[0]
    first = expect_curve_in_time(lab, pid, 40)
    lab.expect(first["pager"] == job.pid, f"the pager is {job.pid}: {first}")
    wait_until(lambda: curve_of(lab, pid).get("misses", 0) > first["misses"], "more misses")
    enough.touch()
    job.expect_success()
    lab.expect("farswap" not in job.text(), f"the job says {job.text()[-300:]}")
    enough.unlink()
    attached = Program(lab, *verify)
    attached.wait_for_memory(96)
    pager = Attached(lab, attached.pid, ram="48M")
    expect_curve_in_time(lab, attached.pid, 48)
    enough.touch()
    attached.expect_success()
    pager.expect_end()


@case
def size_of_what_cannot_be_asked(lab):
    """One line each: no such process, one that nobody pages, one with room, a pager that is stopped, and an interruption."""
    def expect_line(run, *words):
        good = run.status == REFUSED and run.error.count("\n") == 1 and all(word in run.error for word in words)
        lab.expect(good and not run.output.read_text(), f"exit status {run.status}: {run.error!r}")
    expect_line(lab.farswap("size", 4194305), "there is no process 4194305")
    expect_line(lab.farswap("size", os.getpid()), f"process {os.getpid()} is not managed")
    for words in (["0"], ["12", "13"], ["12", "--ram"], ["--ram", "1G", "12"]):
        lab.expect_refusal(lab.farswap("size", *words), USAGE, "size")
    program = Program(lab, lab.tools.workloads / "verify", "--size", "40M", "--seconds", "60")
    program.wait_for_memory(40)
    pager = Attached(lab, program.pid, ram="256M")
    run = lab.farswap("size", program.pid)
    words = "size: too few misses to predict (0): so far it needs no more than the cap that it has"
    lab.expect(run.status == 0 and run.output.read_text().startswith(words) and run.output.read_text().count("\n") == 1,
               f"with room: {run.status} {run.output.read_text()} {run.error}")
    os.kill(pager.process.pid, signal.SIGSTOP)
    try:
        asker = subprocess.Popen([lab.tools.farswap, "size", str(program.pid)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        status = pathlib.Path(f"/proc/{asker.pid}/status")
        wait_until(lambda: "SigCgt:\t0000000000000000" not in status.read_text(), "its handlers")
        asker.send_signal(signal.SIGINT)
        output, error = asker.communicate(timeout=30)
        lab.expect(asker.returncode == -signal.SIGINT and error == "farswap: interrupted\n" and not output,
                   f"interrupted: {asker.returncode} {error!r} {output!r}")
        expect_line(lab.farswap("size", program.pid), "does not answer")
    finally:
        os.kill(pager.process.pid, signal.SIGCONT)
    descriptors = len(os.listdir(f"/proc/{pager.process.pid}/fd"))
    for _ in range(20):
        lab.farswap("size", program.pid)
    wait_until(lambda: len(os.listdir(f"/proc/{pager.process.pid}/fd")) <= descriptors, "descriptors to be closed")
    askers = [subprocess.Popen([lab.tools.farswap, "size", str(program.pid)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True) for _ in range(6)]
    program.kill()
    for asker in askers:
        _, error = asker.communicate(timeout=30)
        lab.expect((asker.returncode == 0 and not error) or (asker.returncode == REFUSED and error.count("\n") == 1),
                   f"its job ends meanwhile: {asker.returncode} {error!r}")
    pager.expect_end()
