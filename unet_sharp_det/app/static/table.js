// A table of objects, of which only the rows in sight are elements.

import { make } from "./dom.js";
import { format } from "./objects.js";

const ROW = 28;
const KEYS = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };

export class Table {
  // onSelect(index), onHover(index or null), onOpen(index): Enter or a double click
  constructor(element, { onSelect, onHover, onOpen }) {
    Object.assign(this, { element, onSelect, columns: [], rows: [], selected: null, hovered: null });
    this.sorting = { name: "number", sign: 1 };
    this.head = make("div", { role: "row", className: "head" });
    this.body = make("div", { role: "rowgroup", className: "rows" });
    element.append(this.head, this.body);
    const indexOf = (event) => {
      const row = event.target.closest("[data-index]");
      return row ? Number(row.dataset.index) : null;
    };
    element.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(element);
    this.body.addEventListener("click", (event) => onSelect(indexOf(event)));
    this.body.addEventListener("dblclick", (event) => onOpen(indexOf(event)));
    this.body.addEventListener("pointerover", (event) => onHover(indexOf(event)));
    element.addEventListener("pointerleave", () => onHover(null));
    element.addEventListener("keydown", (event) => {
      if (event.target !== element) return;
      if (event.key in KEYS) this.#step(KEYS[event.key]);
      else if (event.key === "Enter" && this.selected !== null) onOpen(this.selected);
      else return;
      event.preventDefault();
    });
  }

  // columns: {name, title, valueOf(index)}; rows: indices.
  show(columns, rows) {
    if (columns.map((each) => each.title).join() !== this.columns.map((each) => each.title).join()) {
      this.columns = columns;
      this.#drawHead();
    }
    Object.assign(this, { columns, rows });
    this.#sort();
  }

  mark({ selected = this.selected, hovered = this.hovered }) {
    if (selected !== this.selected) this.#scrollTo(this.rows.indexOf(selected));
    Object.assign(this, { selected, hovered });
    this.#drawMarks();
  }

  draw() {
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / ROW) - 2);
    const last = Math.min(this.rows.length, Math.ceil((scrollTop + clientHeight) / ROW) + 2);
    this.body.style.height = `${this.rows.length * ROW}px`;
    this.body.style.minWidth = `${this.head.scrollWidth}px`;
    this.element.setAttribute("aria-rowcount", this.rows.length + 1);
    const shown = [];
    for (let place = first; place < last; place++) shown.push(this.#row(place));
    this.body.replaceChildren(...shown);
    this.#drawMarks();
  }

  // The rows stay the same elements: one that is replaced under the mouse gets no click.
  #drawMarks() {
    const ids = [...this.body.children].map((row) => {
      const index = Number(row.dataset.index);
      row.setAttribute("aria-selected", index === this.selected);
      row.classList.toggle("hovered", index === this.hovered);
      return row.id;
    });
    const id = `row-${this.selected}`;
    if (ids.includes(id)) this.element.setAttribute("aria-activedescendant", id);
    else this.element.removeAttribute("aria-activedescendant");
  }

  #row(place) {
    const index = this.rows[place];
    const values = this.columns.map((column) => column.valueOf(index));
    const cells = values.map((each) =>
      make("div", { role: "gridcell" }, typeof each === "number" ? format(each) : each));
    const row = make("div", { role: "row", id: `row-${index}`, ariaRowIndex: place + 2 }, ...cells);
    row.dataset.index = index;
    row.style.top = `${place * ROW}px`;
    return row;
  }

  #drawHead() {
    const cells = this.columns.map(({ name, title }) => {
      const onclick = () => {
        const isSame = this.sorting.name === name;
        this.sorting = { name, sign: isSame ? -this.sorting.sign : 1 };
        this.#sort();
      };
      const header = make("div", { role: "columnheader" }, make("button", { title, onclick }, title));
      header.dataset.name = name;
      return header;
    });
    this.head.replaceChildren(...cells);
  }

  #sort() {
    const { name, sign } = this.sorting;
    const column = this.columns.find((each) => each.name === name) ?? this.columns[0];
    const compare = (a, b) => (a > b) - (a < b);
    this.rows = [...this.rows].sort(
      (a, b) => sign * compare(column.valueOf(a), column.valueOf(b)) || a - b,
    );
    for (const header of this.head.children) {
      const isSorted = header.dataset.name === column.name;
      header.setAttribute("aria-sort", !isSorted ? "none" : sign > 0 ? "ascending" : "descending");
    }
    this.draw();
  }

  #step(by) {
    const place = this.rows.indexOf(this.selected);
    const next = Math.min(this.rows.length - 1, Math.max(0, place + by));
    if (this.rows.length) this.onSelect(this.rows[next]);
  }

  #scrollTo(place) {
    if (place < 0) return;
    const { clientHeight, scrollTop } = this.element;
    const top = place * ROW;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + 2 * ROW > scrollTop + clientHeight) {
      this.element.scrollTop = top + 2 * ROW - clientHeight;
    }
  }
}
