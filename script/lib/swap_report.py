"""Tables, JSON and an HTML page of what bench_swap.py has measured. Every ratio is the median of the rounds' ratios, with
their extremes. Knows nothing of how the figures came about.
"""
import html
import json
import pathlib
import statistics
import subprocess

CLUSTERS = ["kernel swap, page-cluster 0", "kernel swap, page-cluster 3"]
PATTERNS = {"sequential": "sequential", "random": "random", "zipf": "Zipf 0.99"}


def work_name(work):
    pattern, writes, threads = work.split(":")
    doing = {"0": "read", "100": "write"}.get(writes, f"{100 - int(writes)}/{writes} read/write")
    return f"{PATTERNS[pattern]} {doing}" + (f", {threads} threads" if threads != "1" else "")


def column(runs, work, field="per_s"):
    return [run["works"][work][field] for run in runs]


def spread(values, form):
    values = sorted(values)
    return f"{form(statistics.median(values))} ({form(values[0])}-{form(values[-1])})"


def thousands(value):
    return f"{value / 1e3:.0f}" if value >= 1e5 else f"{value / 1e3:.1f}" if value >= 1e3 else f"{value / 1e3:.2f}"


def microseconds(ns):
    return f"{ns / 1e3:.0f}" if ns >= 9.5e3 else f"{ns / 1e3:.1f}" if ns >= 950 else f"{ns / 1e3:.2f}"


def ratios(mine, other, work):
    """One a round in which both ran."""
    return [a / b for a, b in zip(column(mine, work), column(other, work))]


def better_cluster(rivals, work):
    """Name of the better page-cluster, or None where neither ran."""
    ran = [name for name in CLUSTERS if not isinstance(rivals[name], str)]
    return max(ran, key=lambda name: statistics.median(column(rivals[name], work)), default=None)


def rows(report):
    """By cell and work, what both tables and the page show."""
    for cell in report["cells"]:
        rivals = cell["rivals"]
        works = next(iter(rivals["plain"]), {"works": {}})["works"]
        for work in works:
            yield cell, work, rivals, better_cluster(rivals, work)


def rate_cells(farswap, other, work):
    """Rate and ratio, or the reason twice left out."""
    if isinstance(other, str):
        return other, ""
    rate = spread(column(other, work), thousands)
    return rate, "" if isinstance(farswap, str) else spread(ratios(farswap, other, work), "{:.2f}".format)


def kernel_table(report):
    yield "| work | content | RAM | farswap: k/s | kernel swap: k/s | page-cluster | farswap/kernel |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for cell, work, rivals, cluster in rows(report):
        farswap = rivals["farswap"]
        mine = farswap if isinstance(farswap, str) else spread(column(farswap, work), thousands)
        rate, ratio = rate_cells(farswap, rivals[cluster or CLUSTERS[0]], work)
        yield (f"| {work_name(work)} | {cell['content']} | {cell['ram']}% | {mine} | {rate} | {cluster[-1] if cluster else ''} | "
               f"{ratio} |")


def latency_table(report):
    """Of one access: most of them hit memory where the work has favourites or neighbours."""
    yield "| work | content | RAM | farswap: median us | p99 us | max ms | kernel swap: median us | p99 us | max ms |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for cell, work, rivals, cluster in rows(report):
        shown = []
        for runs in (rivals["farswap"], rivals[cluster or CLUSTERS[0]]):
            if isinstance(runs, str):
                shown += [runs, "", ""]
                continue
            shown += [microseconds(statistics.median(column(runs, work, field))) for field in ("median_ns", "p99_ns")]
            shown.append(f"{max(column(runs, work, 'max_ns')) / 1e6:.1f}")
        yield f"| {work_name(work)} | {cell['content']} | {cell['ram']}% | {' | '.join(shown)} |"


def zram_table(report):
    for cell in report["cells"]:
        if isinstance(cell["rivals"]["zram"], str):
            yield f"- {cell['content']} at {cell['ram']}%: no zram: {cell['rivals']['zram']}."
    yield from ("", "| work | content | RAM | farswap: k/s | zram: k/s | farswap/zram |", "|---|---|---:|---:|---:|---:|")
    for cell, work, rivals, _ in rows(report):
        if isinstance(rivals["zram"], str):
            continue
        farswap = rivals["farswap"]
        mine = farswap if isinstance(farswap, str) else spread(column(farswap, work), thousands)
        rate, ratio = rate_cells(farswap, rivals["zram"], work)
        yield f"| {work_name(work)} | {cell['content']} | {cell['ram']}% | {mine} | {rate} | {ratio} |"


def share(runs, plain, work):
    return runs if isinstance(runs, str) else f"{statistics.median(ratios(runs, plain, work)):.4f}"


def plain_table(report):
    """farswap's share of the rate without a limit: 1 would be a program that notices nothing."""
    yield "| work | content | RAM | plain: k/s | farswap/plain | kernel swap/plain |"
    yield "|---|---|---:|---:|---:|---:|"
    for cell, work, rivals, cluster in rows(report):
        shares = [share(rivals[name], rivals["plain"], work) for name in ("farswap", cluster or CLUSTERS[0])]
        plain = spread(column(rivals["plain"], work), thousands)
        yield f"| {work_name(work)} | {cell['content']} | {cell['ram']}% | {plain} | {' | '.join(shares)} |"


def zram_notes(report):
    for cell in report["cells"]:
        runs = cell["rivals"]["zram"]
        if not isinstance(runs, str):
            notes, most = runs[0]["notes"], max(run["notes"]["ram_of_cap_max"] for run in runs)
            yield (f"- zram ({notes['algorithm']}), {cell['content']} at {cell['ram']}%: cgroup and zram together were "
                   f"{statistics.median(run['notes']['ram_of_cap'] for run in runs):.2f} of the cap (median of samples), at most "
                   f"{most:.2f}; the cgroup's limit was {notes['limit_mib']:.0f} MiB.")


