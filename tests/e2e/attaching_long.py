"""Cases of bad_input.py for script/torture: what happens once in some hundred times when farswap comes and goes."""
import random
import signal
import time

import attaching
from fault_lab import case

ROUNDS = 400


@case
def daemons_that_are_let_go_of_at_any_moment(lab):
    """Each round attaches at a random moment and lets go at another. A MOVE that took a page more than it said lost that
    page in one of some hundred rounds."""
    chance = random.Random(1)
    for _ in range(ROUNDS):
        program = attaching.Program(lab, lab.tools.workloads / "orphans", "--filler", "64M", "--rounds", "2", "--dir", lab.directory)
        time.sleep(chance.uniform(0, 0.1))
        attached = attaching.Attached(lab, program.pid, ram="48M")
        time.sleep(chance.uniform(0, 0.9))
        attached.process.send_signal(signal.SIGTERM)
        program.expect_success()
        attached.expect_end()
        if lab.problems:
            return
