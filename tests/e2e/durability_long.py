"""The cases of durability.py at length."""
import re
import subprocess
import time

import harness
from benching import OnTerminal, expect_end_of_bench
from durability import by_version, late, lose
from fault_lab import REFUSED, case
from faults import store_file
from many_stores import Sweep
from nbd import Nbdkit, image

AWAY_S = 150


@case
def server_that_forgets_500_times(lab):
    lose(lab, restarts=500)


@case
def writes_half_a_minute_late(lab):
    late(lab, delays=60, late_s=30)


def away_for_minutes(lab, version):
    """The server is killed for two and a half minutes under a program that goes through all its memory again and again. That
    stands still meanwhile, as farswap says, and goes on with every byte right; its output is that of a plain run."""
    server = lab.server()
    # As long as they are: compressed, most of what is out would stay in memory.
    sweep = Sweep(lab, [by_version(server, version)], "--compress", "off")
    sweep.start()
    lab.expect(store_file(server.store_directory()) is not None, "nothing was written to the store")
    sweep.one_round_more()
    subprocess.run([harness.GANESHA, "kill", server.directory], check=True)
    killed = time.monotonic()
    sweep.said("no answer for 5 s")
    stood_at = sweep.rounds()
    sweep.said("no answer for 65 s")
    sweep.said("no answer for 2 min 5 s")
    lab.expect(sweep.rounds() == stood_at, f"went on from round {stood_at} to {sweep.rounds()} without its pages")
    time.sleep(max(0.0, AWAY_S - (time.monotonic() - killed)))  # the outage itself
    subprocess.run([harness.GANESHA, "restart", server.directory], check=True)
    sweep.said("answers again, after 2 min")
    sweep.one_round_more()
    run = sweep.end()
    lab.expect_nothing_left(run, server.store_directory())


@case
def server_is_away_for_minutes(lab):
    away_for_minutes(lab, 3)


@case
def server_is_away_for_minutes_by_nfsv4(lab):
    away_for_minutes(lab, 4)


def stopped_after_two_minutes(lab, version):
    server = lab.server()
    sweep = Sweep(lab, [by_version(server, version)], "--on-outage", "stop:120", "--compress", "off")
    sweep.start()
    if lab.expect(store_file(server.store_directory()) is not None, "nothing was written to the store"):
        subprocess.run([harness.GANESHA, "kill", server.directory], check=True)
        killed = time.monotonic()
        sweep.said("no answer for 5 s; what needs it waits, until 2 min 0 s")
        sweep.said("no answer for 120 s; the job is stopped")
        run = sweep.background.result()
        lab.expect(time.monotonic() - killed > 115, "not after two minutes")
        lab.expect(run.status == REFUSED, f"exit status {run.status} instead of {REFUSED}: {run.last_error()}")
        lab.expect(re.search(re.escape(str(server.store_directory())), run.error), f"does not say where: {run.error}")
        lab.expect(not run.left, f"left running: {run.left}")
    sweep.stop_file.touch()


@case
def server_is_away_for_longer_than_asked_for(lab):
    stopped_after_two_minutes(lab, 3)


@case
def server_is_away_for_longer_than_asked_for_by_nfsv4(lab):
    stopped_after_two_minutes(lab, 4)


@case
def bench_of_servers_that_are_gone(lab):
    """For good, while it reads: each is given up after the 30 s that a transfer has, and named."""
    server, nbd = lab.server(), Nbdkit(lab, "file", image(lab))
    urls = [by_version(server, 3), by_version(server, 4), nbd.url]
    benches = [OnTerminal(lab, "--size", "16M", "--seconds", "20", url) for url in urls]
    for bench in benches:
        lab.expect(bench.shows("] read 4 KiB"), f"no reads: {bench.shown!r}")
    subprocess.run([harness.GANESHA, "kill", server.directory], check=True)
    nbd.kill()
    for bench, url in zip(benches, urls):
        expect_end_of_bench(lab, bench, f"^farswap: {re.escape(url.partition('?version')[0])}: cannot read: ")
