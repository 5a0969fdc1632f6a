// The list of opened images, with how far the search in each is.

import { counted } from "./objects.js";

// tasksOf(image): the tasks of the models that are chosen; countOf(image): of found objects, or null
export function drawQueue(list, images, current, { tasksOf, countOf, onOpen, onRemove }) {
  const focused = document.activeElement?.closest("#queue li")?.dataset.number;
  list.replaceChildren(...images.map((image) => {
    const row = document.createElement("li");
    row.dataset.number = image.number;
    row.classList.toggle("current", image === current);
    const open = document.createElement("button");
    open.className = "open";
    open.append(line("name", image.name), ...describe(image, tasksOf(image), countOf(image)));
    open.title = image.name;
    if (image === current) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => onOpen(image));
    const close = document.createElement("button");
    close.textContent = "×";
    close.setAttribute("aria-label", `Remove ${image.name}`);
    close.addEventListener("click", () => onRemove(image));
    row.append(open, close);
    return row;
  }));
  if (focused) list.querySelector(`[data-number="${focused}"] .open`)?.focus();
}

function describe(image, tasks, count) {
  const size = `${image.shape[1].toLocaleString("en")} × ${image.shape[0].toLocaleString("en")}`;
  const running = tasks.find((task) => task.state === "running");
  if (running) {
    const progress = document.createElement("progress");
    progress.value = running.fraction;
    progress.setAttribute("aria-label", `Search in ${image.name}`);
    return [line("state", `searching, ${Math.round(running.fraction * 100)} %`), progress];
  }
  const failed = tasks.find((task) => task.state === "failed");
  if (failed) return [line("state failed", failed.error)];
  const other = tasks.find((task) => task.state !== "done");
  const outcome = other ? other.state : count === null ? "" : counted(count, "object");
  return [line("state", [size, outcome].filter(Boolean).join(" · "))];
}

function line(kind, text) {
  const element = document.createElement("span");
  element.className = kind;
  element.textContent = text;
  if (kind !== "name") element.style.display = "block";
  return element;
}
