// The panel of a run that may still be training: curves and sample grids, refreshed while open.

import { askJson } from "./server.js";

const REFRESH_MS = 10000;
const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [300, 100];
const $ = (id) => document.getElementById(id);

export class TrainingPanel {
  // tell(error): shows a sentence.
  constructor(tell) {
    this.tell = tell;
    this.grids = [];
    $("run").addEventListener("change", () => this.refresh());
    $("grid").addEventListener("input", () => this.showGrid());
  }

  runs(names) {
    const before = $("run").value;
    $("run").replaceChildren(...names.map((name) => new Option(name, name)));
    if (names.includes(before)) $("run").value = before;
  }

  toggle() {
    const open = $("training").hidden;
    $("training").hidden = !open;
    $("training-open").setAttribute("aria-expanded", String(open));
    clearInterval(this.timer);
    if (open) {
      this.refresh();
      this.timer = setInterval(() => this.refresh(), REFRESH_MS);
    }
  }

  async refresh() {
    const run = $("run").value;
    if (!run) {
      $("run-facts").textContent = "No run here has written stats.jsonl yet.";
      return;
    }
    try {
      const found = await askJson(`/runs/curves?${new URLSearchParams({ run })}`);
      if (run !== $("run").value) return;
      $("run-facts").textContent = factsOf(found.last);
      $("charts").replaceChildren(...charts(found));
      const atEnd = Number($("grid").value) >= this.grids.length - 1 || run !== this.shownRun;
      [this.grids, this.shownRun] = [found.grids, run];
      $("grid").max = String(Math.max(0, this.grids.length - 1));
      if (atEnd) $("grid").value = $("grid").max;
      this.showGrid();
    } catch (error) {
      this.tell(error);
    }
  }

  showGrid() {
    const name = this.grids[Number($("grid").value)];
    $("grid-image").hidden = name === undefined;
    if (name === undefined) return;
    const kimg = Number(name.replace(/\D/g, ""));
    $("grid-shown").textContent = `${kimg} kimg`;
    $("grid-image").alt = `Samples after ${kimg} kimg`;
    const query = new URLSearchParams({ run: this.shownRun, name });
    const source = `/runs/grid.png?${query}`;
    if (!$("grid-image").src.endsWith(source)) $("grid-image").src = source;
  }
}

function factsOf(last) {
  const parts = [];
  if ("kimg" in last) parts.push(`${last.kimg.toFixed(1)} kimg`);
  if ("elapsed_s" in last) parts.push(`${(last.elapsed_s / 3600).toFixed(1)} h of training`);
  if ("sec_per_kimg" in last) parts.push(`${last.sec_per_kimg.toFixed(1)} s a kimg`);
  if ("eta_s" in last) parts.push(`${(last.eta_s / 3600).toFixed(1)} h left`);
  return parts.join(", ");
}

// One chart for each word before the slash, such as Loss of Loss/G and Loss/D.
function charts({ kimg, series }) {
  const groups = new Map();
  for (const name of Object.keys(series)) {
    const group = name.split("/")[0];
    groups.set(group, [...(groups.get(group) || []), name]);
  }
  return [...groups].map(([group, names]) => chart(group, kimg, names, series));
}

function chart(group, kimg, names, series) {
  const values = names.flatMap((name) => series[name]).filter((value) => value !== null);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [kimg[0] ?? 0, kimg.at(-1) ?? 1];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${group} from ${first} to ${last} kimg, ${names.join(", ")}`);
  const legend = document.createElement("ul");
  names.forEach((name, index) => {
    const points = kimg.map((place, i) => [place, series[name][i]]).filter(([, v]) => v !== null);
    const line = document.createElementNS(SVG, "polyline");
    line.setAttribute("points", points.map(([place, value]) => {
      const x = ((place - first) / (last - first || 1)) * WIDTH;
      return `${x.toFixed(1)},${(HEIGHT * (1 - (value - low) / (high - low || 1))).toFixed(1)}`;
    }).join(" "));
    line.setAttribute("class", `series-${index % 6}`);
    svg.append(line);
    const item = document.createElement("li");
    item.className = `series-${index % 6}`;
    const newest = points.length ? points.at(-1)[1].toPrecision(3) : "none";
    item.textContent = `${name} ${newest}`;
    legend.append(item);
  });
  const caption = document.createElement("figcaption");
  caption.textContent = `${group}: ${low.toPrecision(3)} to ${high.toPrecision(3)}`;
  caption.append(legend);
  const figure = document.createElement("figure");
  figure.className = "chart";
  figure.append(svg, caption);
  return figure;
}
