#!/usr/bin/python3
"""A parallel build of a C++ project, this one: many short-lived processes that fork, vfork, execute others and use some
hundred MiB each. Prints a digest of each object file; the same compiler makes the same of the same.

  parallel_build.py DIRECTORY JOBS
"""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
PARTS = ("swap", "store")


def main():
    build = pathlib.Path(sys.argv[1]) / "parallel-build"
    shutil.rmtree(build, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_LAUNCHER")}
    quiet = {"stdout": subprocess.DEVNULL, "check": True, "env": environment}
    subprocess.run(["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DFARSWAP_TESTS=OFF",
                    "-DFARSWAP_BENCH=OFF"], **quiet)
    subprocess.run(["ninja", "-C", build, "-j", sys.argv[2], *(f"farswap_{part}" for part in PARTS)], **quiet)
    for path in sorted(build.rglob("*.o")):
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
    shutil.rmtree(build)


if __name__ == "__main__":
    main()
