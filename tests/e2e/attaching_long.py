"""Cases of bad_input.py for script/torture: what happens once in some hundred times when farswap comes and goes."""
import random
import signal
import time

import attaching
import harness
import runtimes
from fault_lab import case

ROUNDS = 400
RACE_S = 1800
RUNTIMES_FILLED_MIB, RUNTIMES_LIMIT_S = 150, 600


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


@case
def runtimes_that_are_attached_to(lab):
    """Go, musl, static, Rust, JVM and node programs: farswap comes while they fill their memory, and for every second one it
    leaves again. What they print is what they print by themselves."""
    rows = [row for row in runtimes.runtimes(lab.directory) if row.name not in ("postgres", "parallel-build")]
    for number, row in enumerate(rows):
        argv = row.command(lab.directory)
        plain = attaching.Program(lab, *argv)
        plain.expect_success()
        program = attaching.Program(lab, *argv)
        program.wait_for_memory(RUNTIMES_FILLED_MIB)
        attached = attaching.Attached(lab, program.pid, ram=f"{RUNTIMES_FILLED_MIB * 2 // 3}M")
        if number % 2 == 1:
            attached.wait_until_paged(program.pid, RUNTIMES_FILLED_MIB)
            attached.process.send_signal(signal.SIGTERM)
            attached.expect_end()
        program.expect_success(limit_s=RUNTIMES_LIMIT_S)
        if number % 2 == 0:
            attached.expect_end()
        lab.expect(program.text() == plain.text(), f"{row.name}: prints {program.text()[-200:]} and by itself {plain.text()[-200:]}")
        print(f"     {row.name}", flush=True)


@case
def races_for_half_an_hour(lab):
    """Threads that map, write, move, discard and unmap at neighbouring addresses, and check what they read: one program
    started by farswap, one attached to, side by side under a third of what each needs."""
    race = [lab.tools.workloads / "mmap_race", "--filler", "96M", "--seconds", RACE_S, "--dir", lab.directory]
    stores = [lab.directory / name for name in ("store-of-run", "store-of-attach")]
    for store in stores:
        store.mkdir()
    started = attaching.Program(lab, lab.tools.farswap, "run", "--ram", "40M", "--swap", f"file:{stores[0]}", "--", *race)
    program = attaching.Program(lab, *race, "--seed", "2")
    attached = attaching.Attached(lab, program.pid, ram="40M", url=f"file:{stores[1]}")
    started.expect_success(limit_s=2 * RACE_S)
    program.expect_success(limit_s=RACE_S)
    attached.expect_end()
    for store in stores:
        lab.expect(not harness.listing(store), f"left in {store.name}")
    for text in (started.text(), program.text(), attached.text()):
        print("     " + "\n     ".join(line for line in text.splitlines() if "steps" in line or "pages" in line), flush=True)
