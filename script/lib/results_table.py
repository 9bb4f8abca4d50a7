#!/usr/bin/env python3
"""Turns CTest's JUnit file into a Markdown list: the totals, then one line a test. Usage: results_table.py FILE"""
import sys
import xml.etree.ElementTree

OUTCOMES = {"run": "passed", "fail": "FAILED", "disabled": "disabled", "notrun": "skipped"}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    suite = xml.etree.ElementTree.parse(sys.argv[1]).getroot()
    cases = sorted((case.get("name"), OUTCOMES.get(case.get("status"), case.get("status")), float(case.get("time")))
                   for case in suite.iter("testcase"))
    counts = {outcome: sum(1 for case in cases if case[1] == outcome) for outcome in OUTCOMES.values()}
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count or outcome == "passed") + ".\n")
    print("| test | outcome | seconds |\n|---|---|---:|")
    for name, outcome, seconds in cases:
        print(f"| {name} | {outcome} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
