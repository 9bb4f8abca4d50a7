"""Cases of bad_input.py about the job's key: where it is, and its expanded forms, in the memory of a pager that works."""
import re
import subprocess

from fault_lab import Skip, case
from faults import wait_until


@case
def keys_are_in_locked_memory_only(lab):
    """Neither a key nor its expanded form is in a mapping that is not locked, or that a core file would have."""
    if "aes" not in open("/proc/cpuinfo").read():
        raise Skip("no AES instructions: OpenSSL has keys in another form then")
    command = [lab.tools.farswap, "run", "-q", "--ram", "40M", "--swap", lab.file_url(), "--",
               lab.tools.workloads / "verify", "--size", "96M", "--operations", "100000"]
    with open(lab.output(), "wb") as out:
        job = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    lines = []

    def has_all():
        found = subprocess.run([lab.tools.farswap.parent / "find_keys", str(job.pid)], capture_output=True, text=True, check=False)
        lines[:] = found.stdout.splitlines()
        # Of the job's key, of sealing, and of opening from when a page has come back.
        return sum(line.startswith("schedule ") for line in lines) >= 3

    try:
        wait_until(lambda: has_all() or job.poll() is not None)
    finally:
        job.kill()
        job.wait()
    lab.expect(sum(line.startswith("schedule ") for line in lines) >= 3, f"expanded keys: {lines}")
    for line in lines:
        flags = re.split(r" +", line)
        lab.expect("lo" in flags and "dd" in flags, f"in memory that is not locked or is in core files: {line}")
