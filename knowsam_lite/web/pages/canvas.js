// How the annotator's page draws: the picture, its layers of class colors, prompts and the brush.

const layer = (width, height) => Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
const hex = (color) => [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
const colorOf = (label) => (label === UNKNOWN || label === 0 ? GRAY : hex(about.colors[label - 1]));

// Draws a rectangle of a map into its layer; edges are opaque, those of the draft dashed.
function paint(kind, box = [0, 0, open.width, open.height]) {
  const map = open[kind], { width, height } = open, context = open.layers[kind];
  const [x0, y0, x1, y1] = [Math.max(box[0] - 1, 0), Math.max(box[1] - 1, 0), Math.min(box[2] + 1, width), Math.min(box[3] + 1, height)];
  if (x1 <= x0 || y1 <= y0) return;
  const image = new ImageData(x1 - x0, y1 - y0);
  const inner = kind === "draft" ? 28 : Math.round(2.55 * at("tint").value);
  for (let y = y0; map && y < y1; y++)
    for (let x = x0; x < x1; x++) {
      const i = y * width + x, label = map[i];
      if (!label) continue;
      const edge = x === 0 || y === 0 || x === width - 1 || y === height - 1 ||
        map[i - 1] !== label || map[i + 1] !== label || map[i - width] !== label || map[i + width] !== label;
      const place = 4 * ((y - y0) * (x1 - x0) + x - x0);
      const color = kind === "answer" ? (edge ? WHITE : colorOf(hand.label)) : colorOf(label);
      image.data.set(color, place);
      image.data[place + 3] = edge && (kind !== "draft" || (x + y) % 8 < 5) ? 255 : inner;
    }
  context.putImageData(image, x0, y0);
  later();
}

let waiting = false;
function later() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

function draw() {
  const canvas = at("view"), context = canvas.getContext("2d"), ratio = devicePixelRatio || 1;
  const { clientWidth: w, clientHeight: h } = canvas;
  canvas.width = Math.round(w * ratio);
  canvas.height = Math.round(h * ratio);
  if (!open) return;
  context.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.x, ratio * view.y);
  context.imageSmoothingEnabled = view.scale < 2;
  context.drawImage(open.picture, 0, 0);
  context.imageSmoothingEnabled = view.scale < 1;
  if (at("beneath").checked) context.drawImage(open.layers.draft.canvas, 0, 0);
  if (!view.hidden) context.drawImage(open.layers.labels.canvas, 0, 0);
  context.drawImage(open.layers.answer.canvas, 0, 0);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const boxes = open.prompts.filter((prompt) => prompt.at.length === 4);
  const last = hand.box ? { at: hand.box } : boxes.pop(); // of several boxes the last one counts
  for (const prompt of open.prompts) if (prompt.at.length === 2) mark(context, prompt);
  if (last) mark(context, last);
  const brush = hand.tool === "brush" || hand.tool === "eraser";
  if (brush && hand.at && hand.pointers.size < 2) ring(context, ...screen(hand.at), hand.radius * view.scale);
  // Where the picture lies, for whoever has to point at a pixel.
  Object.assign(canvas.dataset, { scale: view.scale, x: view.x, y: view.y });
}

const screen = ([x, y]) => [x * view.scale + view.x, y * view.scale + view.y];

function ring(context, x, y, radius) {
  for (const [color, width] of [["#000a", 3], ["#fff", 1.4]]) {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.strokeStyle = color;
    context.lineWidth = width;
    context.stroke();
  }
}

function mark(context, prompt) {
  context.lineWidth = 2;
  if (prompt.at.length === 4) {
    const [x0, y0] = screen(prompt.at), [x1, y1] = screen(prompt.at.slice(2));
    for (const [color, dash] of [["#000", []], ["#fff", [6, 4]]]) {
      context.setLineDash(dash);
      context.strokeStyle = color;
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    context.setLineDash([]);
    return;
  }
  const [x, y] = screen(prompt.at);
  context.beginPath();
  context.arc(x, y, 6, 0, 2 * Math.PI);
  context.fillStyle = prompt.inside ? "#1a9850" : "#d73027";
  context.fill();
  context.strokeStyle = "#fff";
  context.stroke();
  context.beginPath();
  context.moveTo(x - 3, y);
  context.lineTo(x + 3, y);
  if (prompt.inside) { context.moveTo(x, y - 3); context.lineTo(x, y + 3); }
  context.stroke();
}

function fit() {
  const { clientWidth: w, clientHeight: h } = at("view");
  view.scale = Math.min((w - 16) / open.width, (h - 16) / open.height);
  view.x = (w - view.scale * open.width) / 2;
  view.y = (h - view.scale * open.height) / 2;
  later();
}

function zoom(factor, x = at("view").clientWidth / 2, y = at("view").clientHeight / 2) {
  const scale = Math.min(Math.max(view.scale * factor, 0.02), 64), by = scale / view.scale;
  Object.assign(view, { scale, x: x - by * (x - view.x), y: y - by * (y - view.y) });
  later();
}

