// What the pointer and the keyboard's cursor do with each tool. A stroke begins, moves and ends; `editor` keeps it.

export const IGNORE = 255;

// Each tool gets the editor and a point of the image. `drag` tools act while the pointer is down; the others at
// each point. `mark` draws what is not finished.
const painting = (id) => ({
  drag: true,
  down(editor, point) { editor.begin(); this.last = point; this.move(editor, point); },
  move(editor, point) {
    const { last } = this, reach = Math.ceil(editor.radius) + 1;
    editor.planes.line(last, point, editor.radius, id(editor));
    this.last = point;
    editor.view.recolour({
      top: Math.floor(Math.min(last.y, point.y)) - reach,
      left: Math.floor(Math.min(last.x, point.x)) - reach,
      bottom: Math.ceil(Math.max(last.y, point.y)) + reach,
      right: Math.ceil(Math.max(last.x, point.x)) + reach,
    });
  },
  up(editor) { editor.end(); },
  mark(editor, context, unit) {
    if (!editor.cursor) return;
    outlined(context, unit, () => context.arc(editor.cursor.x, editor.cursor.y, Math.max(editor.radius, 0.7), 0, 7));
  },
});

export const TOOLS = {
  brush: painting((editor) => editor.id),
  eraser: painting(() => null),
  polygon: {
    points: [],
    down(editor, point) {
      const [first] = this.points, near = 8 / editor.view.scale;
      if (this.points.length > 2 && Math.hypot(first.x - point.x, first.y - point.y) < near) return this.finish(editor);
      this.points.push(point);
      editor.view.draw();
    },
    finish(editor) {
      if (this.points.length > 2) {
        editor.begin();
        editor.planes.polygon(this.points, editor.id);
        editor.end();
      }
      this.cancel(editor);
    },
    cancel(editor) { this.points = []; editor.view.draw(); },
    mark(editor, context, unit) {
      if (!this.points.length) return;
      outlined(context, unit, () => {
        for (const point of [...this.points, ...(editor.cursor ? [editor.cursor] : [])]) context.lineTo(point.x, point.y);
      });
    },
  },
  fill: {
    down(editor, point) {
      if (!editor.inside(point)) return;
      editor.begin();
      editor.planes.fill(point.x, point.y, editor.id);
      editor.end();
    },
  },
  refine: {
    drag: true,
    from: null,
    down(editor, point) { this.from = this.to = point; editor.view.draw(); },
    move(editor, point) { this.to = point; editor.view.draw(); },
    up(editor) {
      const { from, to } = this, clamp = (value, most) => Math.min(Math.max(value, 0), most);
      this.cancel(editor);
      const box = {
        top: Math.floor(clamp(Math.min(from.y, to.y), editor.planes.height)),
        left: Math.floor(clamp(Math.min(from.x, to.x), editor.planes.width)),
        bottom: Math.ceil(clamp(Math.max(from.y, to.y), editor.planes.height)),
        right: Math.ceil(clamp(Math.max(from.x, to.x), editor.planes.width)),
      };
      if (box.bottom > box.top && box.right > box.left) editor.refine(box);
    },
    cancel(editor) { this.from = null; editor.view.draw(); },
    mark(editor, context, unit) {
      const { from, to } = this;
      if (from) outlined(context, unit, () => context.rect(from.x, from.y, to.x - from.x, to.y - from.y));
    },
  },
  move: {},
};

// A line that is seen on any image: white on black.
function outlined(context, unit, path) {
  for (const [style, width] of [["#000", 3.5], ["#fff", 1.5]]) {
    context.beginPath();
    path();
    context.strokeStyle = style;
    context.lineWidth = width * unit;
    context.stroke();
  }
}
