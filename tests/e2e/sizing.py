"""Cases of bad_input.py about farswap size: what it says of programs whose need is known, and when it says that it cannot say."""
import json

from fault_lab import REFUSED, USAGE, case

MIB = 1 << 20


def size(lab, *program, flags=()):
    """The run, and `size` of its statistics."""
    stats = lab.directory / "size.json"
    run = lab.farswap("size", "--swap", lab.file_url(), "--stats", stats, *flags, "--", *program, limit_s=150)
    lab.expect_nothing_left(run)
    return run, json.loads(stats.read_text())


@case
def size_of_a_known_working_set(lab):
    """All of 96 MiB is touched at random: it needs just that, and no cap below is nearly as good."""
    run, stats = size(lab, lab.tools.workloads / "verify", "--size", "96M", "--operations", "30000", "--pattern", "random")
    found = stats["size"]
    lab.expect(run.status == 0 and found["verdict"] == "known", f"{run.status} {found['verdict']} {run.error[-300:]}")
    lab.expect("within 5% of full speed" in run.error.splitlines()[-1], f"no sentence: {run.error[-300:]}")
    plot = [line for line in run.error.splitlines() if "##" in line]
    lab.expect(len(plot) > 8 and all(len(line) < 80 for line in plot), f"the plot: {plot}")
    lab.expect(found["nearly_full_bytes"] and 80 * MIB < found["nearly_full_bytes"] < 150 * MIB, f"nearly full: {found}")
    lab.expect(found["full_speed_s"] < stats["elapsed_s"] / 1.5, f"it was slowed by nothing: {found}")
    caps = [point["seconds"] for point in found["curve"]]
    lab.expect(caps == sorted(caps, reverse=True), f"slower with more memory: {caps}")


@case
def size_of_too_little(lab):
    """Of a program that ends at once, and of one that has room: one line says that there were too few misses."""
    roomy = [lab.tools.workloads / "verify", "--size", "20M", "--operations", "100"]
    for program, flags in ((["true"], []), (roomy, ["--ram", "256M"])):
        run, stats = size(lab, *program, flags=["-q", *flags])
        lab.expect(run.status == 0, f"{run.status} {run.error}")
        lab.expect(run.error.count("\n") == 1 and "too few misses to predict" in run.error, f"it says: {run.error!r}")
        found = stats["size"]
        lab.expect(found["curve"] == [] and found["nearly_full_bytes"] is None, f"a curve of nothing: {found}")


@case
def size_that_makes_no_sense(lab):
    lab.expect_refusal(lab.farswap("size"), USAGE, "no program given", "farswap size PROGRAM")
    lab.expect_refusal(lab.farswap("size", "--ram", "1M", "true"), USAGE, "--ram 1.0 MiB is too small")
    lab.expect_refusal(lab.farswap("size", "--ram", "much", "true"), USAGE, "--ram")
    lab.expect_refusal(lab.farswap("size", "--swap", "file:/no/such/folder/x", "true"), REFUSED, "does not exist")
    run = lab.farswap("size", "--swap", lab.file_url(), "/no/such/program")
    lab.expect(run.status == 127 and "predict" not in run.error, f"{run.status} {run.error}")
