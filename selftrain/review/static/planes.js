// The three planes of an image, one byte for each pixel, and what tools do to them.
//   label: the class ids of the pseudo-label
//   ids:   the class ids that are shown; those of `label` where nobody has painted
//   known: 1 where a person has decided

export class Planes {
  constructor(width, height, label, ids, known) {
    Object.assign(this, { width, height, label, ids, known });
  }

  static of(width, height, bytes) {
    const n = width * height;
    return new Planes(width, height, bytes.slice(0, n), bytes.slice(n, 2 * n), bytes.slice(2 * n, 3 * n));
  }

  get anyKnown() { return this.known.includes(1); }
  get allKnown() { return !this.known.includes(0); }
  get isLabel() { return this.ids.every((id, i) => id === this.label[i]); }

  // Sets a pixel to a class; null: back to the pseudo-label.
  put(i, id) {
    this.ids[i] = id === null ? this.label[i] : id;
    this.known[i] = id === null ? 0 : 1;
  }

  // A disc of `radius` pixels, moved from one point to another.
  line(from, to, radius, id) {
    const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / Math.max(1, radius / 2)));
    for (let s = 0; s <= steps; s++) {
      this.disc(from.x + (to.x - from.x) * s / steps, from.y + (to.y - from.y) * s / steps, radius, id);
    }
  }

  disc(cx, cy, radius, id) {
    const reach = Math.max(radius, 0.71); // one pixel at least
    for (let y = Math.max(0, Math.floor(cy - reach)); y <= Math.min(this.height - 1, cy + reach); y++) {
      for (let x = Math.max(0, Math.floor(cx - reach)); x <= Math.min(this.width - 1, cx + reach); x++) {
        if (Math.hypot(x + 0.5 - cx, y + 0.5 - cy) <= reach) this.put(y * this.width + x, id);
      }
    }
  }

  // The inside of a polygon of points, by the even-odd rule at the centres of pixels.
  polygon(points, id) {
    const ys = points.map((p) => p.y);
    const last = Math.min(this.height - 1, Math.floor(Math.max(...ys)));
    for (let y = Math.max(0, Math.floor(Math.min(...ys))); y <= last; y++) {
      const crossings = [];
      points.forEach((a, k) => {
        const b = points[(k + 1) % points.length];
        if ((a.y <= y + 0.5) !== (b.y <= y + 0.5)) crossings.push(a.x + (y + 0.5 - a.y) / (b.y - a.y) * (b.x - a.x));
      });
      crossings.sort((a, b) => a - b);
      for (let k = 0; k + 1 < crossings.length; k += 2) {
        const from = Math.max(0, Math.ceil(crossings[k] - 0.5));
        for (let x = from; x + 0.5 < crossings[k + 1] && x < this.width; x++) this.put(y * this.width + x, id);
      }
    }
  }

  // The region of one class around a point, with neighbours to the four sides.
  fill(x, y, id) {
    const { width, height, ids } = this;
    const start = Math.floor(y) * width + Math.floor(x), old = ids[start];
    const seen = new Uint8Array(width * height), open = [start];
    seen[start] = 1;
    while (open.length) {
      const i = open.pop(), column = i % width;
      const sides = [i - width, i + width, column ? i - 1 : -1, column < width - 1 ? i + 1 : -1];
      for (const j of sides) {
        if (j >= 0 && j < width * height && !seen[j] && ids[j] === old) { seen[j] = 1; open.push(j); }
      }
      this.put(i, id);
    }
  }

  copy() { return { ids: this.ids.slice(), known: this.known.slice() }; }

  set({ ids, known }) { this.ids.set(ids); this.known.set(known); }

  // The smallest box in which the planes differ from a copy, or null.
  changed(before) {
    let top = Infinity, bottom = -1, left = Infinity, right = -1;
    for (let i = 0; i < this.ids.length; i++) {
      if (this.ids[i] === before.ids[i] && this.known[i] === before.known[i]) continue;
      const x = i % this.width, y = (i - x) / this.width;
      if (y < top) top = y;
      if (y > bottom) bottom = y;
      if (x < left) left = x;
      if (x > right) right = x;
    }
    return bottom < 0 ? null : { top, left, bottom: bottom + 1, right: right + 1 };
  }
}

// A part of a copy, by its box, and back.
export function cut({ ids, known }, width, box) {
  const part = (plane) => Array.from({ length: box.bottom - box.top }, (_, k) => {
    const start = (box.top + k) * width;
    return plane.slice(start + box.left, start + box.right);
  });
  return { ids: part(ids), known: part(known) };
}

export function paste(planes, part, box) {
  for (const name of ["ids", "known"]) {
    part[name].forEach((row, k) => planes[name].set(row, (box.top + k) * planes.width + box.left));
  }
}
