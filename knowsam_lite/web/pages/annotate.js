// The annotator's page: a label map of one byte a pixel, tools that change it, and SAM's answers before they do.
// A plain canvas: what is edited are class numbers, and libraries for shapes draw soft edges between them.
"use strict";

const UNKNOWN = 255, UNDO = 100, WHITE = [255, 255, 255], GRAY = [150, 150, 150];
const at = (id) => document.getElementById(id);
const token = new URLSearchParams(location.search).get("token") || "";
const view = { scale: 1, x: 0, y: 0, hidden: false }; // screen = (image * scale) + (x, y), in CSS pixels
const hand = { tool: "ask", label: 1, radius: 16, inside: true, space: false, pointers: new Map(), at: null };
let about = null; // what the server said of the folder
let open = null; // the open picture, its mask, its history
let current = 0; // place in the list, of the open picture or of one that could not be opened
let asked = 0; // number of the last question to SAM
let answering = Promise.resolve(); // ends with SAM's answer to the last question
let saving = Promise.resolve(true); // ends with the last save: one after another
let leaving = false; // whether a picture is being saved before another one takes its place

// ---------------------------------------------------------------- server

async function call(path, name, options = {}) {
  const address = name === undefined ? path : `${path}?image=${encodeURIComponent(name)}`;
  let answer;
  try {
    answer = await fetch(address, { ...options, headers: { Authorization: `token ${token}`, ...options.headers } });
  } catch {
    throw new Error("found no server, expected the command `annotate` to run: start it again, then save");
  }
  if (answer.ok) return answer;
  const error = new Error((await answer.json()).error);
  error.status = answer.status;
  throw error;
}

async function labelsOf(path, name, options) {
  const answer = await call(path, name, options);
  return { labels: new Uint8Array(await answer.arrayBuffer()), headers: answer.headers };
}

function say(text, bad = false) {
  at("message").textContent = text;
  at("message").classList.toggle("bad", bad);
}

const guarded = (work) => async (...given) => {
  try {
    return await work(...given);
  } catch (error) {
    say(error.message, true);
  }
};

// ---------------------------------------------------------------- pictures

const openImage = guarded(async (index, keep = false) => {
  if (index < 0 || index >= about.images.length || (leaving && !keep)) return;
  if (!(await left(keep))) return;
  const { name } = about.images[index];
  document.body.dataset.state = "loading";
  say("Loading…");
  open = null;
  current = index;
  asked++;
  later();
  location.hash = encodeURIComponent(name);
  at("place").textContent = `${name}  ${index + 1} / ${about.images.length}`;
  const [picture, mask] = await Promise.all([
    call("/api/picture", name).then((answer) => answer.blob()).then((blob) => createImageBitmap(blob, { colorSpaceConversion: "none" })),
    labelsOf("/api/mask", name),
  ]);
  if (current !== index) return; // another one was chosen meanwhile
  const { width, height } = picture;
  open = { name, index, picture, width, height, labels: mask.labels, version: mask.headers.get("X-Version"),
    dirty: false, edits: 0, undo: [], redo: [], draft: null, prompts: [], undone: [], answer: null, waits: false };
  open.layers = Object.fromEntries(["labels", "draft", "answer"].map((key) => [key, layer(width, height)]));
  paint("labels");
  fit();
  list();
  refresh();
  say("");
  document.body.dataset.state = "open";
  help(open);
});

// What takes the server a while: the draft, and SAM's look at this picture and at the next one.
const help = guarded(async (image) => {
  if (about.drafts) {
    image.draft = (await labelsOf("/api/draft", image.name)).labels;
    if (open !== image) return;
    paint("draft");
    refresh();
  }
  if (!image.prompts.length) say(`${about.teacher} looks at the picture…`);
  await call("/api/prepare", image.name, { method: "POST" });
  if (open !== image) return;
  if (!image.prompts.length) say(`${about.teacher} is ready: click inside, right-click outside, or drag a box`);
  document.body.dataset.state = "ready";
  const next = about.images[image.index + 1];
  if (next) await call("/api/prepare", next.name, { method: "POST" });
});

// Whether the open picture may be left: all that was drawn is saved, also what is drawn while it is being saved.
async function left(keep) {
  leaving = true;
  try {
    for (;;) {
      lift();
      await settle();
      if (!open || !open.dirty || keep) return true;
      if (!(await save())) return false;
    }
  } finally {
    leaving = false;
  }
}

function save() {
  if (!open) return Promise.resolve(false);
  const image = open, settled = settle();
  saving = saving.catch(() => false).then(() => settled).then(() => store(image, false));
  return saving;
}

async function store(image, over) {
  const edits = image.edits;
  const headers = over ? {} : { "If-Match": image.version };
  at("saved").textContent = "saving…";
  try {
    const answer = await call("/api/mask", image.name, { method: "PUT", body: image.labels, headers });
    image.version = (await answer.json()).version;
  } catch (error) {
    refresh();
    if (error.status !== 412) {
      say(error.message, true);
      return false;
    }
    return conflict(image);
  }
  image.dirty = image.edits !== edits;
  about.images[image.index].mask = true;
  list();
  refresh();
  return true;
}

function conflict(image) {
  return new Promise((resolve) => {
    const dialog = at("conflict");
    dialog.returnValue = "wait";
    dialog.onclose = async () => {
      if (dialog.returnValue === "overwrite") return resolve(await store(image, true));
      if (dialog.returnValue === "load") {
        image.dirty = false;
        await openImage(image.index, true);
      }
      resolve(false);
    };
    dialog.showModal();
  });
}

