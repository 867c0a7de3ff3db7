// The canvas: the image, the labels over it, and what a tool draws. Points of the image are in its pixels.

const LARGEST = 40; // screen pixels for one pixel of the image

export class View {
  constructor(canvas, colours) {
    this.canvas = canvas;
    this.rgba = colours.map((colour) => [...colour, 255]); // of each id
    this.labels = document.createElement("canvas");
    this.opacity = 0.55;
    this.hidden = false;
    this.mark = null; // what the tool draws: a function of the context and the scale
    new ResizeObserver(() => this.#resized()).observe(canvas);
    this.#resized();
  }

  show(image, planes) {
    this.image = image;
    this.planes = planes;
    this.labels.width = planes.width;
    this.labels.height = planes.height;
    this.recolour();
    this.fit();
  }

  fit() {
    if (!this.planes) return;
    const { width, height } = this.planes, { clientWidth: w, clientHeight: h } = this.canvas;
    this.scale = Math.min(w / width, h / height, LARGEST) || 1;
    this.left = (w - width * this.scale) / 2;
    this.top = (h - height * this.scale) / 2;
    this.draw();
  }

  // A point of the image, from one of the canvas in CSS pixels.
  inImage(x, y) { return { x: (x - this.left) / this.scale, y: (y - this.top) / this.scale }; }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(Math.max(this.scale * factor, 0.02), LARGEST), kept = this.inImage(x, y);
    this.scale = scale;
    this.left = x - kept.x * scale;
    this.top = y - kept.y * scale;
    this.draw();
  }

  pan(dx, dy) { this.left += dx; this.top += dy; this.draw(); }

  // Moves the view so that a point of the image is seen.
  reveal({ x, y }) {
    const edge = 24, { clientWidth: w, clientHeight: h } = this.canvas;
    const sx = this.left + x * this.scale, sy = this.top + y * this.scale;
    this.left += Math.max(edge - sx, 0) + Math.min(w - edge - sx, 0);
    this.top += Math.max(edge - sy, 0) + Math.min(h - edge - sy, 0);
    this.draw();
  }

  // Colours the pixels within a box again, or all of them. The border of what is known is drawn in black and
  // white, so that it is seen whatever the colours are.
  recolour(box = { top: 0, left: 0, bottom: this.planes.height, right: this.planes.width }) {
    const { width, height, ids, known } = this.planes;
    const top = Math.max(box.top - 1, 0), left = Math.max(box.left - 1, 0);
    const bottom = Math.min(box.bottom + 1, height), right = Math.min(box.right + 1, width);
    if (bottom <= top || right <= left) return;
    const pixels = new ImageData(right - left, bottom - top);
    for (let y = top, k = 0; y < bottom; y++) {
      for (let x = left; x < right; x++, k += 4) {
        const i = y * width + x;
        const border = known[i] && ((x && !known[i - 1]) || (x < width - 1 && !known[i + 1])
          || (y && !known[i - width]) || (y < height - 1 && !known[i + width]));
        const grey = ((x + y) >> 1) & 1 ? 255 : 0;
        pixels.data.set(border ? [grey, grey, grey, 255] : this.rgba[ids[i]], k);
      }
    }
    this.labels.getContext("2d").putImageData(pixels, left, top);
    this.draw();
  }

  draw() {
    if (this.waiting || !this.planes) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.#drawn(); });
  }

  #drawn() {
    const context = this.canvas.getContext("2d"), ratio = this.canvas.width / this.canvas.clientWidth || 1;
    const { width, height } = this.planes;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(ratio * this.scale, 0, 0, ratio * this.scale, ratio * this.left, ratio * this.top);
    context.imageSmoothingEnabled = this.scale < 1;
    context.drawImage(this.image, 0, 0, width, height);
    context.globalAlpha = this.hidden ? 0 : this.opacity;
    context.drawImage(this.labels, 0, 0);
    context.globalAlpha = 1;
    if (this.mark) this.mark(context, 1 / this.scale);
  }

  #resized() {
    const ratio = window.devicePixelRatio || 1, { clientWidth: w, clientHeight: h } = this.canvas;
    this.canvas.width = Math.round(w * ratio);
    this.canvas.height = Math.round(h * ratio);
    if (this.planes) this.fit();
  }
}
