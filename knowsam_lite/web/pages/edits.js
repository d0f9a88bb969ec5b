// What changes a mask on the annotator's page, and can be undone: strokes, the draft, and SAM's answers.

// ---------------------------------------------------------------- changes

const cut = (map, [x0, y0, x1, y1]) => {
  const part = new Uint8Array((x1 - x0) * (y1 - y0));
  for (let y = y0; y < y1; y++) part.set(map.subarray(y * open.width + x0, y * open.width + x1), (y - y0) * (x1 - x0));
  return part;
};
const put = (map, part, [x0, y0, x1, y1]) => {
  for (let y = y0; y < y1; y++) map.set(part.subarray((y - y0) * (x1 - x0), (y - y0 + 1) * (x1 - x0)), y * open.width + x0);
};

// After a change of the labels within `box`: remembers what was and what is there.
function changed(before, box) {
  open.undo.push({ box, before: cut(before, box), after: cut(open.labels, box) });
  if (open.undo.length > UNDO) open.undo.shift();
  open.redo = [];
  open.dirty = true;
  open.edits++;
  paint("labels", box);
  refresh();
}

function step(from, to, side) {
  const change = from.pop();
  if (!change) return;
  put(open.labels, change[side], change.box);
  to.push(change);
  open.dirty = true;
  open.edits++;
  paint("labels", change.box);
  refresh();
}

function undo() {
  if (!open) return;
  if (!open.prompts.length) return step(open.undo, open.redo, "before");
  open.undone.push(open.prompts.pop());
  ask();
}

function redo() {
  if (!open) return;
  if (!open.undone.length) return step(open.redo, open.undo, "after");
  open.prompts.push(open.undone.pop());
  ask();
}

// A disc along a line, in the class of the tool; grows the stroke's box.
function stroke(from, to) {
  const { labels, width, height } = open, radius = hand.radius;
  const label = hand.tool === "eraser" ? 0 : hand.label;
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]), steps = Math.max(1, Math.ceil(length / Math.max(radius / 2, 0.5)));
  const box = [width, height, 0, 0];
  for (let s = 0; s <= steps; s++) {
    const cx = from[0] + ((to[0] - from[0]) * s) / steps, cy = from[1] + ((to[1] - from[1]) * s) / steps;
    for (let y = Math.max(0, Math.floor(cy - radius)); y <= Math.min(height - 1, Math.floor(cy + radius)); y++) {
      const half = Math.sqrt(radius ** 2 - (y + 0.5 - cy) ** 2);
      const x0 = Math.max(0, Math.round(cx - half)), x1 = Math.min(width, Math.round(cx + half));
      if (!(x1 > x0)) continue;
      labels.fill(label, y * width + x0, y * width + x1);
      box[0] = Math.min(box[0], x0); box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x1); box[3] = Math.max(box[3], y + 1);
    }
  }
  if (box[2] <= box[0]) return;
  const all = hand.stroke.box;
  hand.stroke.box = all ? [Math.min(all[0], box[0]), Math.min(all[1], box[1]), Math.max(all[2], box[2]), Math.max(all[3], box[3])] : box;
  paint("labels", box);
}

function endStroke() {
  const { before, box } = hand.stroke;
  hand.stroke = null;
  if (box) changed(before, box);
}

// Ends what the pointer has begun, before another picture takes its place.
function lift() {
  if (hand.stroke) endStroke();
  hand.drag = hand.box = null;
}

function takeDraft() {
  if (!open || !open.draft) return;
  discard();
  const before = open.labels.slice();
  open.labels.set(open.draft);
  changed(before, [0, 0, open.width, open.height]);
}

// ---------------------------------------------------------------- SAM

function ask() {
  answering = question();
}

const question = guarded(async () => {
  const image = open, number = ++asked;
  image.waits = false;
  refresh();
  if (!image.prompts.length) return showAnswer(null);
  image.waits = true;
  try {
    await answerTo(image, number);
  } finally {
    if (number === asked) image.waits = false;
  }
});

async function answerTo(image, number) {
  const body = JSON.stringify(image.prompts);
  say(`${about.teacher} answers…`);
  document.body.dataset.state = "asking";
  const { labels, headers } = await labelsOf("/api/answer", image.name, { method: "POST", body });
  if (open !== image || number !== asked) return; // a later question is on its way
  showAnswer(labels);
  say(`${about.teacher}: ${Number(headers.get("X-Seconds")).toFixed(2)} s`);
  document.body.dataset.state = "answered";
  document.body.dataset.seconds = headers.get("X-Seconds");
}

