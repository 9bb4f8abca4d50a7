#!/usr/bin/python3
"""Bad input and faults: each case must end with one clear line, the right exit status and nothing left behind.

  bad_input.py --build DIR [--kind KIND] [--only NAME,...] [--list] [--directory DIR]

Prints a line for each case and exits 1 when one failed.
"""
import argparse
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import traceback

import allocations  # noqa: F401  (registers its cases)
import attaching  # noqa: F401
import attaching_long  # noqa: F401
import benching  # noqa: F401
import ceph  # noqa: F401
import cores  # noqa: F401
import durability  # noqa: F401
import durability_long  # noqa: F401
import engines  # noqa: F401
import fault_lab
import faults  # noqa: F401
import growth  # noqa: F401
import harness
import hostile  # noqa: F401
import keys  # noqa: F401
import killed  # noqa: F401
import killed_long  # noqa: F401
import many_stores  # noqa: F401
import nbd  # noqa: F401
import quotas  # noqa: F401
import refusals  # noqa: F401
import reporting  # noqa: F401
import sharing  # noqa: F401
import sizing  # noqa: F401
import tampering  # noqa: F401
import users  # noqa: F401
import watching  # noqa: F401


def run_case(name, tools, directory):
    lab = fault_lab.Lab(tools, directory / name)
    started = time.monotonic()
    verdict = "pass"
    try:
        fault_lab.CASES[name](lab)
    except fault_lab.Skip as reason:
        verdict, lab.problems = "skip", [str(reason)]
    except AssertionError as broken:
        lab.problems.append(str(broken))
    except Exception:  # of one case; the others are to be heard
        lab.problems.append(traceback.format_exc())
    finally:
        lab.close()
    if verdict == "pass" and lab.problems:
        verdict = "fail"
    print(f"{verdict.upper():4} {name:34} {time.monotonic() - started:6.1f} s"
          + "".join(f"\n     - {problem}" for problem in lab.problems), flush=True)
    shutil.rmtree(directory / name, ignore_errors=True)
    return verdict


def chosen(options):
    if options.only:
        return options.only
    return [name for name, function in fault_lab.CASES.items() if options.kind in (None, function.__module__)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--kind", choices=sorted({function.__module__ for function in fault_lab.CASES.values()}),
                        help="only the cases of that file; its first lines say of what they are")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--directory", default="/var/tmp", help="on ext4: stores and servers live there")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(fault_lab.CASES))
        return 0
    unknown = set(options.only) - set(fault_lab.CASES)
    if unknown:
        sys.exit(f"bad_input: no such case: {', '.join(sorted(unknown))}")
    tools = harness.Tools.of_build(options.build)
    if tools.missing():
        sys.exit(f"bad_input: not built: {', '.join(tools.missing())}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = pathlib.Path(tempfile.mkdtemp(prefix="farswap-bad-", dir=options.directory))
    try:
        verdicts = [run_case(name, tools, directory) for name in chosen(options)]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"bad_input: {verdicts.count('pass')} passed, {verdicts.count('fail')} failed, "
          f"{verdicts.count('skip')} skipped")
    return 1 if "fail" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
