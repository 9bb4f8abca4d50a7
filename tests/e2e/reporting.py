"""Cases of bad_input.py about the report: its page is opened in headless Chromium, with a script added to it that looks at
what was drawn.
"""
import html
import json
import os
import re
import shutil
import subprocess

from fault_lab import REFUSED, USAGE, case

# Runs in the page, after its own scripts. A canvas is drawn on when it has pixels of more than one colour.
CHECK = """
<script>
const colours = canvas => {
    const data = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    return new Set(data).size;
};
const channels = text => text.match(/[0-9.]+/g).slice(0, 3).map(value => value / 255)
    .map(value => value <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4);
const light = text => channels(text).reduce((sum, value, i) => sum + value * [.2126, .7152, .0722][i], 0);
const behind = node => {
    for (; node; node = node.parentElement) {
        const colour = getComputedStyle(node).backgroundColor;
        if (!/rgba\\(.*, 0\\)/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
};
const contrast = node => {
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
};
const press = (node, key) => node.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const found = {
    drawn: document.documentElement.dataset.drawn,
    charts: [...document.querySelectorAll(".chart")].map(place => Math.max(...[...place.querySelectorAll("canvas")].map(colours))),
    labels: [...document.querySelectorAll(".chart")].map(place => place.getAttribute("aria-label")),
    maps: [...document.querySelectorAll("#map canvas")].map(colours),
    outlines: document.querySelectorAll("#latency-chart polyline").length,
    tables: Object.fromEntries([...document.querySelectorAll("table")].map(table => [table.id, table.rows.length])),
    figures: document.querySelectorAll("#figures dd").length,
    notes: [...document.querySelectorAll("#notes li")].map(note => note.textContent),
    contrast: Math.min(...[...document.querySelectorAll("p, h1, h2, dt, dd, small, th, td, legend, label, .legend span, .dygraph-axis-label")]
        .filter(node => node.offsetWidth > 1).map(contrast)),
    page: getComputedStyle(document.body).backgroundColor,
    tooWide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    width: innerWidth,
};
const ofSizes = document.querySelector("#size-charts .chart");
found.sizeSays = document.getElementById("size-says").textContent;
if (ofSizes) {
    const legends = () => [...document.querySelectorAll("#size-charts .legend")].map(node => node.textContent);
    ofSizes.focus();
    found.sizeAtEnd = legends();
    press(ofSizes, "Home");
    found.sizeAtBegin = legends();
    found.timesMoved = [...document.querySelectorAll("#charts .legend .time")].length;
    ofSizes.blur();
}
const chart = document.querySelector(".chart");
if (chart) {
    const legend = () => chart.parentElement.querySelector(".legend").textContent;
    chart.focus();
    found.atEnd = legend();
    press(chart, "Home");
    found.atBegin = legend();
    press(chart, "ArrowRight");
    found.next = legend();
    const map = document.querySelector("#map canvas");
    if (map) {
        map.focus();
        press(map, "ArrowRight");
        found.readout = document.querySelector("#map .readout").textContent;
        const before = map.toDataURL();
        document.querySelector("input[value=refaults]").click();
        found.otherMap = before !== map.toDataURL();
    }
    const dark = document.querySelector("input[value=dark]"), bright = document.querySelector("input[value=light]");
    (dark.checked ? bright : dark).click();
    found.otherPage = getComputedStyle(document.body).backgroundColor;
}
document.body.innerHTML = "";
document.body.append(Object.assign(document.createElement("pre"), {id: "found", textContent: JSON.stringify(found)}));
</script>
"""


