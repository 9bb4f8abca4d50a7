#!/usr/bin/python3
"""CPU time of the pager for a fault that brings a page back, beside memcpy of a page in the same run.

  fault_cpu.py --farswap PROGRAM --touch-pages PROGRAM --swap URL [--rounds N]

A program touches pages at random under a quarter of its memory; the time of all threads of the pager (schedstat) in a run of
few accesses is taken from that in a run of many, and so are the faults. So what it costs to fill the memory at first is not in
it; what it costs to make room is: each page that comes back has another one leave.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy

SIZE_MIB, FEW, MANY = 128, 2000, 42000


def cpu_of(pid):
    """Nanoseconds, of all threads that live."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir())


def run(options, content, accesses, directory):
    stats = pathlib.Path(directory) / "stats.json"
    program = [options.touch_pages, "--size", f"{SIZE_MIB}M", "--content", content, "--accesses", str(accesses), "--warm-up", "0"]
    pager = subprocess.Popen([options.farswap, "run", "-q", "--ram", f"{SIZE_MIB // 4 + 8}M", "--swap", options.swap,
                              "--stats", stats, "--", *program, "random:0:1"], stdout=subprocess.DEVNULL)
    cpu = 0
    while pager.poll() is None:
        try:
            cpu = max(cpu, cpu_of(pager.pid))
        except (OSError, IndexError):
            pass
        time.sleep(0.005)
    assert pager.returncode == 0, f"exit status {pager.returncode}"
    faults = json.loads(stats.read_text())["faults"]
    return cpu / 1000, faults["stored"] + faults["cached"] + faults.get("second_chance", 0)


def memcpy_us():
    source, target = (numpy.ones(1024 * 4096, numpy.uint8) for _ in range(2))
    began = time.process_time_ns()
    for _ in range(50):
        numpy.copyto(target, source)
    return (time.process_time_ns() - began) / 1000 / 50 / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--farswap", "--touch-pages", "--swap"):
        parser.add_argument(name, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| content | faults a run | us of CPU a fault, median (least to most) | memcpy of a page, us | of memcpy's | load |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as directory:
        for content in ("incompressible", "half"):
            costs, copies, counts = [], [], []
            for _ in range(options.rounds):
                copies.append(memcpy_us())
                cpu_few, faults_few = run(options, content, FEW, directory)
                cpu_many, faults_many = run(options, content, MANY, directory)
                counts.append(faults_many - faults_few)
                costs.append((cpu_many - cpu_few) / counts[-1])
            cost, copy = statistics.median(costs), statistics.median(copies)
            spread = f"{cost:.1f} ({min(costs):.1f} to {max(costs):.1f})"
            load = os.getloadavg()[0]
            print(f"| {content} | {statistics.median(counts):.0f} | {spread} | {copy:.3f} | {cost / copy:.0f} | {load:.0f} |",
                  flush=True)


if __name__ == "__main__":
    main()
