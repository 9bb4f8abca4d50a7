#!/usr/bin/python3
"""What the harness promises its suites: nothing that a run has started outlives it, however it hides.

  harness_test.py --build DIR
"""
import os
import pathlib
import sys
import tempfile
import unittest

import harness

# Overwrites its arguments and its environment in place, as PostgreSQL does for its titles (prctl(2), PR_SET_MM needs more
# rights than that): what /proc/PID/environ shows then is empty.
HIDING = """
import ctypes, sys, time
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
ctypes.memset(int(fields[47]), 0, int(fields[48]) - int(fields[47]))
print(open("/proc/self/environ").read().count("FARSWAP"), flush=True)
"""
WAITING = "\ntime.sleep(600)\n"
IN_A_SESSION_OF_ITS_OWN = "import os\nif os.fork(): time.sleep(600)\nos.setsid()\n"


class Harness(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="farswap-harness-"))
        self.addCleanup(lambda: [path.unlink() for path in self.directory.iterdir()] and self.directory.rmdir())

    def run_program(self, *argv, **options):
        return harness.run(argv, self.directory / "output", **options)

    def test_what_is_left_is_named_and_killed(self):
        run = self.run_program("sh", "-c", "sleep 600 & exit 3")
        self.assertEqual(run.status, 3)
        self.assertEqual(len(run.left), 1)
        self.assertIn("sleep", run.left[0])

    def test_so_is_what_hides_its_environment(self):
        script = HIDING + WAITING
        run = self.run_program("sh", "-c", f"{harness.PYTHON} -c '{script}' & while ! [ -s output ]; do sleep 0.05; done",
                               cwd=self.directory)
        self.assertEqual(run.output.read_text(), "0\n")
        self.assertEqual(len(run.left), 1)

    def test_and_its_children_in_other_sessions_when_the_time_is_up(self):
        run = self.run_program(harness.PYTHON, "-c", HIDING + IN_A_SESSION_OF_ITS_OWN + WAITING, limit_s=5)
        self.assertTrue(run.timed_out)
        self.assertEqual(run.diagnosis.count("python3:"), 2, run.diagnosis)

    def test_nothing_is_left_of_what_ends(self):
        self.assertEqual(self.run_program("true").left, [])

    def test_a_low_priority_reaches_the_run(self):
        before = os.getpriority(os.PRIO_PROCESS, 0)
        self.assertEqual(harness.RUNNING, {})
        group = pathlib.Path("/proc/self/autogroup")
        if not group.exists() or before == 0:
            self.skipTest("no scheduling groups, or an ordinary priority")
        run = self.run_program("cat", "/proc/self/autogroup")
        self.assertIn(f"nice {before}", run.output.read_text())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
