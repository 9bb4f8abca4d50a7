#!/usr/bin/python3
"""What script/bench swap and faults make of what they measure, and that the former does not start where it would measure
something else. Needs no root.

  bench_swap_test.py --build DIR
"""
import pathlib
import sys
import types
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "script/lib"))
import bench_swap  # noqa: E402
import fault_timeline  # noqa: E402
import swap_report  # noqa: E402
import swap_rivals  # noqa: E402

WORK = "random:0:1"


def runs(*rates):
    return [{"works": {WORK: {"per_s": rate, "median_ns": 1e6, "p99_ns": 2e6, "max_ns": 3e6}}, "notes": {}} for rate in rates]


def report(**rivals):
    found = {"farswap": runs(2000, 3000, 6000), swap_report.CLUSTERS[0]: runs(1000, 1000, 1000),
             swap_report.CLUSTERS[1]: runs(1000, 2000, 3000), "zram": "does not fit", "plain": runs(1e6, 1e6, 1e6)}
    facts = {"size_mib": 512, "seconds": 1, "warm_up_s": 0.3, "zipf_warm_up_s": 2, "rounds": 3, "store": "ext4",
             "huge_pages": "never", "cgroups": 2, "load": [0, 0]}
    return {"facts": facts, "cells": [{"content": "half", "ram": 50, "rivals": found | rivals}]}


def table(found):
    return "\n".join(swap_report.markdown(found))


class Report(unittest.TestCase):
    def test_ratios_are_of_one_round_and_the_better_page_cluster_is_taken(self):
        self.assertIn("| 2.0 (1.0-3.0) | 3 | 2.00 (1.50-2.00) |", table(report()))

    def test_who_cannot_run_is_named_with_the_reason(self):
        self.assertIn("no zram: does not fit", table(report()))
        neither = {name: "needs root" for name in swap_report.CLUSTERS}
        self.assertIn("| needs root |", table(report(**neither)))
        self.assertIn("| no seccomp |", table(report(farswap="no seccomp")))

    def test_runs_that_were_repeated_are_told(self):
        killed = runs(1, 1, 1)
        killed[1]["notes"]["killed"] = 2
        self.assertIn("2 more runs were killed", table(report(**{swap_report.CLUSTERS[0]: killed})))

    def test_the_page_shows_every_work(self):
        self.assertIn("random read", "\n".join(swap_report.page(report(), "head")))


class Measuring(unittest.TestCase):
    def test_a_machine_that_swaps_already_is_refused(self):
        with mock.patch.object(swap_rivals, "active_swaps", return_value=["/swap"]), \
                mock.patch.object(sys, "argv", ["bench", "--build", "."]), self.assertRaises(SystemExit) as refused:
            bench_swap.main()
        self.assertIn("swapoff", str(refused.exception.code))

    def test_a_run_that_the_kernel_kills_is_repeated_and_counted(self):
        ends = [bench_swap.Killed(), bench_swap.Run({}, 0, {})]

        def run():
            end = ends.pop(0)
            if isinstance(end, Exception):
                raise end
            return end

        self.assertEqual(bench_swap.again_if_killed(run).notes["killed"], 1)

    def test_without_root_the_kernels_rivals_say_so(self):
        bench = bench_swap.Bench(types.SimpleNamespace(build=".", size=128, work=[WORK]), pathlib.Path("/"))
        with mock.patch.object(swap_rivals.os, "geteuid", return_value=1000):
            for name, run in bench.rivals("half", 50).items():
                if name != "farswap":
                    self.assertRaisesRegex(bench_swap.Unavailable, "root", run)


def trace(*events):
    """As perf script prints it: a microsecond between events; who, event, the rest."""
    return [f"{who:>16} 4711 [000] {1 + number * 1e-6:.6f}: {event:>30}: {rest}"
            for number, (who, event, rest) in enumerate(events)]


FAULT = [("touch_pages", "exceptions:page_fault_user", "address=0x1000"),
         ("touch_pages", "sched:sched_waking", "comm=farswap pid=1"),
         ("swapper", "sched:sched_switch", "prev_comm=swapper ==> next_comm=farswap next_pid=1"),
         ("farswap", "syscalls:sys_enter_read", "fd: 0x12"),
         ("farswap", "block:block_rq_issue", "254,0 RS 4096 () 8 + 8 [farswap]"),
         ("swapper", "block:block_rq_complete", "254,0 RS () 8 + 8 [0]"), ("farswap", "syscalls:sys_exit_io_uring_enter", "0x2"),
         ("farswap", "syscalls:sys_enter_ioctl", "fd: 0x12"), ("farswap", "sched:sched_waking", "comm=touch_pages pid=2"),
         ("swapper", "sched:sched_switch", "prev_comm=swapper ==> next_comm=touch_pages next_pid=2")]


class FaultTimeline(unittest.TestCase):
    def test_steps_are_timed_in_order_and_others_events_are_passed_over(self):
        noise = [("cc1plus", "exceptions:page_fault_user", "address=0x2000"),
                 ("kworker", "block:block_rq_complete", "254,0 W () 8 + 8 [0]")]
        [times] = fault_timeline.faults(trace(*FAULT[:5], *noise, *FAULT[5:]))
        self.assertEqual([round(b - a) for a, b in zip(times, times[1:])], [1, 1, 1, 1, 3, 1, 1, 1, 1])

    def test_a_fault_that_did_not_go_to_the_disk_is_left_out(self):
        [times] = fault_timeline.faults(trace(*FAULT[:3], *FAULT))
        self.assertEqual(round(times[-1] - times[0]), len(FAULT) - 1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
