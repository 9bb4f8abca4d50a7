// Charts: those over time show one look at all of them, and so do those over sizes; by mouse or by keyboard. Knows dygraphs, not what
// is shown.
"use strict";

const charts = [], sizeCharts = [];  // what moves together

const colourOf = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

function element(kind, properties = {}, ...children) {
    const made = document.createElement(kind);
    for (const [name, value] of Object.entries(properties)) {
        if (name in made && typeof value !== "string") made[name] = value;
        else made.setAttribute(name === "className" ? "class" : name, value);
    }
    made.append(...children);
    return made;
}

/// The rows that are shown, by the window of a group's first chart.
function shownRows(group) {
    const [from, to] = group[0].graph.xAxisRange();
    const at = group[0].at;
    let first = at.findIndex(value => value >= from - 1e-9);
    if (first < 0) first = at.length - 1;
    let last = at.length - 1;
    while (last > first && at[last] > to + 1e-9) last--;
    return [first, last];
}

function select(group, row) {
    for (const chart of group) {
        chart.row = row;
        chart.graph.setSelection(row);
        tell(chart);
    }
}

function unselect(group) {
    for (const chart of group) {
        chart.row = null;
        chart.graph.clearSelection();
        tell(chart);
    }
}

/// What the series have where the cursor is, or their colours only.
function tell(chart) {
    chart.legend.replaceChildren(...chart.series.map((series, i) => {
        const value = chart.row === null ? null : chart.values[chart.row][i + 1];
        const text = series.name + (value === null || Number.isNaN(value) ? "" : " " + chart.format(value));
        const label = element("span", {}, text);
        label.style.setProperty("--colour", `var(--${series.colour})`);
        if (series.dash) label.style.setProperty("--dash", "dashed");
        return label;
    }));
    if (chart.row !== null)
        chart.legend.append(element("span", {className: "time"}, chart.where(chart.at[chart.row])));
}

function zoom(group, window) {
    const [from, to] = window || [group[0].at[0], group[0].at.at(-1)];
    for (const chart of group) chart.graph.updateOptions({dateWindow: [from, to]});
}

