// How much smaller or larger images are seen, by the diameter of a nucleus in px.

// Diameters that the models of the package expect, and the one that others are brought to.
const EXPECTED = [10, 60];
const BEST = 25;

// Returns null where nothing is to scale.
export function scaleOf(diameter) {
  if (!diameter || (diameter >= EXPECTED[0] && diameter <= EXPECTED[1])) return null;
  return Math.min(64, Math.max(0.01, Number((BEST / diameter).toPrecision(2))));
}

export function describeScale(diameter) {
  if (!diameter) return "";
  const range = EXPECTED.join(" to ");
  const scale = scaleOf(diameter);
  if (!scale) return `The models expect ${range} px: nothing to scale.`;
  return `Outside of ${range} px: images are seen at ${scale} times their size.`;
}
