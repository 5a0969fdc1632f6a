// A histogram, in which a range is chosen by dragging.

import { counted, format } from "./objects.js";

const HEIGHT = 118;
const MARGIN = { left: 4, right: 4, top: 6, bottom: 18 };
const MOST_BINS = 40;

export class Histogram {
  // onRange(low, high), null at both for all
  constructor(svg, onRange) {
    Object.assign(this, { svg, values: [], range: [null, null] });
    let start = null;
    const valueAt = (event) => {
      const { left, width } = svg.getBoundingClientRect();
      const inner = width - MARGIN.left - MARGIN.right;
      const share = Math.min(1, Math.max(0, (event.clientX - left - MARGIN.left) / inner));
      return this.low + share * (this.high - this.low);
    };
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      start = { x: event.clientX, value: valueAt(event) };
    });
    svg.addEventListener("pointermove", (event) => {
      if (start && Math.abs(event.clientX - start.x) > 3) {
        onRange(...[start.value, valueAt(event)].sort((a, b) => a - b));
      }
    });
    svg.addEventListener("pointerup", (event) => {
      if (start && Math.abs(event.clientX - start.x) <= 3) onRange(null, null);
      start = null;
    });
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  // values: of all objects; range: the chosen [low, high]; title: with the unit
  show(values, range, title) {
    Object.assign(this, { values, range, title });
    [this.low, this.high] = extent(values);
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth;
    if (!width) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const counts = this.#count();
    const most = Math.max(1, ...counts);
    const inner = width - MARGIN.left - MARGIN.right;
    const bottom = HEIGHT - MARGIN.bottom;
    const x = (value) => MARGIN.left + ((value - this.low) / (this.high - this.low)) * inner;
    const [from, to] = [this.range[0] ?? -Infinity, this.range[1] ?? Infinity];
    const parts = counts.map((count, bin) => {
      const [left, right] = [this.#edge(bin), this.#edge(bin + 1)];
      const height = (count / most) * (bottom - MARGIN.top);
      const isIn = right >= from && left <= to;
      const bar = element("rect", {
        x: x(left), width: Math.max(0.5, x(right) - x(left) - 1), y: bottom - height, height,
        class: isIn ? "in" : "out",
      });
      bar.append(element("title", {}, `${format(left)} to ${format(right)}: ${counted(count, "object")}`));
      return bar;
    });
    parts.push(element("line", { x1: 0, x2: width, y1: bottom, y2: bottom, class: "axis" }));
    if (Number.isFinite(from) || Number.isFinite(to)) {
      const left = x(Math.max(this.low, Math.min(from, this.high)));
      const right = x(Math.min(this.high, Math.max(to, this.low)));
      parts.unshift(
        element("rect", { x: left, width: Math.max(0, right - left), y: 0, height: bottom, class: "brush" }),
      );
    }
    const label = (at, anchor, text) =>
      element("text", { x: at, y: HEIGHT - 4, "text-anchor": anchor }, text);
    parts.push(
      label(MARGIN.left, "start", format(this.low)),
      label(width / 2, "middle", this.title),
      label(width - MARGIN.right, "end", format(this.high)),
    );
    this.svg.replaceChildren(...parts);
    this.svg.setAttribute("aria-label", `Histogram of ${this.title}, ${counted(this.values.length, "object")}`);
  }

  #edge(bin) {
    return this.low + (bin / this.bins) * (this.high - this.low);
  }

  #count() {
    this.bins = Math.max(6, Math.min(MOST_BINS, Math.ceil(2 * Math.cbrt(this.values.length))));
    const counts = new Array(this.bins).fill(0);
    for (const value of this.values) {
      const place = ((value - this.low) / (this.high - this.low)) * this.bins;
      counts[Math.min(this.bins - 1, Math.floor(place))] += 1;
    }
    return counts;
  }
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (low > high) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

function element(name, attributes, text = "") {
  const created = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  created.textContent = text;
  return created;
}
