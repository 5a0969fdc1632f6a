// What the models have found in the images, the limits on it, and the pairs of two models.

import { get } from "./api.js";
import { Objects } from "./objects.js";

const keyOf = (image, name) => `${image.number}/${name}/${image.tasks[name]?.key}`;

export class Found {
  constructor() {
    this.limits = new Map(); // by model
    this.objects = new Map(); // by image, model and search
    this.pairs = null;
  }

  of(image, name) {
    return image ? this.objects.get(keyOf(image, name)) : undefined;
  }

  // Fetch what two models have found in images, and their pairs in the current one.
  async fetch(images, current, names) {
    for (const image of images) {
      for (const name of new Set(names)) {
        if (image.tasks[name]?.state !== "done" || this.of(image, name)) continue;
        const key = keyOf(image, name);
        this.objects.set(key, new Objects(await get(`images/${image.number}/objects/${name}`)));
      }
    }
    const keys = images.flatMap((image) => Object.keys(image.tasks).map((name) => keyOf(image, name)));
    for (const key of this.objects.keys()) if (!keys.includes(key)) this.objects.delete(key);
    const objects = names.map((name) => this.of(current, name));
    if (!objects.every(Boolean)) this.pairs = null;
    else if (!this.arePaired(objects)) {
      const list = await get(`images/${current.number}/pairs/${names.join("/")}`);
      const maps = [new Map(list), new Map(list.map(([i, j]) => [j, i]))];
      this.pairs = { objects, names, maps };
    }
  }

  arePaired(objects) {
    return Boolean(this.pairs) && objects.every((each, side) => each === this.pairs.objects[side]);
  }

  // The object that one of a side (0 or 1) is matched with, if that is within its limits, or null.
  partner(index, side) {
    const mate = this.pairs?.maps[side].get(index);
    return this.#within(1 - side).includes(mate) ? mate : null;
  }

  // The objects of a side that have a partner, both within their limits.
  mates(side) {
    const shown = new Set(this.#within(1 - side));
    return new Set(this.#within(side).filter((k) => shown.has(this.pairs.maps[side].get(k))));
  }

  #within(side) {
    return this.pairs?.objects[side].within(this.limits.get(this.pairs.names[side])) ?? [];
  }
}
