// Requests to the server. Planes travel as bytes, compressed. All addresses follow the one of the page.

export class Problem extends Error {
  constructor(status, content) {
    super(content.problem ?? `the server answered ${status}`);
    this.status = status; // 0: no answer
  }
}

export async function state() { return (await answer("api/state")).json(); }

export function picture(place) { return `api/images/${place}/picture`; }

// {about, bytes}: facts of the image, and its three planes.
export async function planes(place) {
  const found = await answer(`api/images/${place}/planes`);
  return unpacked(found);
}

// Saves a verdict; `planes` is null for verdicts without a mask. Returns the new state of the image.
export async function save(place, { version, verdict, key }, body) {
  const asked = new URLSearchParams({ version, verdict, key });
  return (await answer(`api/images/${place}/save?${asked}`, { method: "POST", body })).json();
}

export async function refine(place, box, body) {
  return unpacked(await answer(`api/images/${place}/refine?${new URLSearchParams(box)}`, { method: "POST", body }));
}

export async function packed(planes) {
  const stream = new Blob([planes.ids, planes.known]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Response(stream).blob();
}

async function unpacked(found) {
  return { about: JSON.parse(found.headers.get("x-about")), bytes: new Uint8Array(await found.arrayBuffer()) };
}

async function answer(address, options) {
  let found;
  try {
    found = await fetch(address, options);
  } catch {
    throw new Problem(0, { problem: "the server does not answer" });
  }
  if (!found.ok) throw new Problem(found.status, await found.json().catch(() => ({})));
  return found;
}
