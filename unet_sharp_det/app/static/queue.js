// The list of opened images, with how far the search in each is.

import { make } from "./dom.js";
import { counted } from "./objects.js";

// tasksOf(image): the tasks of the models that are chosen; countOf(image): of found objects, or null;
// onOpen(number), onRemove(number): of an image
export function drawQueue(list, images, current, { tasksOf, countOf, onOpen, onRemove }) {
  // The buttons stay the same elements: one that is replaced under the mouse gets no click.
  const rows = new Map([...list.children].map((row) => [Number(row.dataset.number), row]));
  for (const image of images) {
    const row = rows.get(image.number) ?? addRow(list, image.number, onOpen, onRemove);
    rows.delete(image.number);
    row.classList.toggle("current", image === current);
    const [open, close] = row.children;
    open.replaceChildren(line("name", image.name), ...describe(image, tasksOf(image), countOf(image)));
    open.title = image.name;
    open.ariaCurrent = image === current ? "true" : null;
    close.ariaLabel = `Remove ${image.name}`;
  }
  for (const row of rows.values()) row.remove();
}

function addRow(list, number, onOpen, onRemove) {
  const open = make("button", { className: "open", onclick: () => onOpen(number) });
  const close = make("button", { onclick: () => onRemove(number) }, "×");
  const row = make("li", {}, open, close);
  row.dataset.number = number;
  list.append(row);
  return row;
}

function describe(image, tasks, count) {
  const size = `${image.shape[1].toLocaleString("en")} × ${image.shape[0].toLocaleString("en")}`;
  const running = tasks.find((task) => task.state === "running");
  if (running) {
    const progress = make("progress", { value: running.fraction, ariaLabel: `Search in ${image.name}` });
    return [line("state", `searching, ${Math.round(running.fraction * 100)} %`), progress];
  }
  const failed = tasks.find((task) => task.state === "failed");
  if (failed) return [line("state failed", failed.error)];
  const other = tasks.find((task) => task.state !== "done");
  const outcome = other ? other.state : count === null ? "" : counted(count, "object");
  return [line("state", [size, outcome].filter(Boolean).join(" · "))];
}

const line = (kind, text) => make("span", { className: kind }, text);
