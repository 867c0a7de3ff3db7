// The page: images in their order, verdicts, tools, keys and pointers.
import { History } from "./history.js";
import { Planes } from "./planes.js";
import { Saver } from "./saver.js";
import * as server from "./server.js";
import { IGNORE, TOOLS } from "./tools.js";
import { View } from "./view.js";

const at = (id) => document.getElementById(id);
const KEPT = 6; // images in memory

const state = await server.state();
const colours = Array.from({ length: 256 }, (_, id) => state.classes[id]?.colour ?? [0, 0, 0]);
const view = new View(at("stage"), colours);
const pictures = new Map(); // place -> promise of a picture
const saver = new Saver(tell, reload);

const editor = {
  view,
  picture: null,
  tool: "brush",
  id: 0,
  radius: 8,
  cursor: null, // in the image
  penDown: false, // by the keyboard
  before: null, // of the stroke that has begun

  get planes() { return this.picture.planes; },

  inside({ x, y }) { return x >= 0 && y >= 0 && x < this.planes.width && y < this.planes.height; },

  begin() { this.before = this.planes.copy(); },

  // Keeps a stroke: it can be undone, and is saved.
  end(verdict = null) {
    const { picture, before } = this;
    this.before = null;
    const after = verdict ?? (this.planes.anyKnown ? "correct" : "open");
    if (before && picture.history.add(this.planes, before, picture.verdict, after)) settle(after);
    view.recolour();
  },

  drop() {
    if (this.before) this.planes.set(this.before);
    this.before = null;
    this.penDown = false;
    TOOLS[this.tool].cancel?.(this);
    view.recolour();
  },

  async refine(box) {
    const { picture } = this;
    tell("refining …");
    try {
      const found = await server.refine(picture.place, box, await server.packed(this.planes));
      if (picture !== this.picture) return;
      this.begin();
      const n = this.planes.ids.length;
      this.planes.set({ ids: found.bytes.slice(0, n), known: found.bytes.slice(n) });
      tell("refined");
      this.end();
    } catch (problem) {
      tell(problem.message, true);
    }
  },
};
view.mark = (context, unit) => TOOLS[editor.tool].mark?.(editor, context, unit) ?? cross(context, unit);
window.addEventListener("beforeunload", (event) => { if (!saver.idle) event.preventDefault(); });

// --- images -----------------------------------------------------------------------------------------------

// An image with its planes; loaded once, as long as it is among the last ones.
function load(place) {
  if (!pictures.has(place)) pictures.set(place, loaded(place));
  const found = pictures.get(place);
  pictures.delete(place); // and again at the end, as the latest
  pictures.set(place, found);
  for (const old of [...pictures.keys()].slice(0, -KEPT)) {
    if (old !== editor.picture?.place && saver.idle) pictures.delete(old);
  }
  return found;
}

async function loaded(place) {
  const image = new Image();
  image.src = server.picture(place);
  try {
    const [{ about, bytes }] = await Promise.all([server.planes(place), image.decode()]);
    const planes = Planes.of(about.width, about.height, bytes), row = Object.assign(state.images[place], about);
    return { place, image, planes, row, verdict: row.verdict, version: row.version, history: new History() };
  } catch (problem) {
    pictures.delete(place);
    throw problem;
  }
}

async function open(place) {
  if (!state.images[place]) return;
  editor.drop_if_open();
  tell("loading …");
  try {
    const picture = await load(place);
    editor.picture = picture;
    history.replaceState(null, "", `#${place + 1}`);
    view.show(picture.image, picture.planes);
    at("place").value = place + 1;
    at("name").textContent = picture.row.id;
    refresh();
    tell(saver.idle ? "saved" : "saving …");
    if (state.images[place + 1]) load(place + 1).catch(() => {}); // shown when it is opened
  } catch (problem) {
    tell(problem.message, true);
  }
}
editor.drop_if_open = () => { if (editor.picture) editor.drop(); };

// Another reviewer was faster: their state is shown.
async function reload(picture) {
  pictures.delete(picture.place);
  picture.changed = false;
  if (picture === editor.picture) await open(picture.place);
  notice(`Another reviewer changed ${picture.row.id}: this is their version. Your last change was not saved.`);
}

function undecided(from) {
  const order = state.images.map((_, k) => (from + k) % state.images.length);
  return order.find((place) => state.images[place].verdict === "open") ?? from;
}

// --- verdicts ---------------------------------------------------------------------------------------------

// Takes a verdict over, and saves it.
function settle(verdict) {
  const { picture } = editor;
  picture.verdict = picture.row.verdict = verdict;
  saver.save(picture);
  refresh();
}

function blocked() {
  if (saver.failing) notice("The server does not answer, so nothing more is painted until it does.");
  else at("notice").hidden = true;
  return saver.failing || !editor.picture;
}

