// The annotator's page against a slow server: what happens while a save, or SAM's answer, is on its way. Prints
// the log as JSON. `node annotate_races.js PAGES STORY`: the folder of annotate.js, canvas.js and edits.js, and
// "saves" or "answers".
const fs = require("fs"), path = require("path"), vm = require("vm");

const log = [], disk = { a: { version: "v0", mask: null }, b: { version: "new", mask: null } };
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const sum = (mask) => (mask ? mask.reduce((x, y) => x + y, 0) : 0);

const context = new Proxy({}, { get: () => () => ({}), set: () => true });
const elements = {};
const element = (id) => (elements[id] ??= {
  dataset: {}, style: {}, children: [], classList: { toggle() {} }, setAttribute() {}, append() {}, replaceChildren() {},
  clientWidth: 100, clientHeight: 100, value: 45, checked: true, offsetTop: 0, getContext: () => context,
  showModal() { log.push("conflict"); }, focus() {}, setPointerCapture() {}, getBoundingClientRect: () => ({ left: 0, top: 0 }),
});

let last = Promise.resolve();
function fetch(address, options = {}) { // one request after another, each after a while
  const url = new URL(address, "http://x/"), name = url.searchParams.get("image");
  const body = options.body && Uint8Array.from(options.body);
  const answer = last.then(async () => {
    await sleep(20);
    const headers = { get: () => disk[name].version };
    if (url.pathname === "/api/mask" && options.method === "PUT") {
      const seen = options.headers["If-Match"];
      if (seen !== undefined && seen !== disk[name].version) return { ok: false, status: 412, json: async () => ({ error: "changed" }) };
      disk[name] = { version: `v${log.length}${sum(body)}`, mask: body };
      log.push(`saved ${name} ${sum(body)}`);
      return { ok: true, json: async () => ({ version: disk[name].version }) };
    }
    if (url.pathname === "/api/answer") { // as many rows of ten as there are prompts
      const rows = JSON.parse(options.body).length;
      return { ok: true, headers, arrayBuffer: async () => new Uint8Array(100).fill(1, 0, 10 * rows).buffer };
    }
    const labels = () => (disk[name].mask || new Uint8Array(100)).slice().buffer;
    return { ok: true, headers, blob: async () => ({}), json: async () => ({}), arrayBuffer: async () => labels() };
  });
  last = answer.catch(() => {});
  return answer;
}

const describe = () => { about = { title: "t", classes: ["background", "object"], colors: ["#ff0000"], images: [{ name: "a" }, { name: "b" }], teacher: "s", drafts: false }; };

async function saves() {
  describe();
  const draw = (row) => { const before = open.labels.slice(); open.labels.fill(1, row * 10, row * 10 + 10); changed(before, [0, row, 10, row + 1]); };
  await openImage(0);
  draw(0);
  const first = save();
  await sleep(5);
  draw(1); // ends while the save is on its way
  await first;
  log.push(`dirty ${open.dirty}`);
  await openImage(1);
  log.push(`left a ${sum(disk.a.mask)}`);
  await openImage(0);
  draw(2);
  save();
  await save(); // a double click
  draw(3);
  openImage(1);
  openImage(1); // two quick presses of an arrow key
  await sleep(200);
  log.push(`at ${open.name}, b ${disk.b.version}`);
  await openImage(0);
  hand.stroke = { before: open.labels.slice(), box: null };
  open.labels.fill(1, 40, 50);
  hand.stroke.box = [0, 4, 10, 5];
  await openImage(1); // the brush is still down
  log.push(`a ${sum(disk.a.mask)}, dirty ${open.dirty}, stroke ${hand.stroke}`);
  return log;
}

async function answers() {
  describe();
  const shown = () => `${sum(open.labels)} of ${open.name}, ${open.prompts.length} prompts`;
  await openImage(0);
  prompt({ inside: true });
  await save(); // before the answer
  log.push(shown());
  prompt({ inside: true });
  await sleep(100);
  prompt({ inside: true });
  await settle(); // Enter, when the first answer is there and the second is not
  log.push(shown());
  await openImage(1);
  prompt({ inside: true });
  choose("brush");
  const touch = (pointerId, x) => down({ pointerId, clientX: x, clientY: 5, button: 0, preventDefault() {} });
  touch(1, 5);
  log.push(`stroke ${hand.stroke}`);
  hand.pointers.clear();
  await openImage(0); // an arrow key: the click is in what is saved
  log.push(`left b ${sum(disk.b.mask)}`);
  const before = open.labels.slice();
  open.labels.fill(1, 90, 100);
  changed(before, [0, 9, 10, 10]);
  touch(1, -9000); // outside of the picture
  touch(2, 50);
  log.push(shown());
  return log;
}

const page = {
  document: { getElementById: element, querySelectorAll: () => [], body: { dataset: {} }, createElement: () => element(Math.random()), querySelector: () => null },
  location: { search: "?token=t", hash: "" }, URLSearchParams, fetch, requestAnimationFrame() {},
  ImageData: class { constructor(width, height) { this.data = new Uint8ClampedArray(width * height * 4); } },
  createImageBitmap: async () => ({ width: 10, height: 10 }), log, sleep, sum, disk, Uint8Array, Promise, describe: null,
};
vm.createContext(page);
const sources = ["annotate.js", "canvas.js", "edits.js"].map((name) => fs.readFileSync(path.join(process.argv[2], name), "utf8"));
vm.runInContext(`${sources.join("\n")}\ndescribe = ${describe}\n${{ saves, answers }[process.argv[3]]}\n${process.argv[3]}()`, page).then((found) => console.log(JSON.stringify(found)));
