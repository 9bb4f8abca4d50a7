#!/usr/bin/env python3
"""Applies each mutant of tests/simulate/mutants to a copy of the source, builds a simulator with it, and runs seeds from 1 on
until it is found. Prints a table; ends with 1 when one is not found in time, does not apply or compile, or when the unmutated
tree fails on one of the same seeds.

A patch begins with two lines of text: the rule that it breaks, and what is wrong. A third, "Run with: OPTION...", names
what the simulator is to be run with instead of DEFAULT.

Usage: mutants.py --build DIR [--few] [--seconds N] [--jobs N] [--report FILE] [NAME...]
  --few   see that all apply, and look for those of FEW only
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATCHES = ROOT / "tests/simulate/mutants"

# As the tests run it: with advice about forks the unmutated tree fails now and then (tests/README.md).
DEFAULT = ["--no-fork-advice"]
# Found at once, of different rules.
FEW = ("all_clean", "blocks_not_counted", "child_inherits_nothing", "clean_when_written", "extra_moved_page",
       "fork_without_get", "pins_stay", "remove_keeps_slot", "seal_of_the_second_time")


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, errors="replace", **options)


class Builder:
    """Compiles what a patch touches, and links it in front of the libraries that hold the rest."""

    def __init__(self, build, name="simulate"):
        self.build, self.name = build, name
        entries = json.loads((build / "compile_commands.json").read_text())
        self.compile = {str(pathlib.Path(entry["file"]).resolve()): entry["command"] for entry in entries}
        commands = run(["ninja", "-C", str(build), "-t", "commands", name], check=True).stdout.splitlines()
        self.link = next(line for line in reversed(commands) if f"-o {name} " in line)
        self.users = self.read_dependencies()

    def read_dependencies(self):
        """Which sources include a header, by the compiler's own word."""
        users, source = {}, None
        for line in run(["ninja", "-C", str(self.build), "-t", "deps"], check=True).stdout.splitlines():
            if line and not line[0].isspace():
                source = None
            elif line.strip():
                path = (self.build / line.strip()).resolve()
                source = source or path
                users.setdefault(path, set()).add(source)
        return users

    def sources_of(self, file):
        path = ROOT / file
        if path.suffix == ".cpp":
            return [path]
        layers = (ROOT / "src/pager", ROOT / "src/swap", ROOT / "tests/simulate")
        return sorted(user for user in self.users.get(path, ()) if user.parent in layers and str(user) in self.compile)

    def make(self, patch, scratch, jobs):
        """The program with the patch; None: it does not apply or compile, and why."""
        file = patched_file(patch)
        shutil.rmtree(scratch, ignore_errors=True)
        copy = scratch / file
        copy.parent.mkdir(parents=True)
        shutil.copy(ROOT / file, copy)
        applied = run(["patch", "--strip=1", "--batch", "--fuzz=0", "--directory", str(scratch), "--input", str(patch)])
        if applied.returncode != 0:
            return None, "does not apply"

        def compile_one(source):
            target = scratch / f"{source.parent.name}_{source.stem}.o"
            command = self.compile[str(source)]
            command = re.sub(r" -o \S+ -c \S+", "", command)
            mutated = copy if source == ROOT / file else source
            # First of all, what the patch has changed; a header that lies beside its user is found by its full name, too.
            command = f"{command} -iquote {scratch}/src -I{scratch}/src -o {target} -c {mutated}"
            command = command.replace(" -I", f" -I{scratch}/src -I", 1)
            return str(target), run(["sh", "-c", command], cwd=self.build)

        objects = []
        with concurrent.futures.ThreadPoolExecutor(jobs) as workers:
            for target, built in workers.map(compile_one, self.sources_of(file)):
                if built.returncode != 0:
                    return None, "does not compile: " + (built.stderr.strip().splitlines() or ["?"])[0]
                objects.append(target)
        program = scratch / self.name
        link = self.link.replace(f"-o {self.name} ", f"-o {program} " + " ".join(map(shlex.quote, objects)) + " ")
        # What is compiled into the program itself is replaced, not preceded.
        for made in objects:
            stem = pathlib.Path(made).stem
            if stem.startswith("simulate_"):
                link = link.replace(f" tests/simulate/CMakeFiles/simulate.dir/{stem.removeprefix('simulate_')}.cpp.o", "")
        built = run(["sh", "-c", link], cwd=self.build)
        if built.returncode != 0:
            return None, "does not link: " + built.stderr.strip().splitlines()[-1]
        return program, ""


def patched_file(patch):
    return re.search(r"^--- a/(\S+)", patch.read_text(), re.M).group(1)


def applies(patch):
    command = ["patch", "--strip=1", "--batch", "--fuzz=0", "--dry-run", "--directory", str(ROOT), "--input", str(patch)]
    return run(command).returncode == 0


