// What the report shows, from the statistics (docs/stats.md).

const stats = JSON.parse(document.getElementById("data").textContent);
const kPage = 4096;
const kinds = [
    {key: "stored", name: "read from a store", colour: "orange"},
    {key: "cached", name: "in the pager's memory", colour: "blue"},
    {key: "first_touch", name: "new page", colour: "green"},
    {key: "waited_for_room", name: "waited for room", colour: "pink"},
];

// Figures as the command line writes them.
function scaled(value, step, units, digits = 1) {
    let unit = 0;
    while (unit + 1 < units.length && Math.abs(value) >= step - .5) {
        value /= step;
        unit++;
    }
    const text = value.toFixed(unit > 0 && Math.abs(value) < 9.95 && Math.abs(value - Math.round(value)) > .04 ? digits : 0);
    return units[unit] === "" ? text : `${text} ${units[unit]}`;
}
function size(bytes) { return scaled(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]); }
function number(count) { return scaled(count, 1000, ["", "k", "M", "G"]); }
function rate(bytes) { return scaled(bytes, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]); }
function latency(us) { return us >= 119.5e6 ? seconds(us / 1e6) : us > 0 && us < 1 ? `${Math.round(us * 1000)} ns` : scaled(us, 1000, ["µs", "ms", "s"]); }
function seconds(value) {
    if (value < 119.5) return `${value.toFixed(value < 9.95 && Math.abs(value - Math.round(value)) > .04 ? 1 : 0)} s`;
    const minutes = Math.floor(value / 60), rest = Math.round(value % 60);
    if (minutes < 120) return rest > 0 ? `${minutes} min ${rest} s` : `${minutes} min`;
    return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
function shortName(name) {
    return name.startsWith("/") ? name.slice(name.lastIndexOf("/") + 1) : name || "unnamed";
}

function showOutcome() {
    const {status, signal} = stats.exit || {status: 0, signal: 0};
    const parts = [];
    if (!stats.started) parts.push("did not run");
    else if (signal) parts.push(`ended by signal ${signal}`);
    else parts.push(`ended with status ${status}`);
    if (stats.started) parts.push(`after ${seconds(stats.elapsed_s)}`);
    document.getElementById("outcome").textContent = parts.join(" ");
    const notes = document.getElementById("notes");
    if (stats.failure) notes.append(element("li", {className: "failure"}, stats.failure));
    for (const note of stats.notes || []) notes.append(element("li", {}, note));
}

function showFigures() {
    const {memory, pages, faults, processes} = stats;
    const of = faults.latency.refaults;
    const waited = kinds.reduce((sum, kind) => sum + faults.latency[kind.key].sum_us, 0) / 1e6;
    const figures = [
        ["RAM cap", size(memory.cap_bytes), `${size(memory.peak_bytes)} at most`],
        ["Would have used", size(memory.need_bytes), memory.need_bytes > memory.cap_bytes
            ? `${(memory.need_bytes / memory.cap_bytes).toFixed(1)} times the cap` : "within the cap"],
        ["Far at most", size(memory.far_peak_bytes), `${size(memory.pager_bytes)} for the pager`],
        ["Moved out", size(pages.evicted * kPage), `${size(pages.written * kPage)} written`],
        ["Brought back", size(pages.in * kPage), `${number(pages.prefetched)} pages ahead of time`],
        ["Faults", number(faults.all), `${number(faults.stored)} read from a store`],
        ["A far page took", of.count ? latency(of.p50_us) : "–", of.count ? `half of them; 99 of 100: ${latency(of.p99_us)}` : "none was wanted back"],
        ["Threads waited", seconds(waited), `${latency(faults.latency.waited_for_room.sum_us)} of it for room`],
        ["Processes", number(processes.seen), processes.unmanaged ? `${number(processes.unmanaged)} not paged` : "all paged"],
    ];
    document.getElementById("figures").append(...figures.map(([name, value, more]) =>
        element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, more)))));
}

/// The history as columns that charts can take: a first sample at 0, and no last one that lasted a moment only.
function prepare(history) {
    const last = history.at_s.length - 1;
    const moment = last > 1 && history.at_s[last] - history.at_s[last - 1] < (history.at_s[last - 1] - history.at_s[last - 2]) / 3;
    const keep = history.at_s.map((time, i) => i).filter(i => !(moment && i === last - 1));
    const column = values => [0, ...keep.map(i => values[i])];
    const times = column(history.at_s);
    const perSecond = values => {
        const all = column(values);
        const rates = all.map((value, i) => i === 0 ? NaN : Math.max(0, value - all[i - 1]) / Math.max(times[i] - times[i - 1], 1e-3));
        rates[0] = rates[1];
        return rates;
    };
    return {times, column, perSecond, gauge: values => { const all = column(values); all[0] = NaN; return all; }};
}

const largest = column => Math.max(0, ...column.filter(value => !Number.isNaN(value) && value !== null));