function decide(verdict) {
  if (blocked()) return;
  editor.drop();
  editor.begin();
  if (verdict === "accept") {
    editor.planes.known.fill(1);
    editor.end(editor.planes.isLabel ? "accept" : "correct");
  } else {
    if (verdict === "open") editor.planes.set({ ids: editor.planes.label, known: new Uint8Array(editor.planes.known.length) });
    editor.end(verdict);
  }
  if (verdict !== "open") open(editor.picture.place + 1);
}

function step(way) {
  if (blocked()) return;
  editor.drop();
  const verdict = editor.picture.history[way](editor.planes);
  if (verdict === null) return tell(`nothing to ${way}`);
  settle(verdict);
  view.recolour();
}

// --- what is shown ----------------------------------------------------------------------------------------

function tell(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

function notice(text) {
  at("notice").textContent = text;
  at("notice").hidden = false;
}

function refresh() {
  const { picture } = editor, done = state.images.filter((one) => one.verdict !== "open").length;
  at("count").textContent = `of ${state.images.length}, ${done} decided`;
  const partial = picture.verdict === "correct" && !picture.planes.allKnown;
  at("verdict").textContent = { accept: "accepted", reject: "rejected", correct: partial ? "corrected in part" : "corrected", open: "open" }[picture.verdict];
  at("verdict").className = `verdict ${picture.verdict}`;
  at("undo").disabled = !picture.history.done.length;
  at("redo").disabled = !picture.history.undone.length;
}

function cross(context, unit) {
  if (!editor.cursor) return;
  const { x, y } = editor.cursor, arm = 10 * unit;
  for (const [style, width] of [["#000", 3.5], ["#fff", 1.5]]) {
    context.beginPath();
    context.moveTo(x - arm, y); context.lineTo(x + arm, y);
    context.moveTo(x, y - arm); context.lineTo(x, y + arm);
    context.strokeStyle = style;
    context.lineWidth = width * unit;
    context.stroke();
  }
}

function choose(id) {
  if (id !== IGNORE && !state.classes[id]) return;
  editor.id = id;
  for (const button of at("classes").children) button.setAttribute("aria-pressed", String(+button.dataset.id === id));
}

function take(tool) {
  if (editor.picture) editor.drop();
  editor.tool = tool;
  for (const button of at("tools").querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  view.draw();
}

function resize(radius) {
  editor.radius = Math.min(Math.max(radius, 1), 100);
  at("radius").value = editor.radius;
  view.draw();
}

function fade(opacity) {
  view.opacity = Math.min(Math.max(opacity, 0), 1);
  at("opacity").value = Math.round(100 * view.opacity);
  view.draw();
}

function addClass(name, colour, id, key) {
  const button = document.createElement("button"), swatch = document.createElement("canvas");
  swatch.width = swatch.height = 1;
  const context = swatch.getContext("2d");
  context.fillStyle = `rgb(${colour.join()})`;
  context.fillRect(0, 0, 1, 1);
  const hint = document.createElement("kbd");
  hint.textContent = key;
  button.append(swatch, name, hint);
  button.dataset.id = id;
  button.addEventListener("click", () => choose(id));
  at("classes").append(button);
}

// --- pointers ---------------------------------------------------------------------------------------------

const pointers = new Map();
let moving = false;

const point = (event) => view.inImage(event.offsetX, event.offsetY);

function middle() {
  const [a, b] = [...pointers.values()];
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) };
}

view.canvas.addEventListener("pointerdown", (event) => {
  view.canvas.focus({ preventScroll: true });
  if (!editor.picture) return;
  view.canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
  if (pointers.size === 2) { editor.drop(); moving = true; return; }
  moving = event.button > 0 || editor.tool === "move";
  if (moving || blocked()) return;
  editor.cursor = point(event);
  TOOLS[editor.tool].down?.(editor, editor.cursor);
});

view.canvas.addEventListener("pointermove", (event) => {
  const last = pointers.get(event.pointerId);
  if (!editor.picture) return;
  if (last && pointers.size === 2) {
    const from = middle();
    pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    const to = middle();
    view.pan(to.x - from.x, to.y - from.y);
    view.zoom(to.apart / Math.max(from.apart, 1), to.x, to.y);
  } else if (last && moving) {
    view.pan(event.offsetX - last.x, event.offsetY - last.y);
    pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
  } else {
    editor.cursor = point(event);
    if (last && drawing()) TOOLS[editor.tool].move?.(editor, editor.cursor);
    view.draw();
  }
});

// Whether a stroke or a box has begun: not if the server fails, and not after a second finger came.
const drawing = () => editor.before || TOOLS[editor.tool].from;

for (const kind of ["pointerup", "pointercancel"]) {
  view.canvas.addEventListener(kind, (event) => {
    if (!pointers.delete(event.pointerId) || moving) { moving = pointers.size > 0 && moving; return; }
    if (kind === "pointercancel") editor.drop();
    else if (TOOLS[editor.tool].drag && drawing()) TOOLS[editor.tool].up(editor);
  });
}
view.canvas.addEventListener("pointerleave", () => { if (!pointers.size) { editor.cursor = null; view.draw(); } });
view.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
view.canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  view.zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
}, { passive: false });

// --- keys -------------------------------------------------------------------------------------------------

