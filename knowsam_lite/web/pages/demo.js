// The page of `knowsam-lite demo`: an image in; mask, uncertainty and each network's opinion out.
"use strict";

// Magma at 0, 0.2, ... 1, dark for certain.
const MAGMA = [[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];
const at = (id) => document.getElementById(id);
let session = null; // a promise of onnxruntime's session
let shown = null; // what the last image gave

function say(text, bad = false) {
  const line = at("status");
  line.hidden = !text;
  line.textContent = text;
  line.classList.toggle("bad", bad);
}

const problem = (found, expected, fix) => new Error(`found ${found}, expected ${expected}: ${fix}`);

function load(source) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = source;
    script.onload = resolve;
    script.onerror = () =>
      reject(problem(`no ${source} beside this page`, "the whole folder", "copy all of its files together"));
    document.head.append(script);
  });
}

// Base64 of gzip -> Uint8Array.
async function unpack(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function start() {
  await Promise.all(["ort.js", "runtime.js"].map(load));
  const wasm = ort.env.wasm;
  wasm.numThreads = 1; // more need headers of a server
  wasm.wasmBinary = (await unpack(KNOWSAM_RUNTIME.wasm)).buffer;
  const loader = new Blob([KNOWSAM_RUNTIME.loader], { type: "text/javascript" });
  wasm.wasmPaths = { mjs: URL.createObjectURL(loader) };
  const model = await unpack(KNOWSAM_MODEL.onnx);
  delete KNOWSAM_MODEL.onnx;
  delete KNOWSAM_RUNTIME.wasm;
  return ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
}

// A file -> its pixels, upright, not larger than the model takes: {rgba, width, height, full, name}.
async function read(file) {
  const head = new Uint8Array(await file.slice(0, 25).arrayBuffer()); // a PNG's depth is its byte 24
  if (head[1] === 80 && head[2] === 78 && head[3] === 71 && head[24] === 16)
    throw problem(`16 bits a channel in ${file.name || "what was given"}`, "8, which is all that a page sees", "use knowsam-lite predict, or save it with 8");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw problem(`no readable image in ${file.name || "what was given"}`, "PNG, JPEG or WebP", "choose another file");
  }
  const full = { width: bitmap.width, height: bitmap.height };
  const factor = Math.min(1, Math.sqrt(KNOWSAM_MODEL.pixels / (full.width * full.height)));
  const width = Math.max(1, Math.round(full.width * factor));
  const height = Math.max(1, Math.round(full.height * factor));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return { rgba: context.getImageData(0, 0, width, height).data, width, height, full, name: file.name || "image" };
}

async function segment(image) {
  const n = image.width * image.height;
  const rgb = new Uint8Array(3 * n);
  for (let i = 0; i < n; i++) for (let c = 0; c < 3; c++) rgb[3 * i + c] = image.rgba[4 * i + c];
  const ready = await session;
  const input = new ort.Tensor("uint8", rgb, [1, image.height, image.width, 3]);
  const began = performance.now();
  const out = await ready.run({ image: input });
  const seconds = (performance.now() - began) / 1000;
  const views = Object.entries(KNOWSAM_MODEL.views).map(([key, name]) => {
    const p = out[key].data;
    return { name, p, labels: key === "probabilities" ? out.classes.data : likeliest(p, n) };
  });
  return { ...image, seconds, views };
}

// Probabilities (C, H, W) -> the class of each pixel.
function likeliest(p, n) {
  const labels = new Uint8Array(n);
  for (let c = 1; c < KNOWSAM_MODEL.classes.length; c++)
    for (let i = 0; i < n; i++) if (p[c * n + i] > p[labels[i] * n + i]) labels[i] = c;
  return labels;
}

// Entropy of each pixel divided by log C: 0 certain, 1 undecided.
function entropy(p, n) {
  const classes = KNOWSAM_MODEL.classes.length;
  const h = new Float32Array(n);
  for (let c = 0; c < classes; c++)
    for (let i = 0; i < n; i++) if (p[c * n + i] > 0) h[i] -= (p[c * n + i] * Math.log(p[c * n + i])) / Math.log(classes);
  return h;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const percent = (part) => `${(100 * part).toFixed(1)} %`;
const hex = (color) => [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));

function tinted(image, labels, strength) {
  const { width, height, rgba } = image;
  const colors = KNOWSAM_MODEL.colors.map(hex);
  const pixels = new Uint8ClampedArray(rgba);
  const border = Math.max(1, Math.round(Math.max(width, height) / 500));
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const i = y * width + x, c = labels[i];
      if (!c) continue;
      const edge = (x >= border && labels[i - border] !== c) || (x + border < width && labels[i + border] !== c) ||
        (y >= border && labels[i - border * width] !== c) || (y + border < height && labels[i + border * width] !== c);
      const share = edge ? 1 : strength;
      for (let k = 0; k < 3; k++) pixels[4 * i + k] = (1 - share) * rgba[4 * i + k] + share * colors[c - 1][k];
    }
  return pixels;
}

