// The page: fields -> state -> maps, and the link that holds the state.

import { fromFragment, pictureOf, toFragment } from "./link.js";
import { Pane, synchronise } from "./map.js";
import { ask, askJson, onConnection, pause, register } from "./server.js";
import { TrainingPanel } from "./training.js";

const $ = (id) => document.getElementById(id);
// Fields by the name of the state that they hold.
const TEXTS = { prompt: "prompt", prompt2: "prompt2", "to-prompt": "toPrompt", warp: "warp",
  network: "network", network2: "network2" };
const NUMBERS = { seed: "seed", truncation: "truncation", rotate: "rotate", weight: "weight",
  width: "width", height: "height" };
const OPTIONAL = { noise: "noise", "to-seed": "toSeed" };
const SLIDERS = ["truncation", "rotate", "weight"];
const PLAY_STEPS = 20;

let state, limits, first, second, panel;
let playing = false;
let drawings = 0; // how often draw() was called
let quick = null; // the quick picture that is being drawn while a slider moves

function tell(error) {
  if (error && error.name === "AbortError") return;
  $("error").textContent = error ? error.message || String(error) : "";
  $("error").hidden = !error;
}

function say(sentence) {
  $("status").textContent = sentence;
}

function panes() {
  return state.compare ? [first, second] : [first];
}

function progress() {
  const all = [first, second].filter(Boolean);
  const begun = all.reduce((sum, pane) => sum + pane.begun, 0);
  const ended = all.reduce((sum, pane) => sum + pane.ended, 0);
  if (begun === ended) for (const pane of all) pane.begun = pane.ended = 0;
  const share = begun === ended ? 100 : Math.round((100 * ended) / begun);
  $("progress").setAttribute("aria-valuenow", String(share));
  $("progress").firstElementChild.style.width = share === 100 ? "0" : `${Math.max(4, share)}%`;
  document.body.dataset.busy = String(begun !== ended);
}

function readFields() {
  for (const [id, name] of Object.entries(TEXTS)) state[name] = $(id).value.trim();
  for (const [id, name] of Object.entries(NUMBERS)) {
    const value = $(id).valueAsNumber;
    if (Number.isFinite(value)) state[name] = value;
  }
  for (const [id, name] of Object.entries(OPTIONAL)) {
    const value = $(id).valueAsNumber;
    state[name] = Number.isFinite(value) ? value : null;
  }
  state.frame = $("frame").checked;
  showNumbers();
}

function writeFields() {
  for (const [id, name] of Object.entries({ ...TEXTS, ...NUMBERS, ...OPTIONAL })) {
    $(id).value = state[name] ?? "";
  }
  $("frame").checked = state.frame;
  $("compare").setAttribute("aria-pressed", String(state.compare));
  $("second").hidden = $("second-fields").hidden = !state.compare;
  showNumbers();
}

function showNumbers() {
  $("truncation-shown").textContent = state.truncation.toFixed(2);
  $("rotate-shown").textContent = `${state.rotate} degrees`;
  $("weight-shown").textContent = state.weight.toFixed(2);
}

function keepLink() {
  const { lat, lng } = first.map.getCenter();
  const round = (value) => Number(value.toPrecision(10));
  [state.x, state.y, state.zoom] = [lng, lat, first.map.getZoom()].map(round);
  history.replaceState(null, "", toFragment(state));
}

// Draw what the fields say. Errors become a sentence above the map. A drawing that ends after a
// newer one began says nothing: its end would erase the newer one's error.
async function draw() {
  const number = ++drawings;
  readFields();
  keepLink();
  say("Drawing");
  try {
    const shown = panes().map((pane) => {
      pane.outline(state.frame, state.rotate);
      return pane.show(pictureOf(state, pane === second));
    });
    const facts = await Promise.all(shown);
    if (number !== drawings) return;
    const noted = facts.find((one) => one && one.note);
    tell(noted ? { message: noted.note } : null);
    say(`Shown: ${state.prompt || "a picture"}, seed ${state.seed}`);
  } catch (error) {
    if (number !== drawings) return;
    tell(error);
    say("");
  }
}

// A small picture while a slider moves; the newest position wins.
async function drawQuickly() {
  readFields();
  if (quick) {
    quick.again = true;
    return;
  }
  do {
    quick = { again: false };
    try {
      await Promise.all(panes().map((pane) => {
        pane.outline(state.frame, state.rotate);
        return pane.show(pictureOf(state, pane === second), { quick: true });
      }));
    } catch (error) {
      tell(error);
    }
  } while (quick.again);
  quick = null;
}

async function play() {
  readFields();
  if (!playing && state.toPrompt === "" && state.toSeed === null) {
    tell({ message: "Interpolation: type the prompt or the seed to go to, then press Play." });
    return;
  }
  playing = !playing;
  $("play").setAttribute("aria-pressed", String(playing));
  $("play").textContent = playing ? "Stop" : "Play";
  if (!playing) {
    await draw();
    return;
  }
  let step = Math.round(state.weight * PLAY_STEPS);
  let forward = true;
  while (playing) {
    if (step >= PLAY_STEPS) forward = false;
    if (step <= 0) forward = true;
    step += forward ? 1 : -1;
    $("weight").value = String(step / PLAY_STEPS);
    await Promise.all([drawQuickly(), pause(60)]);
  }
}

async function takeCommand() {
  const query = new URLSearchParams({
    window: first.window(state.height / state.width), size: `${state.width}x${state.height}`,
  });
  const { picture } = await register(pictureOf(state));
  return { picture, query };
}