function showCharts() {
    const {history} = stats, {times, gauge, perSecond} = prepare(history);
    const pagesPerSecond = values => perSecond(values).map(value => value * kPage);
    const add = chart => addChart({at: times, ...chart});
    const ram = gauge(history.ram_bytes), far = gauge(history.far_bytes);
    add({title: "Memory", format: size, isSize: true, columns: [ram, gauge(history.cap_bytes), far], summary:
        `RAM up to ${size(largest(ram))}, far up to ${size(largest(far))}`,
        series: [{name: "RAM", colour: "blue", fill: true}, {name: "cap", colour: "grey", dash: true, step: true}, {name: "far", colour: "orange"}]});
    const faults = perSecond(history.faults);
    const cached = perSecond(history.cached).map((value, i) => value + perSecond(history.second_chance)[i]);
    add({title: "Faults a second", format: number, stacked: true, columns: [perSecond(history.stored), cached, perSecond(history.first_touch)],
        summary: `up to ${number(largest(faults))} a second`, series: kinds.slice(0, 3).map(({name, colour}) => ({name, colour, fill: true}))});
    const p50 = gauge(history.refault_p50_us), p99 = gauge(history.refault_p99_us);
    const none = largest(p99) === 0;
    add({title: "How long a far page took", format: latency, logarithmic: true, columns: [p50, p99],
        range: none ? [1, 1000] : [10 ** Math.floor(Math.log10(Math.min(...p50.filter(value => value > 0)))) , 10 ** Math.ceil(Math.log10(largest(p99)))],
        summary: none ? "no far page was wanted" : `99 of 100 within ${latency(largest(p99))} at the worst time`,
        series: [{name: "half of them within", colour: "blue"}, {name: "99 of 100 within", colour: "orange", dash: true}]});
    const read = pagesPerSecond(history.in_pages), written = pagesPerSecond(history.written_pages);
    add({title: "Pages in and out", format: rate, columns: [read, written, pagesPerSecond(history.evicted_pages)], summary:
        `read up to ${rate(largest(read))}, written up to ${rate(largest(written))}`, series: [{name: "read", colour: "blue"},
            {name: "written", colour: "orange"}, {name: "moved out of the program", colour: "grey", dash: true}]});
    const waits = kinds.map(kind => perSecond(history.waited_s[kind.key]));
    add({title: "Where time went: threads waiting for pages", format: value => value.toFixed(value < 9.95 ? 1 : 0), stacked: true, columns: waits,
        summary: `up to ${largest(waits[0]).toFixed(1)} threads waited for a store`, series: kinds.map(({name, colour}) => ({name, colour, fill: true}))});
    const dirty = gauge(history.cache_dirty_bytes);
    add({title: "The pager's memory", format: size, isSize: true, columns: [gauge(history.pager_bytes), dirty, gauge(history.cache_clean_bytes)],
        summary: `up to ${size(largest(gauge(history.pager_bytes)))}`, series: [{name: "all of it", colour: "grey"},
            {name: "pages not written yet", colour: "orange"}, {name: "pages that are stored as well", colour: "blue", dash: true}]});
}

/// How it would have gone under other caps, as farswap size says it.
function showSizes() {
    const of = stats.size, says = document.getElementById("size-says");
    if (!of || !stats.started) {
        document.getElementById("size").hidden = true;
        return;
    }
    if (of.verdict !== "known") {
        says.textContent = `Too few misses to predict (${number(of.misses)}): ` + (of.verdict === "no_misses"
            ? "it needs no more than the cap that it had." : "it ran too short, or was paged too little.");
        return;
    }
    const {curve} = of, sizes = curve.map(point => point.cap_bytes), times = curve.map(point => point.seconds);
    const within = of.nearly_full_bytes, half = of.half_speed_bytes, slowest = times[0] / Math.max(of.full_speed_s, 1e-9);
    says.textContent = `Predicted from this run, for this machine and store. ` +
        (within ? `With ${size(within)} it runs within 5% of full speed` : "No cap below its need runs within 5% of full speed") +
        (half && half !== within && slowest > 2 ? `; with ${size(half)} it takes twice as long` : "") +
        `; with ${size(sizes[0])}, as in this run, ${slowest <= 1.05 ? "as long" : slowest.toFixed(slowest < 9.95 ? 1 : 0) + " times as long"}.`;
    const add = chart => addChart({group: sizeCharts, id: "size-charts", heading: "h3", over: "RAM", at: sizes, where: cap => "with " + size(cap),
        axis: {axisLabelFormatter: size, ticker: (from, to) => roundTicks(from, to, size, true)}, ...chart});
    add({title: "Predicted time by RAM", format: seconds, columns: [times, sizes.map(() => of.full_speed_s)],
        summary: `${seconds(times[0])} with ${size(sizes[0])}, ${seconds(of.full_speed_s)} with all that it needs`,
        series: [{name: "time", colour: "blue", fill: true}, {name: "at full speed", colour: "grey", dash: true}]});
    const misses = curve.map(point => point.misses);
    add({title: "Pages waited for, by RAM", format: number, columns: [misses], summary:
        `${number(misses[0])} with ${size(sizes[0])}, ${number(misses.at(-1))} with all that it needs`,
        series: [{name: "misses", colour: "orange", fill: true}]});
}