function heat(h) {
  const pixels = new Uint8ClampedArray(4 * h.length);
  h.forEach((value, i) => {
    const place = Math.min(Math.max(value, 0), 1) * (MAGMA.length - 1), low = Math.min(Math.floor(place), MAGMA.length - 2);
    for (let k = 0; k < 3; k++) pixels[4 * i + k] = MAGMA[low][k] + (place - low) * (MAGMA[low + 1][k] - MAGMA[low][k]);
    pixels[4 * i + 3] = 255;
  });
  return pixels;
}

function figure(title, words, image, pixels) {
  const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${title}: ${words}`);
  canvas.getContext("2d").putImageData(new ImageData(pixels, image.width, image.height), 0, 0);
  const box = document.createElement("figure"), head = document.createElement("h2"), text = document.createElement("figcaption");
  head.textContent = title;
  text.textContent = words;
  box.append(head, canvas, text);
  return box;
}

// "polyp 12.3 %" for each class but the background.
function shares(labels) {
  const counts = KNOWSAM_MODEL.classes.map(() => 0);
  for (const c of labels) counts[c]++;
  return KNOWSAM_MODEL.classes.slice(1).map((name, i) => `${name} ${percent(counts[i + 1] / labels.length)}`).join(", ");
}

function draw() {
  const n = shown.width * shown.height, strength = at("tint").value / 100;
  const [prediction, ...opinions] = shown.views;
  const h = entropy(prediction.p, n);
  const boxes = [figure("Mask", `${shares(prediction.labels)} of the image`, shown, tinted(shown, prediction.labels, strength))];
  const doubt = figure("Uncertainty", `Entropy, mean ${mean(h).toFixed(3)}. `, shown, heat(h));
  doubt.lastChild.append("0", Object.assign(document.createElement("span"), { className: "scale" }), "1");
  boxes.push(doubt);
  for (const view of opinions) {
    const others = opinions.filter((other) => other !== view);
    const apart = others.map((other) => `${percent(mean(view.labels.map((c, i) => c !== other.labels[i] ? 1 : 0)))} unlike ${other.name}`);
    const words = [shares(view.labels), ...apart].join("; ");
    boxes.push(figure(`${view.name}’s opinion`, words, shown, tinted(shown, view.labels, strength)));
  }
  at("views").replaceChildren(...boxes);
}

// The mask as a PNG in the data set's values, at the picture's own size.
async function maskFile() {
  const { width, height, full, views: [{ labels }] } = shown;
  const canvas = Object.assign(document.createElement("canvas"), full);
  const pixels = new ImageData(full.width, full.height);
  for (let y = 0; y < full.height; y++)
    for (let x = 0; x < full.width; x++) {
      const c = labels[Math.floor(((y + 0.5) * height) / full.height) * width + Math.floor(((x + 0.5) * width) / full.width)];
      pixels.data.set([...KNOWSAM_MODEL.paint[c], 255], 4 * (y * full.width + x));
    }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

async function take(file) {
  if (!file) return;
  at("result").hidden = true;
  try {
    const image = await read(file);
    say("Computing…");
    await new Promise((resolve) => setTimeout(resolve, 30)); // so that the line is seen
    shown = await segment(image);
    draw();
    URL.revokeObjectURL(at("save").href);
    at("save").href = URL.createObjectURL(await maskFile());
    at("save").download = `${shown.name.replace(/\.[^.]*$/, "")}_mask.png`;
    const reduced = shown.full.width > shown.width ? `, computed at ${shown.width} x ${shown.height}` : "";
    say(`${shown.name}: ${shown.full.width} x ${shown.full.height} px${reduced}, ${shown.seconds.toFixed(2)} s`);
    at("drop").classList.add("small");
    at("result").hidden = false;
  } catch (error) {
    say(error.message, true);
  }
}

function listen() {
  const drop = at("drop");
  at("file").addEventListener("change", (event) => take(event.target.files[0]));
  at("tint").addEventListener("input", draw);
  addEventListener("paste", (event) => take(event.clipboardData.files[0]));
  addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  addEventListener("dragleave", () => drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
}

async function main() {
  try {
    if (typeof WebAssembly !== "object" || typeof DecompressionStream !== "function")
      throw problem("a browser without WebAssembly", "Chrome, Edge, Firefox or Safari from 2023 on", "open this page there");
    say("Loading the model…");
    await load("model.js");
    at("title").textContent = document.title = KNOWSAM_MODEL.title;
    at("about").textContent = `${KNOWSAM_MODEL.method}, which looks at each picture at ${KNOWSAM_MODEL.image_size} x ${KNOWSAM_MODEL.image_size} px`;
    at("legend").replaceChildren(...KNOWSAM_MODEL.colors.map((color, i) => {
      const entry = document.createElement("li"), patch = document.createElement("i");
      patch.style.background = color;
      entry.append(patch, KNOWSAM_MODEL.classes[i + 1]);
      return entry;
    }));
    session = start();
    await session;
    listen();
    say(KNOWSAM_MODEL.note ? `Note: ${KNOWSAM_MODEL.note}.` : "");
    document.body.dataset.ready = "yes";
  } catch (error) {
    at("drop").hidden = true;
    say(error.message, true);
  }
}

main();
