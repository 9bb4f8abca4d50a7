"""Reads what the virtual machine reported on its console (guest.sh says how), judges it, and writes the table of the
jobs. Knows nothing of how the machine is made or started.
"""
import contextlib
import dataclasses
import json
import re

MIB = 1 << 20


@dataclasses.dataclass
class Job:
    """One program: what it had to do, and what it did in the machine. Sizes in bytes."""
    name: str
    digest: str       # of the output of a plain run here
    plain_s: float
    status: int = -1  # -1: no result
    got: str = ""
    seconds: int = 0
    stats: dict = dataclasses.field(default_factory=dict)

    def memory(self, key):
        return self.stats.get("memory", {}).get(f"{key}_bytes", 0)

    def pages(self, key):
        return self.stats.get("pages", {}).get(key, 0)

    def problems(self, need, machine_ram):
        if self.status < 0:
            return [f"{self.name}: no result"]
        found = []
        if self.status != 0 or self.got != self.digest:
            found.append(f"{self.name}: status {self.status}, digest {self.got} instead of {self.digest}")
        # A job that fits would show nothing.
        if self.memory("need") < need:
            found.append(f"{self.name}: needed {self.memory('need') // MIB} MiB, not {need // MIB}")
        if not 0 < self.memory("cap") < machine_ram:
            found.append(f"{self.name}: a cap of {self.memory('cap') // MIB} MiB")
        return found


def fill_in(jobs, lines):
    """What the console said of each job."""
    by_name = {job.name: job for job in jobs}
    for line in lines:
        kind, _, rest = line.partition(" ")
        name, _, rest = rest.partition(" ")
        job = by_name.get(name)
        words = rest.split()
        if job and kind == "result" and len(words) == 3:
            job.status, job.got, job.seconds = int(words[0]), words[1], int(words[2])
        elif job and kind == "stats":
            with contextlib.suppress(ValueError):
                job.stats = json.loads(rest)


def judge(jobs, lines, need, machine_ram):
    """Whether all jobs ended well in a machine of the right kind; what was wrong."""
    fill_in(jobs, lines)
    found = [problem for job in jobs for problem in job.problems(need, machine_ram)]
    if "oom 0 0" not in lines:
        found.append("the kernel killed for memory, or the machine did not get that far")
    if not any(re.match(r"ready 6\.12.* swaps 0$", line) for line in lines):
        found.append("not Debian's 6.12 without swap")
    return found


def table(jobs, lines, machine_ram):
    """Markdown: the machine in a line, then a row for each job."""
    kernel = next((line.split()[1] for line in lines if line.startswith("ready ")), "none")
    kills = next((line.split()[1] for line in lines if line.startswith("oom ")), "not told")
    text = [f"Virtual machine: Linux {kernel}, {machine_ram // MIB} MiB RAM, no swap; OOM kills: {kills}.", "",
            "| job | output | status | need MiB | cap MiB | peak MiB | pages out | pages in | s in the machine | s plain here |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for job in jobs:
        sizes = " | ".join(str(job.memory(key) // MIB) for key in ("need", "cap", "peak"))
        output = "equal" if job.got == job.digest else "DIFFERENT" if job.got else "none"
        text.append(f"| {job.name} | {output} | {job.status} | {sizes} | {job.pages('out')} | {job.pages('in')} | "
                    f"{job.seconds} | {job.plain_s:.1f} |")
    return "\n".join(text) + "\n"
