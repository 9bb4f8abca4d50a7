// The map of the address space over time, on a canvas: a row a region, a column a stretch of time.

/// Regions side by side under one name are one mapping, as far as can be told; so are those that came too late to be named.
function mappingsOf(regions) {
    const mappings = [];
    const bytes = BigInt(regions.region_bytes || 1);
    regions.rows.forEach((row, i) => {
        const start = BigInt("0x" + row.address);
        const last = mappings.at(-1);
        if (last && last.end === start && (row.name === last.name || row.name === "")) {
            last.end = start + bytes;
            last.rows.push(i);
        } else {
            mappings.push({name: row.name, start, end: start + bytes, rows: [i]});
        }
    });
    return mappings;
}

const hexadecimal = address => "0x" + address.toString(16);

/// What the style has for a place between 0 and 1 on its scale "hot" or "cold".
function mapColours(scale) {
    const stops = [0, 1, 2, 3, 4].map(i => {
        const hex = colourOf(`${scale}-${i}`);
        return [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
    });
    return share => {
        const at = Math.min(Math.max(share, 0), 1) * 4, below = Math.min(Math.floor(at), 3);
        return stops[below].map((value, i) => Math.round(value + (stops[below + 1][i] - value) * (at - below)));
    };
}

class HeatMap {
    constructor(place, regions, mappings) {
        this.place = place;
        this.regions = regions;
        this.mappings = mappings;
        this.mode = "far";
        this.at = null;
        this.canvas = element("canvas", {tabindex: "0", role: "img",
            "aria-label": `Memory by address and time: ${regions.rows.length} regions of ${size(regions.region_bytes)}. Arrow keys move the cursor.`});
        this.labels = element("div", {className: "labels", "aria-hidden": "true"});
        this.readout = element("div", {className: "readout", "aria-live": "polite"});
        this.scale = element("div", {className: "scale"});
        const times = element("div", {className: "times"}, element("span", {}, seconds(0)), element("span", {}, seconds(regions.at_s.at(-1))));
        place.replaceChildren(element("div", {className: "frame"}, this.labels, this.canvas, times, this.scale, this.readout));
        this.canvas.addEventListener("pointermove", event => this.point(event));
        this.canvas.addEventListener("pointerdown", event => this.point(event));
        this.canvas.addEventListener("pointerleave", () => this.move(null));
        this.canvas.addEventListener("keydown", event => this.press(event));
        this.canvas.addEventListener("focus", () => this.move(this.at ?? [0, 0]));
        this.canvas.addEventListener("blur", () => this.move(null));
        this.draw();
    }

    rowHeight() {
        return Math.max(2, Math.min(14, Math.floor(360 / this.regions.rows.length)));
    }

    draw() {
        const {rows, at_s: times} = this.regions, height = this.rowHeight();
        const colour = mapColours(this.mode === "far" ? "cold" : "hot");
        const most = Math.max(1, ...rows.flatMap(row => row.refaults));
        this.canvas.width = times.length;
        this.canvas.height = rows.length;
        this.canvas.style.height = rows.length * height + 2 + "px";
        const context = this.canvas.getContext("2d");
        const image = context.createImageData(times.length, rows.length);
        rows.forEach((row, y) => times.forEach((time, x) => {
            const share = this.mode === "far" ? row.far_pages[x] / Math.max(row.mapped_pages, 1, ...row.far_pages)
                : Math.log1p(row.refaults[x]) / Math.log1p(most);
            image.data.set([...colour(share), 255], (y * times.length + x) * 4);
        }));
        context.putImageData(image, 0, 0);
        this.scale.replaceChildren(...this.mode === "far" ? ["in RAM", element("i"), "all far"]
            : ["none", element("i", {className: "hot"}), `${number(most)} refaults in ${seconds(times.at(-1) / times.length)}`]);
        this.label(height);
    }

    /// Names of mappings beside them, as many as have room.
    label(height) {
        let free = -100;
        this.labels.replaceChildren();
        for (const mapping of [...this.mappings].sort((a, b) => a.rows[0] - b.rows[0])) {
            const middle = Math.max(7, (mapping.rows[0] + mapping.rows.length / 2) * height);
            if (middle - 8 < free) continue;
            free = middle + 8;
            const label = element("span", {title: mapping.name}, shortName(mapping.name));
            label.style.top = middle + "px";
            this.labels.append(label);
        }
    }

    point(event) {
        const box = this.canvas.getBoundingClientRect();
        this.move([Math.floor((event.clientX - box.left) / box.width * this.regions.at_s.length),
            Math.floor((event.clientY - box.top) / box.height * this.regions.rows.length)]);
    }

    press(event) {
        const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
        if (!steps[event.key]) return;
        event.preventDefault();
        const [x, y] = this.at ?? [0, 0];
        const step = event.shiftKey ? 10 : 1;
        this.move([x + steps[event.key][0] * step, y + steps[event.key][1] * step]);
    }

    move(at) {
        const {rows, at_s: times, region_bytes: bytes} = this.regions;
        if (at) at = [Math.min(times.length - 1, Math.max(0, at[0])), Math.min(rows.length - 1, Math.max(0, at[1]))];
        this.at = at;
        this.canvas.style.outline = "";
        if (!at) {
            this.readout.textContent = "";
            return;
        }
        const [x, y] = at, row = rows[y];
        this.readout.textContent = `${seconds(x > 0 ? times[x - 1] : 0)} to ${seconds(times[x])}, ${hexadecimal(BigInt("0x" + row.address))} + ` +
            `${size(bytes)}, ${row.name || "unnamed"}: ${size(row.far_pages[x] * 4096)} far, ${number(row.refaults[x])} refaults`;
    }

    show(mode) {
        this.mode = mode;
        this.draw();
        this.move(this.at);
    }
}
