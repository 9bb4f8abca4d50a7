#!/usr/bin/env python3
"""Turns the JSON of Google Benchmark into one Markdown table: medians of the repetitions.

Usage: bench_table.py FILE...
"""
import json
import pathlib
import sys


def rate(benchmark):
    if "bytes_per_second" in benchmark:
        return f"{benchmark['bytes_per_second'] / 2**20:,.0f} MiB/s"
    if "items_per_second" in benchmark:
        return f"{1e9 / benchmark['items_per_second']:,.1f} ns/item"
    return ""


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print("| benchmark | time | CPU | rate |\n|---|---:|---:|---:|")
    for file in sys.argv[1:]:
        for benchmark in json.loads(pathlib.Path(file).read_text())["benchmarks"]:
            if benchmark.get("aggregate_name") == "median":
                unit = benchmark["time_unit"]
                print(f"| {benchmark['run_name']} | {benchmark['real_time']:,.1f} {unit} | {benchmark['cpu_time']:,.1f} {unit} "
                      f"| {rate(benchmark)} |")


if __name__ == "__main__":
    main()
