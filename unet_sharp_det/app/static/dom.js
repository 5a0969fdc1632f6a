// Elements of the page: found, and made.

export const find = (id) => document.getElementById(id);

// properties: of the element; content: texts and elements in it.
export function make(tag, properties = {}, ...content) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...content);
  return element;
}

// A short line in a colour of the outlines.
export function makeSwatch(color) {
  const swatch = make("span", { className: "swatch" });
  swatch.style.background = color;
  return swatch;
}
