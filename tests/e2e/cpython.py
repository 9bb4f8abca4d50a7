#!/usr/bin/python3
"""CPython's own test suite (Debian's libpython3.11-testsuite) plainly and under chaos, started by farswap and attached to:
whatever passes plainly must pass. Resumable: what has been decided is in DIR/cpython.json and is not run again.

  cpython.py --build DIR [--only MODULE,...] [--ways run,attach] [--rate PAGES] [--report DIR]

Prints a line for each module; exits 1 when one that passes plainly did not pass.
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import harness

PYTHON = harness.PYTHON
LIMIT_S = 900
SKIPPED = 77
# What needs a screen, hours, gigabytes or other machines, or tests the machine more than Python.
LEFT_OUT = {"test_bigmem", "test_bigaddrspace", "test_idle", "test_tk", "test_ttk_guionly", "test_ttk_textonly", "test_tix",
            "test_turtle", "test_winreg", "test_winsound", "test_msilib", "test_ossaudiodev", "test_smtpnet", "test_timeout"}


def modules():
    listed = subprocess.run([PYTHON, "-m", "test", "--list-tests"], capture_output=True, text=True, check=False)
    return [name for name in listed.stdout.split() if name.startswith("test_") and name not in LEFT_OUT]


class Suite:
    def __init__(self, tools, directory, options):
        self.tools, self.directory, self.options = tools, directory, options
        self.store = directory / "store"
        self.store.mkdir()
        self.path = options.report / "cpython.json"
        self.verdicts = json.loads(self.path.read_text()) if self.path.exists() else {}

    def flags(self):
        return ["--chaos", str(self.options.rate), "--pool", "4M", "--ram", "4G", "--swap", f"file:{self.store}", "--quiet"]

    def command(self, module):
        return [PYTHON, "-m", "test", "-W", "--timeout", str(LIMIT_S - 60), module]

    def plain(self, module):
        return harness.run(self.command(module), self.directory / "plain", limit_s=LIMIT_S, cwd=self.directory)

    def under_run(self, module):
        return harness.run([self.tools.farswap, "run", *self.flags(), "--", *self.command(module)], self.directory / "run",
                           limit_s=LIMIT_S, cwd=self.directory)

    def attached(self, module):
        """The pager comes as soon as the process is there, and must see it off."""
        script = '"$@" & pid=$!; ' + " ".join(map(str, [self.tools.farswap, "attach", *self.flags()])) + \
            ' $pid & pager=$!; wait $pid; status=$?; wait $pager; exit $status'
        return harness.run(["sh", "-c", script, "sh", *self.command(module)], self.directory / "attach", limit_s=LIMIT_S,
                           cwd=self.directory)

    def decide(self, module):
        verdict = {"plain": self.outcome(self.plain(module))}
        ways = {"run": self.under_run, "attach": self.attached}
        for way in self.options.ways:
            if verdict["plain"] == "pass":
                verdict[way] = self.outcome(ways[way](module))
        return verdict

    @staticmethod
    def outcome(run):
        if run.timed_out:
            return f"not done after {LIMIT_S} s"
        if run.left:
            return "left running: " + "; ".join(run.left)
        return "pass" if run.status == 0 else f"exit status {run.status}: {run.output.read_text(errors='replace')[-2000:]}"

    def run(self, names):
        for number, module in enumerate(names, 1):
            if module not in self.verdicts:
                self.verdicts[module] = self.decide(module)
                self.path.write_text(json.dumps(self.verdicts, indent=1) + "\n")
            verdict = self.verdicts[module]
            print(f"[{number}/{len(names)}] {module}: " + ", ".join(f"{way} {text.splitlines()[0][:80]}"
                                                                  for way, text in verdict.items()), flush=True)

    def failures(self, names):
        return [f"{module} {way}" for module in names for way, text in self.verdicts[module].items()
                if way != "plain" and text != "pass"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--ways", type=lambda text: text.split(","), default=["run", "attach"])
    parser.add_argument("--rate", type=int, default=300, help="pages a second that leave at random")
    parser.add_argument("--report", type=pathlib.Path)
    parser.add_argument("--directory", default="/var/tmp")
    options = parser.parse_args()
    options.report = options.report or pathlib.Path(options.build) / "e2e" / "cpython"
    options.report.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tools = harness.Tools.of_build(options.build)
    names = options.only or modules()
    if not names:
        print("cpython: its test suite is not installed (script/bootstrap suites)")
        return SKIPPED
    directory = pathlib.Path(tempfile.mkdtemp(prefix="farswap-cpython-", dir=options.directory))
    started = time.monotonic()
    suite = Suite(tools, directory, options)
    try:
        suite.run(names)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    failed = suite.failures(names)
    passed_plainly = sum(suite.verdicts[name]["plain"] == "pass" for name in names)
    print(f"cpython: {passed_plainly} of {len(names)} modules pass plainly, {len(failed)} did not under farswap, "
          f"{time.monotonic() - started:.0f} s" + "".join(f"\n  {name}" for name in failed))
    return 1 if failed or not passed_plainly else 0


if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    sys.exit(main())
