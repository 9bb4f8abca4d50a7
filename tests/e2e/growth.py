"""Cases of bad_input.py about what a pager keeps of memory that a program has given up: nothing, however long that goes on."""
import re
import subprocess

import harness
from attaching import Program, status_of, wait_until
from fault_lab import case

KIB_OF_A_STRETCH = 4  # of page table, which each takes while pages of it are outside
KEPT = 800  # 50 MiB of pages, under a cap of 48 MiB
FIRST, THEN = 1500, 2500


class Window(Program):
    """The workload new_addresses under farswap, told how far to go on."""

    def __init__(self, lab, how):
        super().__init__(lab, lab.tools.farswap, "run", "--ram", "48M", "--pool", "8M", "--cache-tier", "off", "--quiet",
                         "--swap", lab.file_url(), "--", lab.tools.workloads / "new_addresses", how, KEPT, stdin=subprocess.PIPE)
        self.asked = 0

    def go_on(self, stretches):
        self.asked += 1
        self.process.stdin.write(f"{stretches}\n".encode())
        self.process.stdin.flush()
        wait_until(lambda: self.process.poll() is not None or len(re.findall("gone by", self.text())) == self.asked,
                   f"{stretches} stretches more", limit_s=350)

    def end(self):
        self.process.stdin.close()
        self.expect_success()


def keeps_nothing(lab, how):
    """Its memory must not have become more than by a quarter of what the tables of all that has gone by would take. What it has
    just been told is let go within seconds, as a fork could still need it."""
    program = Window(lab, how)
    program.go_on(FIRST)
    before = status_of(program.pid, "RssAnon")
    program.go_on(THEN)
    limit = before + THEN * KIB_OF_A_STRETCH // 4
    try:
        wait_until(lambda: program.process.poll() is not None or status_of(program.pid, "RssAnon") <= limit, "less", limit_s=20)
    except AssertionError:
        now = status_of(program.pid, "RssAnon")
        lab.expect(False, f"{how}: the pager had {before} KiB after {FIRST} stretches, and has {now} KiB after {THEN} more")
    program.end()
    lab.expect("new_addresses: ok" in program.text(), f"{how}: {program.text()[-300:]}")
    left = harness.listing(lab.store)
    lab.expect(not left, f"left in the store: {left}")


@case
def nothing_is_kept_of_what_was_unmapped(lab):
    keeps_nothing(lab, "unmap")


@case
def nothing_is_kept_of_what_lay_anywhere(lab):
    keeps_nothing(lab, "scatter")


@case
def nothing_is_kept_of_what_was_dropped(lab):
    keeps_nothing(lab, "drop")


@case
def nothing_is_kept_of_what_has_moved(lab):
    keeps_nothing(lab, "move")
