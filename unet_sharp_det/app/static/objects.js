// The objects that a model found in an image: their measures, limits on them, units.

const NAMES = {
  score: "Score",
  area_px: "Area",
  equivalent_diameter_px: "Diameter",
  perimeter_px: "Perimeter",
  eccentricity: "Eccentricity",
  solidity: "Solidity",
};
const POWERS = { area_px: 2, equivalent_diameter_px: 1, perimeter_px: 1 };

export const nameOf = (measure) => NAMES[measure] ?? `Mean of ${measure.replace("intensity_mean_", "")}`;

// What one pixel is in the unit that a measure is shown in. pixelSize: [y, x] in µm, or null.
export function unitOf(measure, pixelSize) {
  const power = POWERS[measure];
  if (!power) return { factor: 1, unit: "" };
  if (!pixelSize) return { factor: 1, unit: power === 2 ? "px²" : "px" };
  const side = Math.sqrt(pixelSize[0] * pixelSize[1]);
  return { factor: side ** power, unit: power === 2 ? "µm²" : "µm" };
}

export function format(value) {
  if (!Number.isFinite(value)) return "–";
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

const COLORS = ["#ffd23f", "#3fd0ff", "#ff7eb6", "#7dff6a", "#ff9a4d", "#b79bff"];

// Of a class, or of an object where there is one class.
export const colorOfNumber = (number) => COLORS[number % COLORS.length];

export class Objects {
  constructor({ shape, scale, diameter, class_names, classes, boxes, measures, outlines }) {
    Object.assign(this, { shape, scale, diameter, classes, boxes, measures });
    this.classNames = class_names;
    this.count = classes.length;
    this.paths = outlines.map((rings) => {
      const path = new Path2D();
      for (const ring of rings) {
        path.moveTo(ring[0], ring[1]);
        for (let i = 2; i < ring.length; i += 2) path.lineTo(ring[i], ring[i + 1]);
        path.closePath();
      }
      return path;
    });
  }

  // How large the model saw the image, and why.
  describeScale() {
    const reason = this.diameter ? `nuclei have ${format(this.diameter)} px` : "no nucleus was measured";
    return `Seen at ${this.scale === 1 ? "its own size" : `${this.scale} times its size`}, because ${reason}.`;
  }

  colorOf(index) {
    return colorOfNumber(this.classNames.length > 1 ? this.classes[index] : index);
  }

  // The indices of the objects within limits {measure: [low, high]}, null: any; by score.
  within(limits) {
    const active = Object.entries(limits)
      .filter(([measure]) => measure in this.measures)
      .map(([measure, range]) => [this.measures[measure], ...range]);
    const kept = [];
    for (let k = 0; k < this.count; k++) {
      const isIn = ([values, low, high]) =>
        (low === null || values[k] >= low) && (high === null || values[k] <= high);
      if (active.every(isIn)) kept.push(k);
    }
    return kept;
  }

  sum(measure, indices) {
    return indices.reduce((total, k) => total + this.measures[measure][k], 0);
  }

  median(measure, indices) {
    const values = indices.map((k) => this.measures[measure][k]).sort((a, b) => a - b);
    const middle = values.length / 2;
    return values.length % 2 ? values[Math.floor(middle)] : (values[middle - 1] + values[middle]) / 2;
  }
}