// Accepts the answer to the last prompt, which may be on its way.
async function settle() {
  while (open && open.waits) await answering;
  accept();
}

function showAnswer(labels) {
  open.answer = labels;
  paint("answer");
  refresh();
}

function accept() {
  if (!open || !open.prompts.length) return;
  const answer = open.answer;
  discard();
  if (!answer) return;
  const { labels, width, height } = open, before = labels.slice(), box = [width, height, 0, 0];
  for (let y = 0, i = 0; y < height; y++)
    for (let x = 0; x < width; x++, i++) {
      if (!answer[i] || labels[i] === hand.label) continue;
      labels[i] = hand.label;
      box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x + 1); box[3] = Math.max(box[3], y + 1);
    }
  if (box[2]) changed(before, box);
}

function discard() {
  if (!open) return;
  asked++;
  open.waits = false;
  open.prompts = [];
  open.undone = [];
  showAnswer(null);
}

function prompt(one) {
  open.prompts.push(one);
  open.undone = [];
  ask();
}

// ---------------------------------------------------------------- pointer

const inImage = (event) => {
  const box = at("view").getBoundingClientRect();
  return [(event.clientX - box.left - view.x) / view.scale, (event.clientY - box.top - view.y) / view.scale];
};
const clipped = ([x, y]) => [Math.min(Math.max(x, 0), open.width), Math.min(Math.max(y, 0), open.height)];

function down(event) {
  if (!open) return;
  event.preventDefault();
  at("view").focus();
  at("view").setPointerCapture(event.pointerId);
  hand.pointers.set(event.pointerId, [event.clientX, event.clientY]);
  if (hand.pointers.size > 1) { // two fingers move and zoom; what the first began is taken back
    const drew = hand.stroke && hand.stroke.box;
    if (hand.stroke) endStroke();
    if (drew) undo();
    hand.drag = hand.box = null;
    return;
  }
  const place = inImage(event);
  const moves = hand.tool === "hand" || hand.space || event.button === 1;
  hand.drag = { moves, from: place, at: [event.clientX, event.clientY], inside: hand.inside !== (event.button === 2 || event.altKey || event.shiftKey) };
  if (moves || hand.tool === "ask") return;
  if (open.waits) { hand.drag = null; return say(`${about.teacher} answers first…`); }
  accept();
  hand.stroke = { before: open.labels.slice(), box: null };
  stroke(place, place);
}

function move(event) {
  if (!open) return;
  const place = inImage(event), last = hand.pointers.get(event.pointerId);
  hand.at = place;
  if (!last) return later();
  const now = [event.clientX, event.clientY];
  if (hand.pointers.size === 2) {
    const other = [...hand.pointers].find(([id]) => id !== event.pointerId)[1], box = at("view").getBoundingClientRect();
    const apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
    view.x += (now[0] - last[0]) / 2;
    view.y += (now[1] - last[1]) / 2;
    zoom(apart(now) / Math.max(apart(last), 1), (now[0] + other[0]) / 2 - box.left, (now[1] + other[1]) / 2 - box.top);
  } else if (hand.drag?.moves) {
    view.x += now[0] - last[0];
    view.y += now[1] - last[1];
  } else if (hand.stroke) {
    stroke(hand.stroke.last || hand.drag.from, place);
    hand.stroke.last = place;
  } else if (hand.drag && Math.hypot(now[0] - hand.drag.at[0], now[1] - hand.drag.at[1]) > 5) {
    const [a, b] = [clipped(hand.drag.from), clipped(place)];
    hand.box = [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
  }
  hand.pointers.set(event.pointerId, now);
  later();
}

function up(event) {
  if (!hand.pointers.delete(event.pointerId) || !open) return;
  const { drag, box } = hand;
  hand.drag = hand.box = null;
  if (hand.stroke) return endStroke();
  if (!drag || drag.moves) return;
  if (box) return prompt({ at: box, inside: true });
  const [x, y] = drag.from;
  if (x >= 0 && y >= 0 && x < open.width && y < open.height) prompt({ at: [x, y], inside: drag.inside });
}