function pressed(event, chart) {
    const {group, at} = chart;
    const [first, last] = shownRows(group);
    const step = event.shiftKey ? 10 : 1;
    const row = chart.row ?? last;
    const within = wanted => Math.min(last, Math.max(first, wanted));
    const [from, to] = chart.graph.xAxisRange();
    const keys = {
        ArrowLeft: () => select(group, within(row - step)),
        ArrowRight: () => select(group, within(row + step)),
        Home: () => select(group, first),
        End: () => select(group, last),
        Escape: () => { unselect(group); zoom(group, null); },
        "+": () => zoom(group, [at[row] - (at[row] - from) / 2, at[row] + (to - at[row]) / 2]),
        "-": () => zoom(group, [Math.max(at[0], from - (to - from) / 2), Math.min(at.at(-1), to + (to - from) / 2)]),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
}

function optionsOf(chart) {
    const series = {};
    for (const one of chart.series) {
        series[one.name] = {
            color: colourOf(one.colour), strokePattern: one.dash ? [6, 4] : null, fillGraph: Boolean(one.fill),
            strokeWidth: one.dash ? 1.5 : 1.75, stepPlot: Boolean(one.step),
        };
    }
    return {
        labels: [chart.over, ...chart.series.map(one => one.name)], series, stackedGraph: Boolean(chart.stacked), fillAlpha: chart.stacked ? .45 : .18,
        logscale: Boolean(chart.logarithmic), legend: "never", labelsDiv: element("div"), axisLineColor: colourOf("line"),
        gridLineColor: colourOf("grid"), connectSeparatedPoints: false, includeZero: !chart.logarithmic, valueRange: chart.range || null,
        xRangePad: 0, yRangePad: 4, highlightCircleSize: 3, animatedZooms: false, drawPoints: chart.at.length < 4, pointSize: 2,
        axes: {
            x: {axisLabelFormatter: value => seconds(value), pixelsPerLabel: 70, axisLabelWidth: 60, ...chart.axis},
            y: {axisLabelFormatter: value => chart.format(value), axisLabelWidth: 66, pixelsPerLabel: 34, ticker: (from, to) => chart.logarithmic ? latencyTicks(from, to) : roundTicks(from, to, chart.format, chart.isSize)},
        },
        highlightCallback: (event, x, points, row) => { if (row !== chart.row) select(chart.group, row); },
        unhighlightCallback: () => unselect(chart.group),
        zoomCallback: (from, to) => zoom(chart.group, [from, to]),
    };
}

/// About five ticks at 1, 2 or 5 times a power of ten of the unit that suits the axis: for sizes, KiB, MiB, GiB.
function roundTicks(from, to, format, isSize) {
    const unit = isSize ? 1024 ** Math.max(0, Math.floor(Math.log2(Math.max(to, 1)) / 10)) : 1;
    const rough = (to - from) / unit / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find(times => times * power >= rough * .999) * power * unit;
    const ticks = [];
    for (let i = Math.ceil(from / step - 1e-9); i * step <= to; i++) ticks.push({v: i * step, label: format(i * step)});
    return ticks;
}

function latencyTicks(from, to) {
    const ticks = [];
    for (let at = 1e-3; at <= to * 1.001; at *= 10) if (at >= from * .999) ticks.push({v: at, label: latency(at)});
    return ticks;
}

/// A chart is {title, series: [{name, colour, dash, fill, step}], at, columns, format, ...}; over time, unless it says otherwise.
function addChart(chart) {
    chart = {group: charts, id: "charts", heading: "h2", over: "time", where: time => "at " + seconds(time), axis: {}, ...chart, row: null};
    chart.values = chart.at.map((value, i) => [value, ...chart.columns.map(column => column[i])]);
    chart.legend = element("div", {className: "legend", "aria-live": "polite"});
    chart.place = element("div", {className: "chart", tabindex: "0", role: "img", "aria-label": `${chart.title}: ${chart.summary}`});
    document.getElementById(chart.id).append(
        element("div", {className: "chart-card"}, element(chart.heading, {}, chart.title), chart.legend, chart.place));
    chart.graph = new Dygraph(chart.place, chart.values, optionsOf(chart));
    chart.group.push(chart);
    chart.place.addEventListener("keydown", event => pressed(event, chart));
    chart.place.addEventListener("focus", () => { if (chart.row === null) select(chart.group, shownRows(chart.group)[1]); });
    chart.place.addEventListener("blur", () => unselect(chart.group));
    tell(chart);
}

function recolourCharts() {
    for (const chart of [...charts, ...sizeCharts]) chart.graph.updateOptions(optionsOf(chart));
}

/// Where a bucket of the statistics begins, in the unit of its end, microseconds: eight for each doubling.
function beginOf(end) {
    const bits = Math.floor(Math.log2(end * 1000 - 1));
    return bits < 8 ? end / 2 : end - 2 ** (bits - 3) / 1000;
}

function svg(kind, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
}

/// The outline of one series' buckets.
function outline(buckets, x, y) {
    const points = [];
    let before = null;
    for (const [end, count] of buckets) {
        const begin = beginOf(end);
        if (before === null || begin > before * 1.001) {
            if (before !== null) points.push([x(before), y(0)]);
            points.push([x(begin), y(0)]);
        }
        points.push([x(begin), y(count)], [x(end), y(count)]);
        before = end;
    }
    points.push([x(before), y(0)]);
    return points.map(point => point.map(value => value.toFixed(1)).join()).join(" ");
}

/// Counts by time taken, several series over logarithmic axes, as SVG as wide as its place.
function drawLatencies(place, series) {
    const width = Math.max(place.clientWidth, 200), height = 190, left = 44, right = 12, bottom = 24, top = 8;
    const shown = series.filter(one => one.buckets.length > 0);
    if (shown.length === 0) {
        place.replaceChildren(element("p", {className: "hint"}, "There were none."));
        return;
    }
    const bounds = shown.flatMap(one => one.buckets.map(bucket => bucket[0]));
    const least = 10 ** Math.floor(Math.log10(beginOf(Math.min(...bounds)))), most = 10 ** Math.ceil(Math.log10(Math.max(...bounds)));
    const x = value => left + Math.log10(value / least) / Math.log10(Math.max(most / least, 10)) * (width - left - right);
    const highest = Math.max(...shown.flatMap(one => one.buckets.map(bucket => bucket[1])));
    const y = count => top + (1 - Math.log10(1 + count) / Math.log10(1 + highest)) * (height - top - bottom);
    const drawing = svg("svg", {width, height, role: "img",
        "aria-label": "Number of faults by the time that they took; the table below has the figures"});
    const grid = {class: "axis"};
    for (let at = least; at <= most * 1.01; at *= 10) {
        const anchor = at === least ? "start" : at * 1.01 > most ? "end" : "middle";
        drawing.append(svg("line", {...grid, x1: x(at), x2: x(at), y1: top, y2: height - bottom}),
            svg("text", {x: x(at), y: height - 6, "text-anchor": anchor}, latency(at)));
    }
    const powers = Math.ceil(Math.max(1, Math.log10(highest)) / 4);
    for (let count = 1; count <= highest; count *= 10 ** powers) {
        drawing.append(svg("line", {...grid, x1: left, x2: width - right, y1: y(count), y2: y(count)}),
            svg("text", {x: left - 6, y: y(count) + 4, "text-anchor": "end"}, number(count)));
    }
    for (const {buckets, colour} of shown) {
        drawing.append(svg("polyline", {points: outline(buckets, x, y),
            style: `fill: color-mix(in srgb, var(--${colour}) 18%, transparent); stroke: var(--${colour}); stroke-width: 1.75`}));
    }
    const legend = element("div", {className: "legend"}, ...shown.map(one => {
        const label = element("span", {}, one.name);
        label.style.setProperty("--colour", `var(--${one.colour})`);
        return label;
    }));
    place.replaceChildren(legend, drawing);
}