def browse(lab, page, colours, width=1280):
    """What CHECK has found in the page; what the browser's console says is a problem."""
    copy = lab.directory / f"{page.stem}-{colours}-{width}.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", CHECK + "</body>"), encoding="utf-8")
    profile = lab.directory / f"browser{lab.runs}"
    lab.runs += 1
    run = subprocess.run(
        ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={profile}",
         f"--window-size={width},900", "--virtual-time-budget=5000", "--dump-dom", f"file://{copy}#{colours}"],
        capture_output=True, text=True, timeout=150, env=dict(os.environ, HOME=str(lab.directory)))
    shutil.rmtree(profile, ignore_errors=True)
    console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    lab.expect(not console, f"the console says: {console[:3]}")
    found = re.search(r'<pre id="found">(.*?)</pre>', run.stdout, re.DOTALL)
    if not lab.expect(found, f"nothing was found: {run.stdout[-300:]} {run.stderr[-300:]}"):
        return {}
    return json.loads(html.unescape(found.group(1)))


def expect_drawn(lab, found, charts):
    good = found.get("drawn") == "yes"
    good &= len(found["charts"]) == charts and all(colours > 2 for colours in found["charts"])
    good &= all(found["labels"]) and found["figures"] >= 8 and found["tables"]["latency-table"] == 6
    good &= found["contrast"] >= 4.5 and found["tooWide"] <= 0
    lab.expect(good, f"the page has {found}")


@case
def report_of_a_job(lab):
    """Every chart is drawn, light and dark, wide and narrow; keys move the cursor; the switch changes the colours."""
    page, again, stats = lab.directory / "job.html", lab.directory / "again.html", lab.directory / "job.json"
    run = lab.job(lab.file_url(), lab.tools.workloads / "verify", "--size", "120M", "--seconds", "4",
                  flags=["--report", page, "--stats", stats])
    lab.expect(run.status == 0 and f"farswap: report   {page}" in run.error, f"{run.status} {run.error}")
    lab.expect_nothing_left(run)
    run = lab.farswap("report", "-o", again, stats)
    lab.expect(run.status == 0 and again.read_bytes() == page.read_bytes(), f"another page of the same figures: {run.error}")
    series = json.loads(stats.read_text())
    lab.expect(len(series["history"]["at_s"]) > 10 and len(series["regions"]["rows"]) > 20, "too little was recorded")
    far, refaults = (sum(sum(row[name]) for row in series["regions"]["rows"]) for name in ("far_pages", "refaults"))
    lab.expect(far > 0 and refaults > series["faults"]["stored"] / 2, f"regions: {far} far, {refaults} refaults")
    counted = sum(series["faults"]["latency"][kind]["count"] for kind in ("first_touch", "cached", "stored", "waited_for_room"))
    lab.expect(series["faults"]["all"] * .9 <= counted <= series["faults"]["all"], f"{counted} of {series['faults']['all']} timed")
    pages = set()
    for colours, width in (("light", 1280), ("dark", 500)):
        found = browse(lab, page, colours, width)
        if not found:
            continue
        expect_drawn(lab, found, 8)
        begin, end = found["sizeAtBegin"], found["sizeAtEnd"]
        lab.expect("within 5% of full speed" in found["sizeSays"] and found["timesMoved"] == 0 and begin[0] != end[0] and
                   all(re.search(r"with [0-9.]+ [MG]iB$", text) for text in begin + end),
                   f"the curve: {begin} {end} {found['sizeSays']}")
        lab.expect(found["maps"] and found["maps"][0] > 1 and found["outlines"] >= 2 and found["tables"]["mappings"] > 1,
                   f"the page has {found}")
        lab.expect(len({found["atEnd"], found["atBegin"], found["next"]}) == 3 and "far" in found["atEnd"], f"by keyboard: {found}")
        lab.expect("refaults" in found["readout"] and found["otherMap"], f"the map: {found}")
        pages |= {(found["page"], found["otherPage"])}
    lab.expect(len(pages) == 2 and pages == {(b, a) for a, b in pages}, f"colours of the page: {pages}")


