// The page: what is open and chosen, and what happens when something on it is used.

import { drawComparison, IN_BOTH, IN_ONE } from "./comparison.js";
import { get, post, remove, upload } from "./api.js";
import { find, make } from "./dom.js";
import { Found } from "./found.js";
import { drawQueue } from "./queue.js";
import { Results } from "./results.js";
import { Viewer } from "./viewer.js";
import { connectView, drawView } from "./view.js";

const POLL = 300; // ms

const state = { images: [], current: null, viewing: Promise.resolve() };
const wanted = new Map(); // the view that was chosen last, by image, until it is there
const found = new Found();
let settings;

const first = new Viewer(find("first").querySelector(".viewer"), {
  onHover: hover,
  onSelect: select,
  onMeasure: measured,
});
const second = new Viewer(find("second").querySelector(".viewer"), {
  onHover: (index) => hover(found.partner(index, 1)),
  onSelect: (index) => {
    select(found.partner(index, 1));
    second.mark({ selected: index });
  },
});
second.follow(first);
first.follow(second);
const results = new Results({
  onLimits: (limits) => {
    found.limits.set(model(), limits);
    draw();
  },
  onSelect: select,
  onHover: hover,
  onOpen: (index) => first.lookAt(index, true),
});

const model = () => find("model").value;
const other = () => find("other").value;
const taskOf = (name, image = state.current) => image?.tasks[name];
const foundBy = (name, image = state.current) => found.of(image, name);
const limitsOf = (name) => found.limits.get(name);
const typed = (id) => Number(find(id).value) || null;

function pixelSize() {
  const size = typed("pixel-size");
  return size ? [size, size] : (state.current?.pixel_size ?? null);
}

function say(text, isError = false) {
  const message = find("message");
  message.setAttribute("role", isError ? "alert" : "status");
  message.textContent = text;
  message.hidden = !text;
}

// Wrap an action so that what goes wrong becomes a message.
function told(action) {
  return async (...args) => {
    try {
      await action(...args);
    } catch (error) {
      say(error.message, true);
    }
  };
}

const numbered = (number) => state.images.find((each) => each.number === number) ?? null;

function setImages(images) {
  const { number, tiles } = state.current ?? {};
  state.images = images;
  state.current = numbered(number);
  if (state.current?.tiles !== tiles) showPicture(); // perhaps by another tab
}

function showPicture() {
  const { current } = state;
  if (!current) first.close();
  else first.open(current, settings.tile);
  if (!current || !other()) second.close();
  else second.open(current, settings.tile);
  select(null);
  if (!wanted.has(current?.number)) drawView(current);
}

function replaceImage(image) {
  const others = state.images.filter((each) => each.number !== image.number);
  setImages([...others, image].sort((a, b) => a.number - b.number));
}

const isSearching = () =>
  state.images.some((image) =>
    Object.values(image.tasks).some(({ state: at }) => at === "waiting" || at === "running"));

let polling = false;
async function poll() {
  if (polling) return;
  polling = true;
  let isLost = false;
  while (isSearching()) {
    await new Promise((resolve) => setTimeout(resolve, POLL));
    try {
      await refresh();
      if (isLost) say("");
      isLost = false;
    } catch (error) { // Perhaps the computer slept: the next answer may come again.
      if (!isLost) say(error.message, true);
      isLost = true;
    }
  }
  polling = false;
}

async function refresh() {
  const { images } = state;
  const latest = await get("images");
  if (images === state.images) setImages(latest); // else they are from before a change
  await fetchFound();
  draw();
}

async function fetchFound() {
  const { images, current } = state;
  try {
    await found.fetch(images, current, [model(), other()]);
  } catch (error) {
    if (images === state.images) throw error;
    await fetchFound(); // One was removed or changed meanwhile.
  }
}

async function open(image) {
  state.current = image;
  showPicture();
  drawView(image);
  await fetchFound();
  draw();
}

async function update() {
  await fetchFound();
  draw();
  await poll();
}