class Mutant:
    def __init__(self, patch):
        self.patch, self.name = patch, patch.stem
        self.rule, self.what, third = patch.read_text().splitlines()[:3]
        self.rule = self.rule.removeprefix("Breaks: ")
        self.options = third.removeprefix("Run with: ").split() if third else list(DEFAULT)
        # Deaths deal the steps anew: where none are asked for, seeds are what they were found by.
        if not {"--with-death", "--no-death"} & set(self.options):
            self.options.append("--no-death")
        self.outcome, self.seed, self.said, self.ended, self.passed = "", "", "", 0.0, False

    def look_for(self, program, plain, seconds, jobs):
        """Runs seeds until one fails on which the unmutated tree does not."""
        began, spent = time.monotonic(), os.times().children_user + os.times().children_system
        first = []
        while (left := seconds - (time.monotonic() - began)) > 0:
            options = self.options + first + ["--jobs", str(jobs), "--no-shrink"]
            result = run([str(program), "--seconds", str(max(round(left), 1)), *options])
            again = re.search(r"again with: script/simulate --seed (\d+) ", result.stdout)
            if result.returncode == 0 or not again:
                self.outcome = "NOT FOUND" if result.returncode == 0 else f"ended with {result.returncode}"
                return
            self.seed = again.group(1)
            ours = run([str(plain), *self.options, "--seed", self.seed, "--seeds", "1", "--no-shrink"])
            if ours.returncode == 0:
                last = re.search(r"(simulate: seed.*|.*invariant broken.*)", result.stdout)
                self.said = last.group(1).removeprefix("simulate: ") if last else "?"
                self.passed = True
                used = os.times().children_user + os.times().children_system - spent
                self.outcome = f"{time.monotonic() - began:.1f} s ({used:.1f})"
                return
            print(f"{self.name:24} the unmutated tree fails on seed {self.seed}, too", flush=True)
            first = ["--seed", str(int(self.seed) + 1)]
        self.outcome, self.seed = "NOT FOUND", ""

    def row(self):
        seconds, _, used = self.outcome.removesuffix(")").partition(" s (")
        seed = self.seed if self.options == [*DEFAULT, "--no-death"] else f"{self.seed} (`{' '.join(self.options)}`)"
        return "| " + " | ".join([f"`{self.name}`", self.rule, self.what, seconds, used, seed]) + " |"


def run_unmutated(program, mutants, jobs):
    """The tree as it is, on all seeds up to the last that was needed. What it said, and whether it failed."""
    said, failed = [], False
    for options in sorted({tuple(mutant.options) for mutant in mutants}):
        last = max((int(mutant.seed) for mutant in mutants if mutant.passed and tuple(mutant.options) == options), default=1)
        first = min([last, *(int(options[i + 1]) for i, option in enumerate(options) if option == "--seed")])
        seeds = last - first + 1 if "--seed" in options else last
        result = run([str(program), *options, "--seeds", str(seeds), "--jobs", str(jobs), "--no-shrink"])
        failed |= result.returncode != 0
        said.append(f"`{' '.join(options)}`: " + (result.stdout.strip().splitlines() or ["nothing was said"])[-1])
        print("unmutated, " + said[-1], flush=True)
    return said, failed


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--report", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    patches = sorted(PATCHES.glob("*.patch"))
    if unfit := [patch.stem for patch in patches if not applies(patch)]:
        print("do not apply: " + ", ".join(unfit))
    names = list(FEW) if arguments.few else arguments.names or [patch.stem for patch in patches]
    if unknown := set(names) - {patch.stem for patch in patches}:
        sys.exit("mutants.py: there is no " + ", ".join(sorted(unknown)))
    builder = Builder(build)
    mutants = [Mutant(patch) for patch in patches if patch.stem in names]

    def make(mutant):
        return builder.make(mutant.patch, build / "mutants" / mutant.name, arguments.jobs)

    # Few are built at once, each by one processor; all are built one by one, so that nothing disturbs what is measured.
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as workers:
        programs = list(workers.map(make, mutants)) if arguments.few else map(make, mutants)
    for mutant, (program, mutant.outcome) in zip(mutants, programs):
        if program:
            mutant.look_for(program, build / "simulate", arguments.seconds, arguments.jobs)
        print(f"{mutant.name:24} {mutant.outcome:>16}  seed {mutant.seed:>5}  {mutant.said[:110]}", flush=True)
        shutil.rmtree(build / "mutants" / mutant.name, ignore_errors=True)
    said, failed = run_unmutated(build / "simulate", mutants, arguments.jobs)
    if arguments.report:
        lines = ["| mutant | breaks | what is wrong | s | of processors | seed |", "|---|---|---|---:|---:|---:|"]
        lines += [mutant.row() for mutant in mutants]
        arguments.report.write_text("\n".join(lines) + "\n\nUnmutated: " + "; ".join(said) + "\n")
    missed = [mutant.name for mutant in mutants if not mutant.passed]
    print(f"{len(mutants) - len(missed)} of {len(mutants)} mutants found" + (": missed " + ", ".join(missed) if missed else ""))
    sys.exit(1 if missed or unfit or failed else 0)


if __name__ == "__main__":
    main()
