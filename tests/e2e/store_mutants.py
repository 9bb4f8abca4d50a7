#!/usr/bin/python3
"""Shows that the suites of servers that lose and delay would notice: applies each patch of tests/e2e/mutants to a copy of the source,
builds farswap with it, and runs the case of bad_input.py that it names, which has to fail by what the patch says. Ends with 1
when one does not. As tests/simulate/mutants.py, which is for what the simulator can find, builds them.

A patch begins with four lines: the rule that it breaks, what is wrong, "Run: CASE", and "Says: REGULAR EXPRESSION".

  store_mutants.py --build DIR [--apply] [NAME...]
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "simulate"))
import mutants  # noqa: E402

PATCHES = pathlib.Path(__file__).with_name("mutants")
BESIDE = ("ram_sampler", "careless_nfs", "workloads")  # what a case needs of a build, but farswap


def run_case(build, scratch, patch):
    """Why the mutant was not noticed as it should be; empty: it was."""
    _, _, case, says = patch.read_text().splitlines()[:4]
    case, says = case.removeprefix("Run: "), says.removeprefix("Says: ")
    for name in BESIDE:
        (scratch / name).symlink_to(build / name)
    script = pathlib.Path(__file__).with_name("bad_input.py")
    ended = subprocess.run([sys.executable, "-B", script, "--build", scratch, "--only", case], capture_output=True, text=True)
    print(ended.stdout, end="", flush=True)
    if ended.returncode != 1:
        return f"{case} ends with {ended.returncode}"
    if not re.search(says, ended.stdout):
        return f"{case} fails, but not by what was to be expected: {says}"
    return "" if "WRONG BYTE" not in ended.stdout else "a wrong byte was read"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--apply", action="store_true", help="see that all apply, no more")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    build = options.build.resolve()
    patches = sorted(PATCHES.glob("*.patch"))
    unfit = [patch.stem for patch in patches if not mutants.applies(patch)]
    if unfit or options.apply:
        sys.exit(f"do not apply: {', '.join(unfit)}" if unfit else 0)
    if unknown := set(options.names) - {patch.stem for patch in patches}:
        sys.exit(f"store_mutants: there is no {', '.join(sorted(unknown))}")
    builder, missed = mutants.Builder(build, "farswap"), []
    for patch in patches:
        if options.names and patch.stem not in options.names:
            continue
        scratch = build / "store_mutants" / patch.stem
        program, why = builder.make(patch, scratch, os.cpu_count())
        why = run_case(build, scratch, patch) if program else why
        shutil.rmtree(scratch, ignore_errors=True)
        print(f"{patch.stem}: {why or 'noticed'}", flush=True)
        missed += [patch.stem] if why else []
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
