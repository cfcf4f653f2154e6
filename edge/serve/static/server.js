// What the page asks of the server that it came from. The key is in the address's fragment, which no request carries.

const KEY = "samedge-key";
const INSTEAD = { // of what the server says to programs
  401: "open the address with #key=… that samedge serve shows",
  410: "the session has ended (idle for an hour, or the server was started again); load the page again",
};
let lease = null;

function key() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname); // so that the address bar and bookmarks hold no key
  }
  return sessionStorage.getItem(KEY) ?? "";
}

function headers(type, meta) {
  return {
    Authorization: `Bearer ${key()}`, "Content-Type": type,
    ...(lease && { "X-Lease-Token": lease }), ...(meta && { "X-Meta": asciiJson(meta) }),
  };
}

async function post(path, { json, body, meta, signal, keepalive } = {}) {
  const type = body === undefined ? "application/json" : "application/octet-stream";
  const answer = await fetch(path, {
    method: "POST", headers: headers(type, meta), body: body ?? JSON.stringify(json ?? {}), signal, keepalive,
  }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("the server does not answer; is samedge serve still running?");
  });
  if (answer.ok) return answer;
  const detail = (await answer.json().catch(() => ({}))).detail ?? answer.statusText;
  throw new Error(INSTEAD[answer.status] ?? detail);
}

/** Begin: a lease, kept alive until the page is left. */
export async function connect() {
  lease = (await (await post("/claim")).json()).lease_token;
  new Worker("/static/heartbeat.js").postMessage(headers("application/json"));
  addEventListener("pagehide", () => post("/release", { keepalive: true }).catch(() => {}));
}

/** The names of the cases that can be opened. */
export async function cases() {
  return (await (await post("/page/cases")).json()).cases;
}

/** Send a file; `first` forgets those sent before. */
export async function upload(file, first) {
  await post("/page/upload", { body: file, meta: { name: file.name, first } });
}

/** What is said of a case, and its image as NIfTI. */
export async function open(name) {
  const answer = await post("/page/open", { json: { case: name } });
  return { ...JSON.parse(answer.headers.get("X-Meta")), nifti: await answer.arrayBuffer() };
}

/** Change masks; `onLine` is told of each line, see edge/serve/changes.py, with its block unpacked. */
export async function change(action, json, onLine, signal) {
  const answer = await post(`/page/${action}`, { json, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines.map((each) => JSON.parse(each))) {
      if (line.error) throw new Error(line.error);
      if (line.block) line.block.labels = await unpack(line.block.data);
      onLine(line);
    }
  }
}

/** The label map as a file: its name and content. */
export async function save(shown, format, names) {
  const answer = await post("/page/save", { json: { case: shown, format, names } });
  const name = decodeURIComponent(answer.headers.get("Content-Disposition").split("''")[1]);
  return { name, blob: await answer.blob() };
}

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function asciiJson(value) {
  return JSON.stringify(value).replace(/[^\x20-\x7e]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