def kill_notes(report):
    for cell in report["cells"]:
        for name, runs in cell["rivals"].items():
            killed = 0 if isinstance(runs, str) else sum(run["notes"].get("killed", 0) for run in runs)
            if killed:
                yield (f"- {name}, {cell['content']} at {cell['ram']}%: {killed} more runs were killed by the kernel, "
                       "which found no memory in the cgroup though swap was left, and were repeated.")


def explanation(facts):
    yield (f"One program (`bench/touch_pages`) fills {facts['size_mib']} MiB and then touches its pages, each access one word of "
           f"a page: {facts['seconds']} s for each work after {facts['warm_up_s']} s of warm-up "
           f"(Zipf {facts['zipf_warm_up_s']} s), filling left out. Rounds: "
           f"{facts['rounds']}; in each, all rivals run one after the other, in turned order every second time. k/s are "
           "thousands of accesses a second. Figures are medians (least-most) of the rounds, ratios medians (least-most) of the "
           "rounds' ratios. RAM is in percent of what the program fills.")
    yield ""
    yield f"- farswap: default settings (sealed, lz4), its pager inside the cap; a file of its own on {facts['store']}."
    yield (f"- Kernel swap: a file on the same file system, a memory cgroup (v{facts['cgroups']}) of the same size, which also "
           "holds page tables; the better of page-cluster 0 and 3 in each row.")
    yield ("- zram: page-cluster 0 (it is read without read-ahead); its cgroup's limit is such that the cgroup, and what zram "
           "takes for the other pages, are the cap (what a page takes is measured before). It runs where compressed content "
           "leaves room.")
    yield (f"- Plain: no limit. Transparent huge pages: {facts['huge_pages']}. Load of the machine at the start "
           f"{facts['load'][0]}, at the end {facts['load'][1]}.")


def geometric_means(report):
    """One line a content and RAM, and how many rows farswap loses."""
    for cell in report["cells"]:
        rivals = cell["rivals"]
        found = []
        for other, work, _, cluster in rows(report):
            if other is cell and cluster and not isinstance(rivals["farswap"], str):
                found.append(statistics.median(ratios(rivals["farswap"], rivals[cluster], work)))
        if found:
            mean = statistics.geometric_mean(found)
            yield (f"- {cell['content']} at {cell['ram']}%: farswap/kernel {mean:.2f} in the geometric mean, behind in "
                   f"{sum(1 for ratio in found if ratio < 1)} of {len(found)} rows.")


def markdown(report):
    yield from explanation(report["facts"])
    for title, lines in (("Against kernel swap on the same disk", kernel_table), ("How long an access takes", latency_table),
                         ("Against zram", zram_table), ("Against enough RAM", plain_table)):
        yield from ("", f"## {title}", "", *lines(report))
        if lines is zram_table:
            yield from ("", *zram_notes(report))
        if lines is kernel_table:
            yield from ("", *geometric_means(report))
    yield from ("", *kill_notes(report))


def bar(label, value, most, colour):
    width = max(1, 420 * value / most)
    return (f'<text x="0" y="11">{html.escape(label)}</text><rect x="150" y="1" width="{width:.0f}" height="11" fill="{colour}"/>'
            f'<text x="{155 + width:.0f}" y="11">{thousands(value)}</text>')


def bars(rivals, work, cluster):
    """Median rates as bars from zero, plain left out: it would dwarf them."""
    shown = [("farswap", rivals["farswap"], "#c33"),
             (f"kernel swap ({(cluster or ' ')[-1]})", rivals[cluster or CLUSTERS[0]], "#36a"), ("zram", rivals["zram"], "#999")]
    ran = [(label, statistics.median(column(runs, work)), colour) for label, runs, colour in shown if not isinstance(runs, str)]
    most = max((value for _, value, _ in ran), default=1)
    parts = [f'<g transform="translate(0,{15 * number})">{bar(label, value, most, colour)}</g>'
             for number, (label, value, colour) in enumerate(ran)]
    return f'<svg width="640" height="{15 * len(ran) + 4}">{"".join(parts)}</svg>'


def page(report, head):
    yield "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>farswap and kernel swap, side by side</title>"
    yield "<style>body{font:14px sans-serif;max-width:60em;margin:2em auto}svg{font:11px sans-serif}"
    yield "h3{margin:.8em 0 .1em;font-size:1em}</style><h1>farswap and kernel swap, side by side</h1>"
    yield f"<pre>{html.escape(head)}</pre><p>{html.escape(next(explanation(report['facts'])))}</p>"
    before = None
    for cell, work, rivals, cluster in rows(report):
        if cell is not before:
            yield f"<h2>{cell['content']}, RAM for {cell['ram']}%</h2>"
            before = cell
        yield f"<h3>{work_name(work)}: thousand accesses a second</h3>{bars(rivals, work, cluster)}"
    yield "</html>"


def write(report, directory):
    """swap.md, swap.json and swap.html in `directory`."""
    head = subprocess.run([pathlib.Path(__file__).with_name("machine.sh"), "Swap on a local file, side by side"], check=True,
                          capture_output=True, text=True).stdout
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "swap.md").write_text(head + "\n".join(markdown(report)) + "\n")
    (directory / "swap.json").write_text(json.dumps(report, separators=(",", ":")) + "\n")
    (directory / "swap.html").write_text("\n".join(page(report, head)) + "\n")
    print(f"bench: written to {directory}/swap.md, swap.json and swap.html")
