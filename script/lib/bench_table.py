#!/usr/bin/env python3
"""Turns the JSON of Google Benchmark into Markdown tables, one for each file: medians of the repetitions, in ns of CPU
time for a call and for a page, and how many times the first benchmark of the file that is for a page.

Usage: bench_table.py FILE...
"""
import json
import pathlib
import sys

NS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}


def medians(file):
    for benchmark in json.loads(file.read_text())["benchmarks"]:
        if "error_message" in benchmark:
            sys.exit(f"{file.name}: {benchmark['name']}: {benchmark['error_message']}")
        if benchmark.get("aggregate_name") == "median":
            yield benchmark


def print_table(file):
    base = None
    for benchmark in medians(file):
        a_call = benchmark["cpu_time"] * NS[benchmark["time_unit"]]
        a_page = benchmark.get("per_page", 0) * 1e9
        if base is None:
            base = a_page
            print(f"| {file.stem} | ns a call | ns a page | a page, against the first |\n|---|---:|---:|---:|")
        columns = f"{a_page:,.1f} | {a_page / base:.2f}" if a_page else "|"
        print(f"| {benchmark['run_name']} | {a_call:,.1f} | {columns} |")
    if base is None:
        sys.exit(f"{file.name}: there is no median in it")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for number, file in enumerate(sys.argv[1:]):
        print(end="\n" if number else "")
        print_table(pathlib.Path(file))


if __name__ == "__main__":
    main()
