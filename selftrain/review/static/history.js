// Undo and redo of one image: steps with the planes within a box, and the verdict, before and after.
import { cut, paste } from "./planes.js";

const LONGEST = 200;

export class History {
  constructor() { this.done = []; this.undone = []; }

  // Keeps the step from a copy of the planes to their present state; false if nothing has changed.
  add(planes, before, verdictBefore, verdict) {
    const box = planes.changed(before);
    if (!box && verdictBefore === verdict) return false;
    const part = (copy) => box && cut(copy, planes.width, box);
    this.done.push({ box, before: part(before), after: part(planes), verdictBefore, verdict });
    if (this.done.length > LONGEST) this.done.shift();
    this.undone = [];
    return true;
  }

  // Goes one step back; returns the verdict there, or null without a step.
  undo(planes) { return this.#go(planes, this.done, this.undone, "before", "verdictBefore"); }

  redo(planes) { return this.#go(planes, this.undone, this.done, "after", "verdict"); }

  #go(planes, from, to, side, verdict) {
    const step = from.pop();
    if (!step) return null;
    if (step.box) paste(planes, step[side], step.box);
    to.push(step);
    return step[verdict];
  }
}