@case
def report_of_little(lab):
    """Of a job that ended at once under an odd name, and of one that never began: no chart breaks."""
    odd = lab.directory / "</script><script>throw 1\"'\n\udcff"
    odd.parent.mkdir()
    os.symlink("/bin/true", odd)
    for name, program, status, charts in (("odd", [odd], 0, 6), ("absent", ["/no/such/program"], 127, 0)):
        page = lab.directory / f"{name}.html"
        run = lab.job(lab.file_url(), *program, flags=["--report", page])
        lab.expect(run.status == status, f"{name}: {run.status} {run.error}")
        found = browse(lab, page, "light")
        if found:
            expect_drawn(lab, dict(found, charts=[9] * charts), charts)
            lab.expect(len(found["charts"]) == charts, f"{name}: {len(found['charts'])} charts")
            lab.expect(("Too few misses to predict (0)" in found["sizeSays"]) == bool(charts), f"{name}: {found['sizeSays']}")
    lab.expect(found["notes"] and "/no/such/program" in found["notes"][0], f"why it did not run: {found['notes']}")


@case
def report_of_an_attached_job(lab):
    program = subprocess.Popen([lab.tools.workloads / "verify", "--size", "80M", "--seconds", "3"], stdout=subprocess.DEVNULL)
    page = lab.directory / "attached.html"
    run = lab.farswap("attach", "--ram", "64M", "--swap", lab.file_url(), "--report", page, program.pid)
    lab.expect(run.status == 0 and program.wait(30) == 0, f"{run.status} {run.error}")
    lab.expect(f"<title>process {program.pid} under farswap</title>" in page.read_text(), "the page has another title")


@case
def report_where_none_can_be(lab):
    full = lab.small_filesystem(4)
    for path in ("/no/such/folder/job.html", lab.store):
        marker = lab.directory / "ran"
        lab.expect_refusal(lab.job(lab.file_url(), "touch", marker, flags=["--report", path]), REFUSED, "--report", "cannot be written")
        lab.expect(not marker.exists(), "the program ran")
    stats = lab.directory / "s.json"
    lab.expect_refusal(lab.job(lab.file_url(), "true", flags=["--report", stats, "--stats", stats]), USAGE, "--report", "both")
    run = lab.job(lab.file_url(), "sh", "-c", f"cat /dev/zero > {full}/fill 2>/dev/null; exit 7", flags=["-q", "--report", full / "job.html"])
    lab.expect(run.status == 7 and run.error.count("\n") == 1 and "job.html: cannot be written" in run.error,
               f"the disk became full: {run.status} {run.error!r}")


@case
def report_of_odd_files(lab):
    stats = lab.directory / "job.json"
    lab.job(lab.file_url(), "true", flags=["--stats", stats])
    text = stats.read_text()
    older = json.loads(text)
    del older["history"]
    odd = {"empty": "", "text": "hello\n", "array": "[1]", "cut": text[:len(text) // 2], "newer": text.replace('"format": 1', '"format": 2'),
           "older": json.dumps(older), "deep": "[" * 1000000, "binary": "\0\1\2" * 1000}
    words = {"newer": "format 2", "older": "no history", "array": "no statistics file"}
    of_before = json.loads(text)
    del of_before["size"]
    (lab.directory / "before.json").write_text(json.dumps(of_before))
    run = lab.farswap("report", lab.directory / "before.json")
    found = browse(lab, lab.directory / "before.html", "light")
    lab.expect(run.status == 0 and found and found["drawn"] == "yes" and not found["sizeSays"],
               f"without a size: {run.error} {found}")
    for name, content in odd.items():
        path = lab.directory / f"{name}.json"
        path.write_text(content)
        lab.expect_refusal(lab.farswap("report", path), REFUSED, name, words.get(name, "no JSON"))
        lab.expect(not path.with_suffix(".html").exists(), f"{name}: a page was made")
    lab.expect_refusal(lab.farswap("report", lab.directory / "absent"), REFUSED, "absent", "no such file")
    lab.expect_refusal(lab.farswap("report", "-o", "/no/such/folder/x", stats), REFUSED, "-o /no/such/folder/x", "cannot be written")
