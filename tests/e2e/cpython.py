#!/usr/bin/python3
"""CPython's own test suite (Debian's libpython3.11-testsuite) plainly and under chaos, started by farswap and attached to:
whatever passes plainly must pass. Resumable: what has been decided is in DIR/cpython.json and is not run again.

  cpython.py --build DIR [--only MODULE,...] [--ways run,attach] [--rate PAGES] [--jobs N] [--limit S] [--report DIR]

Prints a line for each module; exits 1 when one that passes plainly did not pass.
"""
import argparse
import os
import subprocess
import sys

import resumable
from harness import PYTHON

LIMIT_S = 900
# For a single test. The deadlines inside of tests are parts of it (support.SHORT_TIMEOUT a fortieth): a busy machine needs longer ones.
TEST_LIMIT_S = 3600
SKIPPED = 77
# What needs a screen, hours, gigabytes or other machines, or tests the machine more than Python.
LEFT_OUT = {"test_bigmem", "test_bigaddrspace", "test_idle", "test_tk", "test_ttk_guionly", "test_ttk_textonly", "test_tix",
            "test_turtle", "test_winreg", "test_winsound", "test_msilib", "test_ossaudiodev", "test_smtpnet", "test_timeout"}

# Cases of a module: to itself a virtual machine may not be able to connect by vsock, and then waits for ever, plainly, too.
LEFT_OUT_OF = {"test_socket": ["ThreadedVSOCKSocketStreamTest"]}


# What a pager could break soonest comes first: processes, threads, signals, memory, descriptors.
FIRST = """fork1 mmap os posix subprocess signal threading thread threadsignals threading_local wait3 wait4 resource faulthandler gc
ctypes io fcntl select selectors poll epoll socket asyncio concurrent_futures multiprocessing_fork multiprocessing_forkserver
multiprocessing_spawn multiprocessing_main_handling shutil tempfile pty openpty posixpath cmd_line capi sys syslog pdb gdb popen
pickle marshal array memoryio memoryview buffer bytes zlib bz2 lzma sqlite3 ssl hashlib decimal float long re json struct embed
tracemalloc weakref dict list set generators coroutines asyncgen atexit queue sched time eintr ioctl pipes process_pool""".split()


def modules():
    listed = subprocess.run([PYTHON, "-m", "test", "--list-tests"], capture_output=True, text=True, check=False)
    names = [name for name in listed.stdout.split() if name.startswith("test_") and name not in LEFT_OUT]
    place = {f"test_{name}": number for number, name in enumerate(FIRST)}
    return sorted(names, key=lambda name: place.get(name, len(FIRST)))


# Reads a line from the pipe that it is given, so that farswap can come before the tests begin, and is then `python -m test`.
STARTER = """import runpy, sys
if sys.argv[1]: open(sys.argv[1]).readline()
sys.argv[:2] = ["test"]
runpy.run_module("test", run_name="__main__", alter_sys=True)
"""


class Job(resumable.Job):
    def flags(self, module):
        return ["--chaos", self.options.rate, "--pool", "4M", "--ram", "4G"]

    def command(self, module, pipe):
        left_out = [word for name in LEFT_OUT_OF.get(module, []) for word in ("-i", name)]
        return [PYTHON, "-c", STARTER, pipe, "-W", "--timeout", str(TEST_LIMIT_S), *left_out, module]

    def said(self, run):
        """The names of the tests that failed, or else the last line that was said."""
        text = run.output.read_text(errors="replace") + run.error
        names = sorted({line for line in text.splitlines() if line.startswith(("FAIL: ", "ERROR: "))})
        return "; ".join(names) or run.last_error() or text.strip().rpartition("\n")[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    resumable.add_options(parser, LIMIT_S)
    parser.add_argument("--rate", default="300", help="pages a second that leave at random")
    options = parser.parse_args()
    names = options.only or modules()
    if not names:
        print("cpython: its test suite is not installed (script/bootstrap suites)")
        return SKIPPED
    return resumable.main("cpython", Job, options, names)


if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    sys.exit(main())
