// The panel of what was found: numbers, limits, histogram, table.

import { find, make, makeSwatch } from "./dom.js";
import { Histogram } from "./histogram.js";
import { colorOfNumber, format, nameOf, unitOf } from "./objects.js";
import { Table } from "./table.js";

export class Results {
  // onLimits(limits): were changed; onSelect, onHover, onOpen: of the table
  constructor({ onLimits, onSelect, onHover, onOpen }) {
    this.limits = {};
    this.measure = "area_px";
    this.table = new Table(find("table"), { onSelect, onHover, onOpen });
    this.change = (measure, low, high) => {
      onLimits({ ...this.limits, [measure]: [low, high] });
    };
    this.histogram = new Histogram(find("histogram"), (low, high) => {
      const { factor } = this.#unit();
      const inPixels = (value) => (value === null ? null : value / factor);
      this.change(this.measure, inPixels(low), inPixels(high));
    });
    find("score").addEventListener("input", (event) => {
      this.change("score", Number(event.target.value), this.limits.score?.[1] ?? null);
    });
    find("measure").addEventListener("change", (event) => {
      this.measure = event.target.value;
      this.#draw();
    });
    ["low", "high"].forEach((id, place) => {
      find(id).addEventListener("change", ({ target: { value } }) => {
        const range = [...(this.limits[this.measure] ?? [null, null])];
        range[place] = value === "" ? null : Number(value) / this.#unit().factor;
        this.change(this.measure, ...range);
      });
    });
  }

  // objects: of an image; limits: on them; pixelSize: [y, x] in µm, or null
  show(objects, limits, pixelSize) {
    // Else a field would lose what is being typed, and a row under the mouse its click.
    const isShown = objects === this.objects && limits === this.limits;
    if (isShown && String(pixelSize) === String(this.pixelSize)) return;
    Object.assign(this, { objects, limits, pixelSize });
    this.kept = objects.within(limits);
    if (!(this.measure in objects.measures)) this.measure = "area_px";
    const options = Object.keys(objects.measures).map((name) => {
      const option = new Option(nameOf(name), name);
      option.selected = name === this.measure;
      return option;
    });
    find("measure").replaceChildren(...options);
    this.#draw();
  }

  mark(marks) {
    this.table.mark(marks);
  }

  describe(index) {
    const { objects } = this;
    const lines = [`Object ${this.#numbers().get(index)}`];
    if (objects.classNames.length > 1) lines.push(objects.classNames[objects.classes[index]]);
    for (const measure of Object.keys(objects.measures)) {
      lines.push(`${nameOf(measure)}: ${this.#text(measure, objects.measures[measure][index])}`);
    }
    return lines.join("\n");
  }

  #unit(measure = this.measure) {
    return unitOf(measure, this.pixelSize);
  }

  #text(measure, value) {
    const { factor, unit } = this.#unit(measure);
    return [format(value * factor), unit].filter(Boolean).join(" ");
  }

  // Numbers as the files have them: from 1, by score.
  #numbers() {
    return new Map(this.kept.map((index, place) => [index, place + 1]));
  }

  #draw() {
    this.#drawNumbers();
    this.#drawLimits();
    this.#drawTable();
  }

  #drawNumbers() {
    const { objects, kept } = this;
    const area = objects.sum("area_px", kept);
    find("none").hidden = kept.length > 0;
    const entries = [
      ["Objects", kept.length.toLocaleString("en")],
      ["Covered", `${((100 * area) / (objects.shape[0] * objects.shape[1])).toFixed(1)} %`],
      ["Mean area", kept.length ? this.#text("area_px", area / kept.length) : "–"],
      ["Median area", kept.length ? this.#text("area_px", objects.median("area_px", kept)) : "–"],
    ];
    if (objects.classNames.length > 1) {
      objects.classNames.forEach((name, number) => {
        const count = kept.filter((k) => objects.classes[k] === number).length;
        entries.push([name, count, colorOfNumber(number)]);
      });
    }
    find("numbers").replaceChildren(...entries.map(([name, value, color]) => {
      const swatch = color ? [makeSwatch(color)] : [];
      return make("div", {}, make("dt", {}, ...swatch, name), make("dd", {}, value));
    }));
  }

  #drawLimits() {
    const { objects, measure } = this;
    const { factor, unit } = this.#unit();
    const range = this.limits[measure] ?? [null, null];
    const shown = range.map((value) => (value === null ? null : value * factor));
    const others = objects.within({ ...this.limits, [measure]: [null, null] });
    const values = others.map((k) => objects.measures[measure][k] * factor);
    this.histogram.show(values, shown, nameOf(measure) + (unit && ` (${unit})`));
    ["low", "high"].forEach((id, place) => {
      const value = shown[place];
      find(id).value = value === null ? "" : Number(value.toPrecision(6));
    });
    const score = this.limits.score?.[0] ?? 0;
    find("score").value = score;
    find("score-value").textContent = score.toFixed(2);
    const active = Object.entries(this.limits).filter(
      ([name, [low, high]]) => name !== "score" && (low !== null || high !== null),
    );
    find("limits").replaceChildren(...active.map(([name, ends]) => {
      const [low, high] = ends.map((value) => (value === null ? null : this.#text(name, value)));
      const text = high === null ? `≥ ${low}` : low === null ? `≤ ${high}` : `${low} to ${high}`;
      const ariaLabel = `Remove the limit on ${nameOf(name)}`;
      const onclick = () => this.change(name, null, null);
      return make("button", { ariaLabel, onclick }, `${nameOf(name)} ${text} ×`);
    }));
  }

  #drawTable() {
    const { objects } = this;
    const numbers = this.#numbers();
    const first = ["area_px", "score", "equivalent_diameter_px"];
    const rest = Object.keys(objects.measures).filter((name) => !first.includes(name));
    const columns = [{ name: "number", title: "#", valueOf: (k) => numbers.get(k) }];
    if (objects.classNames.length > 1) {
      columns.push({ name: "class", title: "Class", valueOf: (k) => objects.classNames[objects.classes[k]] });
    }
    for (const name of [...first, ...rest]) {
      const { factor, unit } = this.#unit(name);
      const title = nameOf(name) + (unit && ` ${unit}`);
      columns.push({ name, title, valueOf: (k) => objects.measures[name][k] * factor });
    }
    this.table.show(columns, this.kept);
  }
}