// ---------------------------------------------------------------- controls

function choose(tool) {
  if (tool !== "ask" && tool !== "hand") settle();
  hand.tool = tool;
  say("");
  refresh();
}

function label(value) {
  if (value !== UNKNOWN && value >= about.classes.length) return;
  hand.label = value;
  if (open) paint("answer");
  refresh();
}

function resize(radius) {
  hand.radius = Math.min(Math.max(Math.round(radius), 1), 120);
  at("brush").value = hand.radius;
  refresh();
}

function refresh() {
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === hand.tool);
  for (const button of at("classes").children) button.setAttribute("aria-checked", Number(button.value) === hand.label);
  at("size").textContent = `${hand.radius} px`;
  at("sign").textContent = hand.inside ? "+ inside" : "− outside";
  at("undo").disabled = !open || !(open.undo.length || open.prompts.length);
  at("redo").disabled = !open || !(open.redo.length || open.undone.length);
  at("sign").hidden = hand.tool !== "ask";
  at("accept").hidden = at("discard").hidden = !open || !open.prompts.length;
  at("saved").textContent = !open ? "" : open.dirty ? "not saved" : open.version === "new" ? "no mask yet" : "saved";
  at("save").disabled = !open;
  at("take").disabled = !open || !open.draft;
  at("view").style.cursor = hand.tool === "hand" ? "grab" : hand.tool === "ask" ? "crosshair" : "none";
  later();
}

function list() {
  const rows = about.images.map(({ name, mask }, index) => {
    const row = document.createElement("li"), button = document.createElement("button");
    button.textContent = button.title = name;
    button.className = mask ? "done" : "";
    button.setAttribute("aria-current", open && index === open.index);
    button.onclick = () => openImage(index);
    row.append(button);
    return row;
  });
  at("list").replaceChildren(...rows);
  at("count").textContent = `${about.images.filter((image) => image.mask).length} of ${rows.length} with a mask`;
  const row = rows[current]; // scrolls the list alone, not what holds it
  at("list").scrollTop = row.offsetTop - at("list").clientHeight / 2;
}

function classButtons() {
  const all = about.classes.map((name, value) => [name, value]);
  if (about.unknown) all.push(["unknown", UNKNOWN]);
  at("classes").replaceChildren(...all.map(([name, value]) => {
    const button = Object.assign(document.createElement("button"), { value });
    const patch = document.createElement("i"), key = document.createElement("kbd");
    button.setAttribute("role", "radio");
    patch.style.background = value ? `rgb(${colorOf(value)})` : "none";
    key.textContent = value < 10 ? value : "";
    button.append(patch, name, key);
    button.onclick = () => label(value);
    return button;
  }));
}

const go = (by) => openImage(current + by);
const KEYS = {
  s: () => choose("ask"), b: () => choose("brush"), e: () => choose("eraser"), h: () => choose("hand"),
  x: () => { hand.inside = !hand.inside; refresh(); },
  "[": () => resize(hand.radius / 1.2 - 0.5), "]": () => resize(hand.radius * 1.2 + 0.5),
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), f: () => open && fit(),
  v: () => { view.hidden = !view.hidden; later(); },
  t: () => { at("beneath").checked = !at("beneath").checked; later(); },
  d: takeDraft, enter: settle, escape: discard, arrowleft: () => go(-1), arrowright: () => go(1),
  "?": () => at("keys").showModal(),
};
const WITH_CONTROL = { z: (event) => (event.shiftKey ? redo() : undo()), y: redo, s: () => save() };

function key(event) {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === " " && event.target.tagName !== "BUTTON") { hand.space = true; return event.preventDefault(); }
  const control = event.ctrlKey || event.metaKey, name = event.key.toLowerCase();
  const action = control ? WITH_CONTROL[name] : KEYS[name];
  if (event.target.type === "range" && name.startsWith("arrow")) return;
  if (name === "enter" && event.target.tagName === "BUTTON") return;
  if (action) action(event);
  else if (!control && /^[0-9]$/.test(name)) label(Number(name));
  else return;
  event.preventDefault();
}

function listen() {
  const canvas = at("view");
  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, up);
  canvas.addEventListener("pointerleave", () => { hand.at = null; later(); });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  new ResizeObserver(() => open && fit()).observe(canvas);
  addEventListener("keydown", key);
  addEventListener("keyup", (event) => { if (event.key === " ") hand.space = false; });
  addEventListener("beforeunload", (event) => { if (open && (open.dirty || open.prompts.length)) event.preventDefault(); });
  for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => choose(button.dataset.tool);
  const clicks = { previous: () => go(-1), next: () => go(1), save: () => save(), undo, redo, accept: settle, discard, take: takeDraft,
    sign: KEYS.x, help: KEYS["?"] };
  for (const [id, action] of Object.entries(clicks)) at(id).onclick = action;
  at("brush").oninput = (event) => resize(Number(event.target.value));
  at("tint").oninput = () => { if (open) { paint("labels"); paint("answer"); } };
  at("beneath").onchange = later;
}

const main = guarded(async () => {
  about = await (await call("/api/about")).json();
  at("title").textContent = document.title = about.title;
  at("drafts").hidden = !about.drafts;
  classButtons();
  listen();
  refresh();
  const wanted = decodeURIComponent(location.hash.slice(1));
  await openImage(Math.max(about.images.findIndex((image) => image.name === wanted), 0));
});
