// How many objects two models have in common, and the colours of those that they have and have not.

import { make, makeSwatch } from "./dom.js";

export const IN_BOTH = "#3fd0ff";
export const IN_ONE = "#ff9a4d";

// both: a number; only: [number, name of the model] of each
export function drawComparison(line, both, only) {
  const part = (color, count, text) => [makeSwatch(color), make("b", {}, count), ` ${text}`];
  line.replaceChildren(
    ...part(IN_BOTH, both, "in both (IoU above .5)"),
    ...only.flatMap(([count, name]) => part(IN_ONE, count, `only ${name}`)),
  );
}
