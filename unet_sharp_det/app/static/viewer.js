// A picture that is zoomed and moved, with the outlines of objects and a line to measure.

const LINE = 1.6; // px of the screen, at any zoom
const SMOOTH_BELOW = 4; // px of the screen for one of the image
const CLOSE = 150; // px of the screen, of an object
const tester = document.createElement("canvas").getContext("2d");

export class Viewer {
  // onHover(index or null, event), onSelect(index or null), onMeasure(length in px of the image)
  constructor(element, { onHover, onSelect, onMeasure }) {
    Object.assign(this, { element, isDrawing: false });
    this.nothing();
    this.osd = new OpenSeadragon.Viewer({
      element,
      drawer: "canvas",
      showNavigationControl: false,
      animationTime: 0.35,
      maxZoomPixelRatio: 32,
      minZoomImageRatio: 0.6,
      visibilityRatio: 0.3,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false },
    });
    this.canvas = document.createElement("canvas");
    this.canvas.className = "objects";
    this.osd.canvas.append(this.canvas);
    this.osd.canvas.setAttribute("aria-label", "Picture: arrow keys move it, + and - zoom, 0 fits it");
    for (const event of ["update-viewport", "open"]) this.osd.addHandler(event, () => this.draw());
    // Afterwards: OpenSeadragon itself moves the picture after this event.
    this.osd.addHandler("resize", () => setTimeout(() => {
      if (this.isWhole && this.osd.isOpen()) this.osd.viewport.goHome(true);
      this.draw();
    }));
    for (const event of ["canvas-drag", "canvas-scroll", "canvas-pinch", "canvas-double-click"]) {
      this.osd.addHandler(event, () => (this.isWhole = false));
    }
    this.osd.addHandler("canvas-click", ({ quick, position }) => {
      if (quick && !this.isDrawing) onSelect(this.#hit(this.#toImage(position)));
    });
    this.osd.addHandler("canvas-key", (event) => {
      this.isWhole = event.originalEvent.key === "0";
      event.preventDefaultAction = !/^(Arrow|[+=\-_0])/.test(event.originalEvent.key);
    });
    element.addEventListener("pointermove", (event) => {
      if (this.start) this.#stretch(event);
      else if (!this.isDrawing) onHover(this.#hit(this.#toImage(this.#position(event))), event);
    });
    element.addEventListener("pointerleave", (event) => onHover(null, event));
    element.addEventListener("pointerdown", (event) => {
      if (!this.isDrawing) return;
      element.setPointerCapture(event.pointerId);
      this.start = this.#toImage(this.#position(event));
    });
    element.addEventListener("pointerup", () => {
      if (!this.start) return;
      const length = this.line ? Math.hypot(...this.line[1].map((v, i) => v - this.line[0][i])) : 0;
      this.start = null;
      if (length) onMeasure(length);
    });
  }

  nothing() {
    Object.assign(this, { objects: null, kept: [], groups: new Map(), selected: null, hovered: null });
    Object.assign(this, { line: null, start: null });
  }

  // like: another viewer, whose part of the picture is shown at first; else the whole is.
  open({ shape, tiles, last_level }, tile, like = null) {
    this.nothing();
    this.isWhole = like?.isWhole ?? true;
    if (!this.isWhole) this.osd.addOnceHandler("open", () => this.#copy(like));
    [this.height, this.width] = shape;
    this.osd.open({
      height: this.height,
      width: this.width,
      tileSize: tile,
      minLevel: 0,
      maxLevel: last_level,
      getTileUrl: (level, column, row) => `/api/images/${tiles}/${level}/${column}_${row}.jpg`,
    });
  }

  close() {
    this.nothing();
    this.osd.close();
    this.draw();
  }

  // colorOf(index): of an outline.
  show(objects, kept, colorOf) {
    this.groups = new Map();
    for (const k of kept) {
      const color = colorOf(k);
      if (!this.groups.has(color)) this.groups.set(color, new Path2D());
      this.groups.get(color).addPath(objects.paths[k]);
    }
    Object.assign(this, { objects, kept });
    this.draw();
  }

  mark({ selected = this.selected, hovered = this.hovered }) {
    Object.assign(this, { selected, hovered });
    this.draw();
  }

  // Let a drag draw a line to measure, or move the picture.
  setDrawing(isDrawing) {
    Object.assign(this, { isDrawing, line: null });
    this.element.classList.toggle("drawing", isDrawing);
    this.osd.setMouseNavEnabled(!isDrawing);
    this.draw();
  }

  zoom(factor) {
    this.isWhole = false;
    this.osd.viewport.zoomBy(factor).applyConstraints();
  }

  fit() {
    this.isWhole = true;
    this.osd.viewport.goHome();
  }

  // Bring an object into sight, and, if asked, close enough to see its shape.
  lookAt(index, isClose = false) {
    const { viewport } = this.osd;
    const [x0, y0, x1, y1] = this.objects.boxes[index].map((each) => each / this.width);
    const { x, y, width, height } = viewport.getBounds();
    const isSeen = x0 >= x && y0 >= y && x1 <= x + width && y1 <= y + height;
    if (isSeen && !isClose) return;
    this.isWhole = false;
    viewport.panTo(new OpenSeadragon.Point((x0 + x1) / 2, (y0 + y1) / 2));
    const side = Math.max(x1 - x0, y1 - y0) * this.width * this.#scale();
    if (isClose && side < CLOSE) viewport.zoomBy(CLOSE / side);
    viewport.applyConstraints();
  }

  // Show the same part as another viewer, now and whenever that one moves.
  follow(other) {
    other.osd.addHandler("viewport-change", () => {
      const areShown = this.element.offsetParent && other.element.offsetParent;
      if (!areShown || !this.osd.isOpen() || this.isCopied) return;
      other.isCopied = true;
      this.isWhole = other.isWhole;
      this.#copy(other);
      other.isCopied = false;
    });
  }

  #copy(other) {
    const { viewport } = other.osd;
    this.osd.viewport.zoomTo(viewport.getZoom(), null, true);
    this.osd.viewport.panTo(viewport.getCenter(), true);
  }

  draw() {
    const { canvas, element } = this;
    const ratio = window.devicePixelRatio;
    const size = [element.clientWidth * ratio, element.clientHeight * ratio].map(Math.round);
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, ...size);
    if (!this.osd.isOpen()) return;
    const scale = this.#scale();
    this.osd.drawer.setImageSmoothingEnabled(scale < SMOOTH_BELOW);
    const { x, y } = this.osd.viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true);
    context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
    context.lineJoin = "round";
    const stroke = (path, color, width) => {
      context.strokeStyle = color;
      context.lineWidth = width / scale;
      context.stroke(path);
    };
    if (!this.hidden) {
      for (const path of this.groups.values()) stroke(path, "#0008", LINE + 1.6);
      for (const [color, path] of this.groups) stroke(path, color, LINE);
    }
    for (const [index, width] of [[this.hovered, 2.4], [this.selected, 3]]) {
      const path = this.objects?.paths[index];
      if (!path) continue;
      context.fillStyle = "#fff3";
      context.fill(path, "evenodd");
      stroke(path, "#000b", width + 2);
      stroke(path, "#fff", width);
    }
    if (this.line) {
      const path = new Path2D();
      path.moveTo(...this.line[0]);
      path.lineTo(...this.line[1]);
      stroke(path, "#000b", 4);
      stroke(path, "#fff", 2);
    }
  }

  #scale() {
    return (this.osd.viewport.getZoom(true) * this.element.clientWidth) / this.width;
  }

  #position(event) {
    const { left, top } = this.element.getBoundingClientRect();
    return new OpenSeadragon.Point(event.clientX - left, event.clientY - top);
  }

  #toImage(position) {
    if (!this.osd.isOpen()) return null;
    const { x, y } = this.osd.viewport.pointFromPixel(position, true);
    return [x * this.width, y * this.width];
  }

  #stretch(event) {
    this.line = [this.start, this.#toImage(this.#position(event))];
    this.draw();
  }

  #hit(point) {
    if (!point || !this.objects || this.hidden) return null;
    const [x, y] = point;
    const isOver = (k) => {
      const [x0, y0, x1, y1] = this.objects.boxes[k];
      if (x < x0 || x > x1 || y < y0 || y > y1) return false;
      return tester.isPointInPath(this.objects.paths[k], x, y, "evenodd");
    };
    return this.kept.find(isOver) ?? null;
  }
}
