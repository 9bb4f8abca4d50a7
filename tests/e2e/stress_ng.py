#!/usr/bin/python3
"""stress-ng's methods of exercising memory, each with its own check of what it reads, and its stressors of process trees,
threads and mappings: plainly, started by farswap and attached to; the methods under half of what each needs, the stressors
under chaos. Resumable: what has been decided is in DIR/stress_ng.json and is not run again.

  stress_ng.py --build DIR [--only ROW,...] [--ways run,attach] [--jobs N] [--limit S] [--report DIR]

Prints a line for each row; exits 1 when one that passes plainly did not pass.
"""
import argparse
import shutil
import subprocess
import sys

import resumable

LIMIT_S = 300
SKIPPED = 77
VM_BYTES_MIB = 64
VM_OPERATIONS = {"all": 200}
# Some need little memory: all are run under chaos, and what has no limit of its own is given one by prlimit(1).
# mmapfork is not here: it takes all that the machine has.
STRESSORS = {
    "mremap": ["--mremap", "2", "--mremap-bytes", "32M", "--mremap-ops", "100"],
    "fork": ["--fork", "2", "--fork-ops", "400"],
    "fork-vm": ["--fork", "2", "--fork-vm", "--fork-ops", "200"],
    "vfork": ["--vfork", "2", "--vfork-ops", "400"],
    "clone": ["--clone", "2", "--clone-max", "16", "--clone-ops", "400"],
    "pthread": ["--pthread", "2", "--pthread-max", "16", "--pthread-ops", "2000"],
    "brk": ["--brk", "2", "--brk-ops", "60000"],
    "stack": ["--stack", "2", "--stack-fill", "--stack-ops", "10"],
    "bigheap": ["--bigheap", "2", "--bigheap-growth", "1M", "--bigheap-ops", "300"],
    "madvise": ["--madvise", "2", "--madvise-ops", "40"],
}
CHAOS = ["--chaos", "2000", "--pool", "4M", "--ram", "2G"]
ADDRESS_SPACE_MAX = 512 << 20
STARTER = 'if [ -n "$0" ]; then read go <"$0"; fi; exec "$@"'


def methods():
    """What this stress-ng knows: it lists them when it is given one that it does not know."""
    said = subprocess.run(["stress-ng", "--vm", "1", "--vm-method", "which"], capture_output=True, text=True, check=False)
    _, _, names = (said.stdout + said.stderr).partition("must be one of:")
    return names.split()


class Job(resumable.Job):
    SLACK_S = 240  # some methods go over their memory at random: each step is a page from the store

    def flags(self, row):
        return CHAOS if row in STRESSORS else ["--ram", f"{VM_BYTES_MIB // 2}M"]

    def command(self, row, pipe):
        if row in STRESSORS:
            words = STRESSORS[row]
        else:
            method = row.removeprefix("vm-")
            words = ["--vm", "1", "--vm-bytes", f"{VM_BYTES_MIB}M", "--vm-method", method, "--vm-ops", str(VM_OPERATIONS.get(method, 1))]
        return ["sh", "-c", STARTER, pipe, "prlimit", f"--as={ADDRESS_SPACE_MAX}", "stress-ng", *words, "--verify", "--timeout",
                str(self.options.limit // 4), "--temp-path", str(self.work), "--quiet"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    resumable.add_options(parser, LIMIT_S)
    options = parser.parse_args()
    if not shutil.which("stress-ng"):
        print("stress_ng: stress-ng is not installed (script/bootstrap suites)")
        return SKIPPED
    rows = options.only or [*(f"vm-{name}" for name in methods()), *STRESSORS]
    return resumable.main("stress_ng", Job, options, rows)


if __name__ == "__main__":
    sys.exit(main())
