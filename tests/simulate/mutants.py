#!/usr/bin/env python3
"""Applies each mutant of tests/simulate/mutants to a copy of the source, builds a simulator with it, and runs seeds until it is
found. Prints a table; ends with 1 when one is not found in time, does not apply, or when the unmutated tree fails on the same seeds.

Usage: mutants.py --build DIR [--seconds N] [--jobs N] [--report FILE] [NAME...]
"""
import argparse
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATCHES = ROOT / "tests/simulate/mutants"


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, errors="replace", **options)


class Builder:
    """Compiles what a patch touches, and links it in front of the libraries that hold the rest."""

    def __init__(self, build):
        self.build = build
        self.compile = {entry["file"]: entry["command"] for entry in json.loads((build / "compile_commands.json").read_text())}
        commands = run(["ninja", "-C", str(build), "-t", "commands", "simulate"], check=True).stdout.splitlines()
        self.link = next(line for line in reversed(commands) if "-o simulate " in line)
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

    def make(self, patch, scratch):
        """The simulator with the patch; None: it does not apply or compile, and why."""
        file = re.search(r"^--- a/(\S+)", patch.read_text(), re.M).group(1)
        shutil.rmtree(scratch, ignore_errors=True)
        copy = scratch / file
        copy.parent.mkdir(parents=True)
        shutil.copy(ROOT / file, copy)
        applied = run(["patch", "--strip=1", "--batch", "--fuzz=0", "--directory", str(scratch), "--input", str(patch)])
        if applied.returncode != 0:
            return None, "does not apply"
        objects = []
        for source in self.sources_of(file):
            target = scratch / f"{source.parent.name}_{source.stem}.o"
            command = self.compile[str(source)]
            command = re.sub(r" -o \S+ -c \S+", "", command)
            mutated = copy if source == ROOT / file else source
            # First of all, what the patch has changed; a header that lies beside its user is found by its full name, too.
            command = f"{command} -iquote {scratch}/src -I{scratch}/src -o {target} -c {mutated}"
            command = command.replace(" -I", f" -I{scratch}/src -I", 1)
            built = run(["sh", "-c", command], cwd=self.build)
            if built.returncode != 0:
                return None, "does not compile: " + built.stderr.strip().splitlines()[0]
            objects.append(str(target))
        program = scratch / "simulate"
        link = self.link.replace("-o simulate ", f"-o {program} " + " ".join(map(shlex.quote, objects)) + " ")
        # What is compiled into the program itself is replaced, not preceded.
        for made in objects:
            stem = pathlib.Path(made).stem
            if stem.startswith("simulate_"):
                link = link.replace(f" tests/simulate/CMakeFiles/simulate.dir/{stem.removeprefix('simulate_')}.cpp.o", "")
        built = run(["sh", "-c", link], cwd=self.build)
        if built.returncode != 0:
            return None, "does not link: " + built.stderr.strip().splitlines()[-1]
        return program, ""


def look_for(program, arguments, seconds):
    """Seconds until it fails and what it said; None: it did not."""
    began = time.monotonic()
    command = [str(program), "--seconds", str(seconds), "--jobs", str(arguments.jobs), "--no-shrink"]
    result = run(command)
    return (time.monotonic() - began, result.stdout) if result.returncode == 1 else None


def describe(said):
    match = re.search(r"seed (\d+).*", said)
    last = re.search(r"(simulate: seed.*|.*invariant broken.*)", said)
    return (match.group(1) if match else "?", last.group(1).removeprefix("simulate: ") if last else "?")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--report", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    builder = Builder(build)
    patches = sorted(PATCHES.glob("*.patch"))
    if arguments.names:
        patches = [patch for patch in patches if patch.stem in arguments.names]
    rows, missed, last_seed = [], [], 0
    for patch in patches:
        rule, what = patch.read_text().splitlines()[:2]
        scratch = build / "mutants" / patch.stem
        program, why = builder.make(patch, scratch)
        found = look_for(program, arguments, arguments.seconds) if program else None
        seed, said = describe(found[1]) if found else ("", "")
        outcome = f"{found[0]:.1f} s" if found else why or "NOT FOUND"
        print(f"{patch.stem:24} {outcome:>12}  seed {seed:>5}  {said[:110]}", flush=True)
        if not found:
            missed.append(patch.stem)
        last_seed = max(last_seed, int(seed) if seed.isdigit() else 0)
        rows.append((patch.stem, rule.removeprefix("Breaks: "), what, outcome, seed))
        shutil.rmtree(scratch, ignore_errors=True)
    plain = run([str(build / "simulate"), "--seeds", str(max(last_seed, 1)), "--jobs", str(arguments.jobs), "--no-shrink"])
    print(plain.stdout.strip())
    if arguments.report:
        lines = ["| mutant | breaks | what is wrong | found after | by seed |", "|---|---|---|---:|---:|"]
        lines += ["| `" + row[0] + "` | " + " | ".join(row[1:]) + " |" for row in rows]
        arguments.report.write_text("\n".join(lines) + f"\n\nUnmutated: {plain.stdout.strip().splitlines()[-1]}\n")
    print(f"{len(rows) - len(missed)} of {len(rows)} mutants found" + (": missed " + ", ".join(missed) if missed else ""))
    sys.exit(1 if missed or plain.returncode != 0 else 0)


if __name__ == "__main__":
    main()