function table(id, heads, rows) {
    const isNumber = i => heads[i].startsWith("#");
    const cells = (kind, texts) => texts.map((text, i) => element(kind, {className: isNumber(i) ? "number" : i === 0 ? "name" : ""}, String(text)));
    const head = element("thead", {}, element("tr", {}, ...cells("th", heads.map(text => text.replace("#", "")))));
    document.getElementById(id).replaceChildren(head, element("tbody", {}, ...rows.map(row => element("tr", {}, ...cells("td", row)))));
}

function showLatencies() {
    const all = stats.faults.latency;
    const place = document.getElementById("latency-chart");
    const draw = () => drawLatencies(place, kinds.map(({key, name, colour}) => ({name, colour, buckets: all[key].buckets})));
    draw();
    addEventListener("resize", draw);
    table("latency-table", ["Waited for", "#faults", "#half", "#9 of 10", "#99 of 100", "#999 of 1000", "#longest", "#all together"],
        [...kinds, {key: "all", name: "all"}].map(({key, name}) => {
            const of = all[key], took = value => of.count ? latency(value) : "–";
            return [name, number(of.count), took(of.p50_us), took(of.p90_us), took(of.p99_us), took(of.p999_us), took(of.max_us), latency(of.sum_us)];
        }));
}

/// What can be said of a mapping: hot when many of its pages came back, far when most of it stayed outside.
function verdict(mapping) {
    if (mapping.refaults > mapping.pages / 2) return mapping.refaults > mapping.pages * 4 ? "hot, and did not fit" : "in use, moved out and back";
    if (mapping.far > mapping.pages / 2) return "cold, far";
    return mapping.farMost > 0 ? "partly far" : "in RAM";
}

function showMap() {
    const {regions} = stats;
    const hint = document.getElementById("map-hint");
    if (regions.rows.length === 0 || regions.at_s.length === 0) {
        hint.textContent = "Nothing came near the cap, so nothing was paged and nothing is known of single regions.";
        document.getElementById("map-mode").hidden = true;
        table("mappings", ["Mapping"], []);
        return;
    }
    hint.textContent = `Each row is a region of ${size(regions.region_bytes)}, lowest addresses first; blank until the job came near its cap.`;
    const mappings = mappingsOf(regions);
    for (const mapping of mappings) {
        const rows = mapping.rows.map(i => regions.rows[i]);
        const sum = figure => rows.reduce((total, row) => total + figure(row), 0);
        mapping.pages = sum(row => Math.max(row.mapped_pages, ...row.far_pages));
        mapping.refaults = sum(row => row.refaults.reduce((a, b) => a + b, 0));
        mapping.far = sum(row => row.far_pages.reduce((a, b) => a + b, 0) / row.far_pages.length);
        mapping.farMost = Math.max(...regions.at_s.map((time, x) => sum(row => row.far_pages[x])));
    }
    const map = new HeatMap(document.getElementById("map"), regions, mappings);
    for (const input of document.querySelectorAll("input[name=map]")) input.addEventListener("change", () => map.show(input.value));
    themeChanged.push(() => map.draw());
    const shown = mappings.filter(one => one.pages > 0).sort((a, b) => b.pages - a.pages).slice(0, 20);
    table("mappings", ["Mapping", "From", "#size", "#far on average", "#far at most", "#refaults", "#a page", "Looks"],
        shown.map(one => [one.name || "unnamed", hexadecimal(one.start), size(one.pages * kPage), size(one.far * kPage), size(one.farMost * kPage),
            number(one.refaults), (one.refaults / Math.max(one.pages, 1)).toFixed(1), verdict(one)]));
}

function showStores() {
    table("stores", ["Store", "#reads", "#read", "#writes", "#written", "#flushes", "#reserved", "#sent again", "#connected anew", "#lost writes"],
        (stats.stores || []).map(one => [one.name, number(one.reads), size(one.read_bytes), number(one.writes), size(one.written_bytes),
            number(one.flushes), size(one.reserved_bytes), number(one.retries), number(one.reconnects), number(one.lost_writes)]));
}

const themeChanged = [recolourCharts];
function setTheme(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    for (const changed of themeChanged) changed();
}

showOutcome();
showFigures();
if (stats.history.at_s.length > 0) showCharts();
else document.getElementById("hint").hidden = true;
showSizes();
showLatencies();
showMap();
showStores();
for (const input of document.querySelectorAll("input[name=theme]")) input.addEventListener("change", () => setTheme(input.value));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => themeChanged.forEach(changed => changed()));
// A link may ask for colours: page.html#dark.
const asked = document.querySelector(`input[name=theme][value="${location.hash.slice(1).replace(/\W/g, "")}"]`);
if (asked) {
    asked.checked = true;
    setTheme(asked.value);
}
document.documentElement.dataset.drawn = "yes";
