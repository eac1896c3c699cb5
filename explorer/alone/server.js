// Takes the place of page/server.js in a page without a server: answers the requests of the page
// by computing in the browser. An error is a sentence, `error.message`, which the page shows.

import { drawer, Runners } from "./runners.js";
import { readVocabulary, tokenize } from "./wordpiece.js";

const SIDE_PX = 256; // of a tile
const STRIPE_PX = 65536; // pixels that one call of the graph draws
const MOST_KEPT = 200; // codes of pictures
const MOST_SIDE_PX = 16384; // of a canvas in every browser

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export function onConnection() {} // nothing can be lost

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

document.documentElement.classList.add("alone");
const ready = open();
const pictures = new Map(); // name -> { state, codes }
const kept = new Map(); // inputs of the codes as JSON -> promise of the codes

async function read(name) {
  const response = await fetch(new URL(`../graphs/${name}`, import.meta.url));
  if (!response.ok) throw new Refused(`The file graphs/${name} is missing on this host.`, 404);
  return response;
}

async function open() {
  const facts = await (await read("facts.json")).json();
  const numbers = new Float32Array(await (await read("features.bin")).arrayBuffer());
  const gpu = await drawer();
  let place = 0;
  const take = (...dims) => {
    const count = dims.reduce((product, length) => product * length, 1);
    place += count;
    return { type: "float32", dims: [1, ...dims], data: numbers.slice(place - count, place) };
  };
  const seeds = Array.from({ length: facts.seeds }, () => ({
    z: take(...facts.latent_shape), noise: take(facts.sentence_dim),
  }));
  const texts = new Map(facts.prompts.map((prompt, i) => [prompt, {
    sentence: take(facts.sentence_dim), words: take(facts.lengths[i], facts.word_dim),
  }]));
  const vocabulary = facts.free_text
    ? readVocabulary(await (await read("vocab.txt")).text())
    : null;
  return { facts, seeds, texts, vocabulary, runners: new Runners(gpu) };
}

// The features of a prompt, stored or computed: { sentence, words, note }.
async function textOf(prompt) {
  const { facts, texts, vocabulary, runners } = await ready;
  if (!facts.reads_text) return {};
  if (!prompt) throw new Refused("This network reads a prompt; type what it shall draw.", 400);
  if (texts.has(prompt)) return texts.get(prompt);
  if (!vocabulary) {
    throw new Refused("This page knows the prompts of its list only; choose one of them.", 400);
  }
  const { ids, cut } = tokenize(prompt, vocabulary, facts.max_tokens);
  const data = BigInt64Array.from(ids, BigInt);
  const { sentence, words } = await runners.run("text", {
    ids: { type: "int64", dims: [1, ids.length], data },
  });
  const note = cut ? `Longer than the ${facts.max_tokens} tokens that the text encoder reads, so ` +
    "the end is ignored." : null;
  return { sentence, words, note };
}

// { tokens, bypass, note } of one prompt and one seed.
async function codesOf(prompt, seed, state) {
  const { facts, seeds, runners } = await ready;
  if (!seeds[seed]) {
    throw new Refused(`This page holds the seeds 0 to ${facts.seeds - 1}; take one of them.`, 400);
  }
  const key = JSON.stringify([prompt, seed, state.truncation, state.text_noise]);
  if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  if (!kept.has(key)) {
    const scalar = (value) => ({ type: "float32", dims: [1], data: Float32Array.of(value) });
    const noise = scalar(state.truncation * (state.text_noise ?? facts.text_noise));
    const found = textOf(prompt).then(async ({ note, ...text }) => {
      const psi = scalar(state.truncation);
      const inputs = { ...seeds[seed], ...text, noise_length: noise, psi };
      return { ...await runners.run("codes", inputs), note };
    });
    kept.set(key, found);
    found.catch(() => kept.delete(key));
  }
  return kept.get(key);
}

function between(first, last, weight) {
  const data = first.data.map((value, i) => value + weight * (last.data[i] - value));
  return { ...first, data };
}

// The name of the picture of a state, and what the page says of its network.
export async function register(state) {
  const { facts } = await ready;
  if (state.rotate || state.warp) {
    throw new Refused("Rotation and warps need the server of explore.py.", 400);
  }
  let { note, ...codes } = await codesOf(state.prompt, state.seed, state);
  if (state.blend) {
    const last = await codesOf(state.blend.prompt, state.blend.seed, state);
    note = note || last.note;
    codes = Object.fromEntries(Object.entries(codes).map(([name, tensor]) =>
      [name, between(tensor, last[name], state.blend.weight)]));
  }
  const picture = encodeURIComponent(JSON.stringify(state));
  if (pictures.size > MOST_KEPT) pictures.delete(pictures.keys().next().value);
  pictures.set(picture, { state, codes });
  return { picture, resolution: facts.resolution, reads_text: facts.reads_text, note };
}