function draw() {
  const { images, current } = state;
  drawQueue(find("queue"), images, current, {
    tasksOf: (image) => [model(), other()].map((name) => taskOf(name, image)).filter(Boolean),
    countOf: (image) => foundBy(model(), image)?.within(limitsOf(model())).length ?? null,
    onOpen: told((number) => open(numbered(number))),
    onRemove: told(close),
  });
  const objects = foundBy(model());
  find("empty").hidden = Boolean(current);
  find("view").hidden = !current || (current.planes.length < 2 && current.channels.length < 2);
  find("find").disabled = !current;
  find("draw").disabled = !current;
  find("cancel").hidden = !isSearching();
  find("all-field").hidden = images.length < 2;
  find("found").hidden = !objects;
  find("nothing").hidden = Boolean(objects);
  find("scale").textContent = objects?.describeScale() ?? "";
  find("pixel-size").placeholder = current?.pixel_size
    ? `${Number(current.pixel_size[0].toPrecision(4))} (from the file)` : "unknown";
  if (objects) results.show(objects, limitsOf(model()), pixelSize());
  drawOutlines();
}

function drawOutlines() {
  const names = [model(), other()];
  const isCompared = found.arePaired(names.map((name) => foundBy(name)));
  find("second").hidden = !other();
  [first, second].forEach((viewer, side) => {
    const objects = foundBy(names[side]);
    const caption = viewer.element.parentElement.querySelector("figcaption");
    caption.hidden = !other();
    caption.textContent = names[side];
    const mates = isCompared && found.mates(side);
    const paired = (k) => (mates.has(k) ? IN_BOTH : IN_ONE);
    const colorOf = mates ? paired : (k) => objects.colorOf(k);
    viewer.show(objects, objects?.within(limitsOf(names[side])) ?? [], colorOf);
  });
  compare(isCompared, names);
}

function compare(isCompared, names) {
  const line = find("comparison");
  line.hidden = !other() || !state.current;
  if (!isCompared) {
    line.textContent = isSearching() ? "Searching." : "Press Find objects to compare the models.";
    return;
  }
  const both = found.mates(0).size;
  const only = names.map((name) => [foundBy(name).within(limitsOf(name)).length - both, name]);
  drawComparison(line, both, only);
}

const addFiles = told(async (files) => {
  const errors = [];
  let opened = null;
  for (const [place, file] of [...files].entries()) {
    say(`Opening ${file.name}${files.length > 1 ? ` (${place + 1} of ${files.length})` : ""} …`);
    try {
      if (file.size > settings.max_bytes) throw new Error("This file is larger than the page accepts.");
      const image = await upload(file);
      opened ??= image;
      replaceImage(image);
      draw();
    } catch (error) {
      errors.push(error.message.includes(file.name) ? error.message : `${file.name}: ${error.message}`);
    }
  }
  say(errors.join(" "), errors.length > 0);
  if (opened) await open(numbered(opened.number));
});

async function close(number) {
  await remove(`images/${number}`);
  const isCurrent = number === state.current?.number;
  setImages(state.images.filter((each) => each.number !== number));
  if (isCurrent) await open(state.images[0] ?? null);
  draw();
  find("queue").querySelector(".open")?.focus();
}

const search = (images, models) => told(async () => {
  say("");
  await state.viewing;
  setImages(await post("searches", { images, models, diameter: typed("diameter") }));
  await update();
})();

function select(index) {
  first.mark({ selected: index });
  second.mark({ selected: index === null ? null : found.partner(index, 0) });
  results.mark({ selected: index });
  if (index !== null && document.activeElement === find("table")) first.lookAt(index);
}

function hover(index, event) {
  first.mark({ hovered: index });
  second.mark({ hovered: index === null ? null : found.partner(index, 0) });
  results.mark({ hovered: index });
  const tip = find("tip");
  tip.hidden = index === null || !event;
  if (tip.hidden) return;
  tip.textContent = results.describe(index);
  const stage = find("stage").getBoundingClientRect();
  const [x, y] = [event.clientX - stage.left, event.clientY - stage.top];
  tip.style.left = `${Math.max(4, Math.min(x + 16, stage.width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 16, stage.height - tip.offsetHeight - 4))}px`;
}

function drawing(isOn) {
  first.setDrawing(isOn);
  find("draw").setAttribute("aria-pressed", isOn);
  say(isOn ? "Draw a line across a nucleus." : "");
}

