#!/usr/bin/env python3
"""Compiles every header alone, so that none leans on what another file happened to include before it. (The
build does not tell: it has what nearly all of them need compiled in advance.)

Usage: check_headers.py COMPILER ROOT [FLAG...]      exits 1 when a header does not compile
"""
import concurrent.futures
import os
import pathlib
import subprocess
import sys


def compile_alone(compiler, root, flags, header):
    command = [compiler, "-std=c++23", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE",
               f"-I{root / 'include'}", f"-I{root / 'src'}", *flags, "-x", "c++", "-"]
    # Twice: the second time shows a missing include guard.
    text = f'#include "{header}"\n#include "{header}"\n'
    return header, subprocess.run(command, input=text, text=True, capture_output=True, timeout=120)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    compiler, root, flags = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), sys.argv[3:]
    headers = sorted(path for folder in ("include", "src") for path in (root / folder).rglob("*.h"))
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for header, result in pool.map(lambda header: compile_alone(compiler, root, flags, header), headers):
            if result.returncode != 0:
                failed += 1
                print(f"{header.relative_to(root)} does not compile alone:\n{result.stderr}")
    print(f"{len(headers)} headers, {failed} failed")
    sys.exit(1 if failed or not headers else 0)


if __name__ == "__main__":
    main()