// Moves the cursor; a tool whose pen is down follows.
function walk(dx, dy, far) {
  const { planes } = editor, length = Math.max(1, Math.round((far ? 32 : 4) / view.scale));
  const from = editor.cursor ?? { x: planes.width / 2, y: planes.height / 2 };
  editor.cursor = {
    x: Math.min(Math.max(from.x + dx * length, 0), planes.width - 0.01),
    y: Math.min(Math.max(from.y + dy * length, 0), planes.height - 0.01),
  };
  if (editor.penDown) TOOLS[editor.tool].move(editor, editor.cursor);
  view.reveal(editor.cursor);
}

function use() {
  if (blocked()) return;
  const tool = TOOLS[editor.tool];
  editor.cursor ??= { x: editor.planes.width / 2, y: editor.planes.height / 2 };
  if (!tool.drag) tool.down?.(editor, editor.cursor);
  else if (editor.penDown) { editor.penDown = false; tool.up(editor); }
  else { editor.penDown = true; tool.down(editor, editor.cursor); }
  view.draw();
}

const wheel = (by) => {
  const ids = [...state.classes.keys(), IGNORE], now = ids.indexOf(editor.id);
  choose(ids.at((now + by) % ids.length));
};
const KEYS = {
  b: () => take("brush"), e: () => take("eraser"), p: () => take("polygon"), f: () => take("fill"),
  x: () => take("refine"), m: () => take("move"),
  i: () => choose(IGNORE), n: () => wheel(1), N: () => wheel(-1),
  "[": () => resize(editor.radius - Math.max(1, editor.radius >> 3)), "]": () => resize(editor.radius + Math.max(1, editor.radius >> 3)),
  z: () => step("undo"), Z: () => step("redo"), y: () => step("redo"),
  "+": () => view.zoom(1.3), "=": () => view.zoom(1.3), "-": () => view.zoom(1 / 1.3), Home: () => view.fit(),
  o: () => fade(view.opacity + 0.1), O: () => fade(view.opacity - 0.1),
  h: () => { view.hidden = !view.hidden; view.draw(); },
  a: () => decide("accept"), r: () => decide("reject"), u: () => decide("open"),
  ",": () => open(editor.picture.place - 1), ".": () => open(editor.picture.place + 1),
  g: () => open(undecided(editor.picture.place + 1)),
  "?": () => at("keys").showModal(),
  Escape: () => editor.drop(),
};
const ON_STAGE = {
  ArrowLeft: (far) => walk(-1, 0, far), ArrowRight: (far) => walk(1, 0, far),
  ArrowUp: (far) => walk(0, -1, far), ArrowDown: (far) => walk(0, 1, far),
  " ": use, Enter: () => (editor.tool === "polygon" ? TOOLS.polygon.finish(editor) : use()),
};

document.addEventListener("keydown", (event) => {
  const stage = event.target === view.canvas || event.target === document.body;
  const typing = event.target.matches("input[type=number]") || (event.target.matches("input") && event.key === "Home");
  if (typing || at("keys").open || event.altKey || !editor.picture) return;
  const command = event.ctrlKey || event.metaKey;
  if (command && !"zyZY".includes(event.key)) return;
  const digit = /^Digit(\d)$/.exec(event.code);
  const action = digit && !command ? () => choose((+digit[1] + 9) % 10 + (event.shiftKey ? 10 : 0))
    : KEYS[event.key] ?? (stage ? ON_STAGE[event.key] : null);
  if (!action) return;
  event.preventDefault();
  action(event.shiftKey);
});

// --- buttons ----------------------------------------------------------------------------------------------

const click = (id, action) => at(id).addEventListener("click", action);
for (const button of at("tools").querySelectorAll("button")) button.addEventListener("click", () => take(button.dataset.tool));
click("previous", KEYS[","]); click("next", KEYS["."]); click("undecided", KEYS.g);
click("undo", KEYS.z); click("redo", KEYS.Z);
click("in", KEYS["+"]); click("out", KEYS["-"]); click("fit", KEYS.Home);
click("accept", KEYS.a); click("reject", KEYS.r); click("reopen", KEYS.u); click("help", KEYS["?"]);
at("radius").addEventListener("input", (event) => resize(+event.target.value));
at("opacity").addEventListener("input", (event) => fade(event.target.value / 100));
at("place").addEventListener("change", (event) => { open(event.target.value - 1); view.canvas.focus(); });
at("place").max = state.images.length;

document.title = at("title").textContent = state.title;
state.classes.forEach(({ name, colour }, id) => addClass(name, colour, id, id < 10 ? String((id + 1) % 10) : id < 20 ? `⇧${(id + 1) % 10}` : ""));
addClass("ignore", [0, 0, 0], IGNORE, "I");
choose(0);
take("brush");
const asked = Number.parseInt(location.hash.slice(1), 10) - 1;
await open(state.images[asked] ? asked : undecided(0));
view.canvas.focus({ preventScroll: true });
window.review = { editor, saver, state }; // for tests, and for the curious
