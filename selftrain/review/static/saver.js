// Saves an image after each change. One request at a time; a request that got no answer is sent again, with
// the same key, so that it counts once.
import { packed, save } from "./server.js";

const PAUSE = 1000; // milliseconds until a failed request is sent again

export class Saver {
  // `told(text, problem)` shows the state; `conflict(picture)` is called if another reviewer was faster.
  constructor(told, conflict) {
    this.told = told;
    this.conflict = conflict;
    this.busy = new Set();
    this.failing = false;
  }

  get idle() { return !this.busy.size; }

  async save(picture) {
    picture.changed = true;
    if (this.busy.has(picture)) return;
    this.busy.add(picture);
    this.told("saving …");
    let problem = null;
    try {
      while (picture.changed) {
        picture.changed = false;
        await this.#sent(picture);
      }
    } catch (error) {
      problem = error;
    }
    this.busy.delete(picture);
    if (problem?.status === 409) await this.conflict(picture);
    else if (problem) this.told(`not saved: ${problem.message}`, true);
    else if (this.idle) this.told("saved");
  }

  async #sent(picture) {
    const { place, version, verdict, planes } = picture;
    const body = verdict === "accept" || verdict === "correct" ? await packed(planes) : undefined;
    const change = { version, verdict, key: crypto.randomUUID() };
    for (;;) {
      try {
        Object.assign(picture.row, await save(place, change, body));
        picture.version = picture.row.version;
        this.failing = false;
        return;
      } catch (problem) {
        if (problem.status && problem.status < 500) throw problem;
        this.failing = true;
        this.told(`not saved: ${problem.message}; trying again`, true);
        await new Promise((go) => setTimeout(go, PAUSE));
      }
    }
  }
}