async function download() {
  readFields();
  const { picture, query } = await takeCommand();
  say("The picture is being drawn");
  const answer = await ask(`/download/${picture}.png?${query}`);
  const named = /filename\*=UTF-8''(.*)$/.exec(answer.headers.get("content-disposition") || "");
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(await answer.blob());
  anchor.download = named ? decodeURIComponent(named[1]) : "picture.png";
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
  say("The picture is downloaded");
}

async function copyCommand() {
  readFields();
  const { picture, query } = await takeCommand();
  copy((await askJson(`/command/${picture}?${query}`)).command);
}

// Into the clipboard where the browser allows it, and always into a field that can be copied.
async function copy(text) {
  $("copied").hidden = false;
  $("copied").value = text;
  $("copied").select();
  try {
    await navigator.clipboard.writeText(text);
    say("Copied");
  } catch {
    say("Press Ctrl-C to copy the text that is selected");
  }
}

function dice() {
  $("seed").value = String(Math.floor(Math.random() * (limits.num_seeds || 1e6)));
  draw();
}

function home() {
  first.map.setView([0.5, 0.5], frameZoom());
}

// The zoom that shows the frame and something around it.
function frameZoom() {
  const size = first.map.getSize();
  return Math.round(4 * Math.log2((0.8 * Math.min(size.x, size.y)) / 256)) / 4;
}

function compare() {
  state.compare = !state.compare;
  if (state.compare && !$("prompt2").value) $("prompt2").value = $("prompt").value;
  readFields();
  writeFields();
  second.map.invalidateSize();
  second.map.setView(first.map.getCenter(), first.map.getZoom(), { animate: false });
  draw();
}

function theme() {
  const order = ["", "light", "dark"];
  const next = order[(order.indexOf(document.documentElement.dataset.theme || "") + 1) % 3];
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  say(next ? `Theme: ${next}` : "Theme: as the system says");
}

function toggleOptions() {
  const open = $("options").hidden;
  $("options").hidden = !open;
  $("options-open").setAttribute("aria-expanded", String(open));
}

function listen() {
  const safely = (work) => () => Promise.resolve(work()).catch(tell);
  $("picture").addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  const clicks = { dice, compare, play, home, theme, download, "copy-command": copyCommand,
    "options-open": toggleOptions,
    "copy-link": () => { readFields(); keepLink(); return copy(location.href); },
    "training-open": () => panel.toggle() };
  for (const [id, work] of Object.entries(clicks)) $(id).addEventListener("click", safely(work));
  for (const id of ["network", "network2", "warp", "noise", "to-prompt", "to-seed", "prompt2",
    "seed", ...SLIDERS]) $(id).addEventListener("change", () => { if (!playing) draw(); });
  for (const id of SLIDERS) $(id).addEventListener("input", drawQuickly);
  $("frame").addEventListener("change", () => {
    readFields();
    for (const pane of panes()) pane.outline(state.frame, state.rotate);
    keepLink();
  });
  for (const id of ["width", "height"]) $(id).addEventListener("change", () => {
    readFields();
    keepLink();
  });
  first.map.on("moveend", keepLink);
  window.addEventListener("hashchange", () => open(location.hash));
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey) return;
    const keys = { "/": () => $("prompt").focus(), d: dice, s: compare, 0: home,
      f: () => $("frame").click() };
    if (event.altKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
  onConnection(async (lost) => {
    if (lost) return;
    try {
      await loadOptions();
    } catch (error) { // such as a server that wants a new token
      tell(error);
      say("");
      return;
    }
    tell(null);
    say("The explorer is back");
    draw();
  });
}

async function loadOptions() {
  limits = await askJson("/options");
  for (const id of ["network", "network2"]) {
    const chosen = $(id).value;
    const names = limits.networks.map((n) => new Option(n.replace("network-snapshot-", ""), n));
    if (id === "network2") names.unshift(new Option("the same network", ""));
    $(id).replaceChildren(...names);
    if (limits.networks.includes(chosen)) $(id).value = chosen;
  }
  $("warp").replaceChildren(new Option("none", ""), ...limits.warps.map((w) => new Option(w, w)));
  $("warp").value = state ? state.warp : "";
  for (const id of ["prompt", "prompt2", "to-prompt"]) $(id).maxLength = limits.max_prompt;
  panel.runs(limits.runs);
  // Prompts to choose from, in a page without a server.
  $("prompts").replaceChildren(...(limits.prompts || []).map((text) => new Option(text, text)));
}

// Take over the state of a link.
function open(fragment) {
  const given = fromFragment(fragment);
  if (!limits.networks.includes(given.network)) {
    if (given.network) tell({ message: `Network ${given.network} is not in the list.` });
    given.network = limits.networks[0];
  }
  if (!fragment && limits.prompts) [given.prompt = ""] = limits.prompts;
  state = given;
  writeFields();
  for (const pane of [first, second]) {
    pane.map.invalidateSize();
    pane.map.setView([state.y, state.x], state.zoom, { animate: false });
  }
  if (state.prompt || fragment.length > 1 || limits.prompts) draw();
}

async function start() {
  panel = new TrainingPanel(tell);
  await loadOptions();
  first = new Pane($("map-a"), limits, tell, progress);
  second = new Pane($("map-b"), limits, tell, progress);
  const given = location.hash;
  first.map.setView([0.5, 0.5], 1);
  second.map.setView([0.5, 0.5], 1);
  synchronise(first.map, second.map);
  open(given);
  if (!given) first.map.setView([0.5, 0.5], frameZoom(), { animate: false });
  listen();
  keepLink();
  $("prompt").focus();
  document.body.dataset.ready = "true";
}

start().catch(tell);
