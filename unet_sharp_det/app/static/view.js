// The fields that choose the plane and the channels of an image.

import { find } from "./dom.js";

const rgbFields = () => [...document.querySelectorAll(".rgb")];

export function drawView(image) {
  if (!image) return;
  const planes = image.is_projected ? image.projected : image.planes;
  find("plane-field").hidden = planes.length < 2;
  find("plane").max = planes.length - 1;
  find("plane").value = image.plane;
  find("plane-name").textContent = planes[image.plane];
  find("projected-field").hidden = !image.projected.length;
  find("projected").checked = image.is_projected;
  find("channel-field").hidden = image.channels.length < 2;
  const options = () => image.channels.map((name, number) => new Option(name, number));
  const isRgb = image.chosen_channels.length === 3;
  find("channel").replaceChildren(...options(), new Option("three as red, green, blue", "rgb"));
  find("channel").value = isRgb ? "rgb" : image.chosen_channels[0];
  find("rgb-field").hidden = !isRgb;
  rgbFields().forEach((field, place) => {
    field.replaceChildren(...options());
    field.value = image.chosen_channels[isRgb ? place : 0];
  });
}

// imageOf(): the one that is shown; onView(number, {plane, channels, projected})
export function connectView(imageOf, onView) {
  const change = ({ target }) => {
    const image = imageOf();
    const isRgb = find("channel").value === "rgb";
    if (isRgb && target === find("channel")) {
      rgbFields().forEach((field, place) => {
        field.value = Math.min(place, image.channels.length - 1);
      });
    }
    const isProjected = find("projected").checked;
    const planes = isProjected ? image.projected : image.planes;
    onView(image.number, {
      plane: Math.min(planes.length - 1, Number(find("plane").value)),
      channels: (isRgb ? rgbFields() : [find("channel")]).map((field) => Number(field.value)),
      projected: isProjected,
    });
  };
  for (const id of ["projected", "channel", "plane", "rgb-field"]) {
    find(id).addEventListener("change", change);
  }
  find("plane").addEventListener("input", () => {
    const image = imageOf();
    const planes = image.is_projected ? image.projected : image.planes;
    find("plane-name").textContent = planes[find("plane").value];
  });
}