function measured(length) {
  drawing(false);
  find("diameter").value = Number(length.toPrecision(3));
}

const chooseModel = told(async () => {
  const rest = settings.models.filter((each) => each.name !== model());
  const kept = other();
  find("other").replaceChildren(new Option("nothing", ""), ...rest.map(({ name }) => new Option(name)));
  find("other").value = rest.some((each) => each.name === kept) ? kept : "";
  find("card").href = `/models/${encodeURIComponent(model())}`;
  select(null);
  await fetchFound();
  draw();
});

function connect() {
  find("files").addEventListener("change", async ({ target }) => {
    await addFiles(target.files);
    target.value = "";
  });
  const drop = document.body;
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      find("drop").classList.toggle("over", name === "dragover");
      if (name === "drop") addFiles(event.dataTransfer.files);
    });
  }
  find("example").addEventListener("click", told(async () => {
    const image = await post("example");
    replaceImage(image);
    await open(image);
  }));
  find("find").addEventListener("click", () => {
    const isAll = find("all").checked && state.images.length > 1;
    const images = isAll ? state.images.map((each) => each.number) : [state.current.number];
    return search(images, [model(), other()].filter(Boolean));
  });
  find("cancel").addEventListener("click", told(async () => {
    setImages(await remove("searches"));
    draw();
  }));
  find("model").addEventListener("change", chooseModel);
  find("other").addEventListener("change", told(async () => {
    draw();
    if (other() && state.current) second.open(state.current, settings.tile, first);
    if (other() && state.current && foundBy(model()) && !taskOf(other())) {
      await search([state.current.number], [other()]);
    } else await update();
  }));
  connectView(() => state.current, (number, view) => {
    wanted.set(number, view);
    // One after the other, so that the last one stays; what was chosen in between is passed over.
    state.viewing = state.viewing.then(told(async () => {
      if (wanted.get(number) !== view) return;
      try {
        replaceImage(await post(`images/${number}/view`, view));
        say("");
      } finally {
        if (wanted.get(number) === view) {
          wanted.delete(number);
          drawView(state.current);
        }
      }
      await update();
    }));
  });
  find("pixel-size").addEventListener("input", draw);
  find("draw").addEventListener("click", () => drawing(!first.isDrawing));
  find("zoom-in").addEventListener("click", () => first.zoom(1.5));
  find("zoom-out").addEventListener("click", () => first.zoom(1 / 1.5));
  find("fit").addEventListener("click", () => first.fit());
  find("outlines").addEventListener("change", ({ target }) => {
    for (const viewer of [first, second]) {
      viewer.hidden = !target.checked;
      viewer.draw();
    }
  });
  find("save").addEventListener("click", told(async () => {
    say("Writing the files …");
    const kinds = [...document.querySelectorAll("#kinds input:checked")].map((each) => each.value);
    if (!kinds.length) throw new Error("Choose at least one kind of file.");
    const choice = { model: model(), limits: limitsOf(model()), kinds, pixel_size: typed("pixel-size") };
    await post("results", choice);
    say("");
    location.assign(`/api/results/${encodeURIComponent(model())}`);
  }));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      if (first.isDrawing) drawing(false);
      select(null);
    } else if (!event.target.closest("input, select, .viewer") && !event.ctrlKey && !event.metaKey) {
      if (event.key === "+" || event.key === "=") first.zoom(1.5);
      if (event.key === "-") first.zoom(1 / 1.5);
    }
  });
}

function fill() {
  for (const { name, score_threshold: score } of settings.models) {
    find("model").append(new Option(name));
    found.limits.set(name, { score: [score, null] });
  }
  find("score").min = settings.lowest_score;
  for (const { name, meaning, chosen } of settings.kinds) {
    const box = make("input", { type: "checkbox", value: name, checked: chosen });
    const text = ` ${meaning[0].toUpperCase()}${meaning.slice(1)}`;
    find("kinds").append(make("label", { className: "check" }, box, text));
  }
}

told(async () => {
  settings = await get("page");
  fill();
  setImages(await get("images"));
  await chooseModel();
  connect();
  document.querySelector("main").inert = false; // Until here a click would be lost.
  if (state.images.length) await open(state.images[0]);
  await poll();
})();