// Centres of `count` equal cells between two places, as `networks.coordinates` defines them.
export function centres(low, high, count) {
  return Float32Array.from({ length: count }, (_, i) => low + ((high - low) * (i + 0.5)) / count);
}

// Pixels of the places rows x columns in [-1, 1] up to overshoot. A pixel takes `facts.samples`
// places a side: [3, rows / samples, columns / samples].
export async function pixelsOf(codes, rows, columns, signal) {
  const { runners } = await ready;
  const place = (data) => ({ type: "float32", dims: [data.length], data });
  const inputs = { ...codes, rows: place(rows), columns: place(columns) };
  return (await runners.run("synthesis", inputs, signal)).image.data;
}

// The codes of a picture that `register` has named.
export function codesOfPicture(picture) {
  if (!pictures.has(picture)) throw new Refused("The picture is not known; draw it again.", 404);
  return pictures.get(picture).codes;
}

// A box of the plane as a PNG file, drawn in stripes of whole rows.
async function png(picture, [x0, y0, x1, y1], width, height, signal) {
  const codes = codesOfPicture(picture);
  const { samples } = (await ready).facts;
  const rows = centres(y0, y1, height * samples);
  const columns = centres(x0, x1, width * samples);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const step = Math.max(1, Math.floor(STRIPE_PX / (width * samples ** 2)));
  const tops = Array.from({ length: Math.ceil(height / step) }, (_, i) => i * step);
  await Promise.all(tops.map(async (top) => {
    const part = rows.slice(top * samples, (top + step) * samples);
    const pixels = await pixelsOf(codes, part, columns, signal);
    if (!pixels.every(Number.isFinite)) {
      throw new Refused("The network overflows here; go nearer to the frame.", 400);
    }
    const high = part.length / samples;
    const image = context.createImageData(width, high);
    const size = width * high;
    for (let i = 0; i < size; i += 1) {
      for (let c = 0; c < 3; c += 1) image.data[4 * i + c] = 127.5 * pixels[c * size + i] + 127.5;
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, top);
  }));
  return canvas.convertToBlob({ type: "image/png" });
}

function tileBox([z, x, y], { farthest }) {
  const box = [x, y, x + 1, y + 1].map((side) => side * 0.5 ** z);
  if (Math.max(...box.map(Math.abs)) > farthest / 2 ** z) {
    throw new Refused("The map ends here: so far from the frame, coordinates in float32 " +
      "hardly tell neighbouring pixels of this zoom apart.", 400);
  }
  return box;
}

function nameOf({ prompt, seed }) {
  const words = prompt.normalize("NFKC").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-");
  const slug = words.slice(0, 48).replace(/^-+|-+$/g, "");
  return `${slug ? `${slug}-` : ""}seed${String(seed).padStart(4, "0")}.png`;
}

// The response of an address that page/server.js would ask the server for.
export async function ask(address, { signal } = {}) {
  const { facts } = await ready;
  if (address === "/options") return new Response(JSON.stringify(facts.options));
  const url = new URL(address, "http://page");
  const [, kind, name, ...rest] = url.pathname.split("/");
  const picture = name.replace(/\.png$/, "");
  if (kind === "tile") {
    const place = rest.map((part) => Number(part.replace(".png", "")));
    return new Response(await png(picture, tileBox(place, facts), SIDE_PX, SIDE_PX, signal));
  }
  const box = url.searchParams.get("window").split(",").map(Number);
  const [width, height] = url.searchParams.get("size").split("x").map(Number);
  if (!(width * height <= facts.max_px && Math.max(width, height) <= MOST_SIDE_PX)) {
    throw new Refused(`Size ${width}x${height}: at most ${facts.max_px} pixels, and ` +
      `${MOST_SIDE_PX} a side, are drawn here.`, 400);
  }
  const file = await png(picture, box, width, height, signal);
  const saved = kind === "download" ? nameOf(pictures.get(picture).state) : "";
  const attachment = `attachment; filename*=UTF-8''${encodeURIComponent(saved)}`;
  return new Response(file, { headers: { "Content-Disposition": attachment } });
}

export async function askJson(address, options) {
  return (await ask(address, options)).json();
}
