// `Pane`: a Leaflet map of one picture. Coordinates are frame units, x to the right and y down;
// the trained frame is [0, 1] x [0, 1]. At zoom 0 it has 256 pixels a side.

import { Refused, ask, register } from "./server.js";

/* global L */
const PREVIEW_MS = 120; // a view that has loaded by then needs no preview
const FRAME_CRS = L.extend({}, L.CRS.Simple, {
  transformation: new L.Transformation(1, 0, 1, 0),
  scale: (zoom) => 256 * 2 ** zoom,
  zoom: (scale) => Math.log2(scale / 256),
});

const Tiles = L.GridLayer.extend({
  createTile(coords, done) {
    const image = document.createElement("img");
    image.alt = "";
    image.leave = new AbortController();
    const address = `/tile/${this.options.picture}/${coords.z}/${coords.x}/${coords.y}.png`;
    this.options.load(address, image.leave.signal).then(
      (blob) => {
        const source = URL.createObjectURL(blob);
        image.onload = () => {
          URL.revokeObjectURL(source);
          done(null, image);
        };
        image.src = source;
      },
      (error) => done(error, image),
    );
    return image;
  },
});

export class Pane {
  // element: where the map goes. limits: of /options. tell(error): shows a sentence.
  // changed(): a tile has begun or ended.
  constructor(element, limits, tell, changed) {
    const [minZoom, maxZoom] = limits.zooms;
    this.limits = limits;
    this.tell = tell;
    this.changed = changed;
    const moves = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.map = L.map(element, {
      crs: FRAME_CRS, minZoom, maxZoom, zoomSnap: 0.25, zoomDelta: 1, wheelPxPerZoomLevel: 120,
      attributionControl: false, zoomAnimation: moves, fadeAnimation: moves, inertia: moves,
    });
    this.map.createPane("preview").style.zIndex = 150; // below the tiles
    this.map.on("moveend", () => this.previewSoon());
    new ResizeObserver(() => this.map.invalidateSize()).observe(element);
    this.state = null;
    this.picture = null;
    this.begun = 0;
    this.ended = 0;
    this.drawn = 0; // pictures so far; an older one that arrives late is left out
  }

  // Show the picture of a state. quick: only a small picture of the view, while a slider moves.
  async show(state, { quick = false } = {}) {
    const number = ++this.drawn;
    this.begun += 1;
    this.changed();
    try {
      const facts = await register(state);
      if (number !== this.drawn) return null;
      this.state = state;
      this.picture = facts.picture;
      this.cancelTiles();
      const preview = this.preview(); // asked for before the tiles, so that it comes first
      if (!quick) this.addTiles();
      await preview;
      if (number === this.drawn) this.removeOldTiles();
      return facts;
    } finally {
      this.ended += 1;
      this.changed();
    }
  }

  addTiles() {
    const layer = new Tiles({
      picture: this.picture,
      load: (address, signal) => this.loadTile(address, signal),
      tileSize: 256, keepBuffer: 1, updateWhenZooming: false,
      minZoom: this.limits.zooms[0], maxZoom: this.limits.zooms[1],
    });
    layer.on("tileunload", (event) => event.tile.leave.abort());
    this.old = [...(this.old || []), ...(this.layer ? [this.layer] : [])];
    this.layer = layer.addTo(this.map);
  }

  cancelTiles() {
    for (const layer of [this.layer, ...(this.old || [])]) {
      if (layer) for (const { el } of Object.values(layer._tiles)) el.leave.abort();
    }
  }

  removeOldTiles() {
    const finished = this.layer && this.layer.options.picture !== this.picture ? [this.layer] : [];
    for (const layer of [...(this.old || []), ...finished]) layer.remove();
    if (finished.length) this.layer = null;
    this.old = [];
  }

  // The file of a tile. A server that has been started again learns of the picture first.
  async loadTile(address, signal) {
    this.begun += 1;
    this.changed();
    try {
      return await (await this.asked(address, signal)).blob();
    } catch (error) {
      if (error.name !== "AbortError") this.tell(error);
      throw error;
    } finally {
      this.ended += 1;
      this.changed();
    }
  }

  async asked(address, signal) {
    try {
      return await ask(address, { signal });
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 404 || !this.state) throw error;
      await register(this.state, signal);
      return ask(address, { signal });
    }
  }

  // A small picture of what is seen, below the tiles.
  async preview() {
    const size = this.map.getSize();
    const shrink = Math.sqrt(Math.min(1, 65536 / (size.x * size.y)));
    const [width, height] = [size.x, size.y].map((side) => Math.max(1, Math.round(side * shrink)));
    const bounds = this.map.getBounds();
    const query = new URLSearchParams({ window: this.window(), size: `${width}x${height}` });
    if (this.leavePreview) this.leavePreview.abort();
    const leave = (this.leavePreview = new AbortController());
    try {
      const answer = await this.asked(`/preview/${this.picture}.png?${query}`, leave.signal);
      const source = URL.createObjectURL(await answer.blob());
      const overlay = L.imageOverlay(source, bounds, { pane: "preview", interactive: false });
      const before = this.overlay;
      overlay.once("load", () => {
        URL.revokeObjectURL(source);
        if (before) before.remove();
      });
      this.overlay = overlay.addTo(this.map);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }

  previewSoon() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => {
      if (this.layer && this.layer.isLoading()) this.preview().catch((error) => this.tell(error));
    }, PREVIEW_MS);
  }

  // 'x0,y0,x1,y1' of what is seen. aspect: height / width; without it, that of the map.
  window(aspect = null) {
    const bounds = this.map.getBounds();
    const [x0, x1] = [bounds.getWest(), bounds.getEast()];
    const size = this.map.getSize();
    const middle = (bounds.getSouth() + bounds.getNorth()) / 2;
    const half = ((x1 - x0) * (aspect ?? size.y / size.x)) / 2;
    return [x0, middle - half, x1, middle + half].map((v) => Number(v.toPrecision(12))).join(",");
  }

  // The outline of the trained frame, turned as its content is.
  outline(shown, degrees) {
    if (this.frame) this.frame.remove();
    if (!shown) return;
    const [sine, cosine] = [Math.sin(degrees * Math.PI / 180), Math.cos(degrees * Math.PI / 180)];
    const corners = [[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]].map(([x, y]) =>
      [0.5 - x * sine + y * cosine, 0.5 + x * cosine + y * sine]);
    this.frame = L.polygon(corners, { className: "outline", interactive: false, fill: false });
    this.frame.addTo(this.map);
  }
}

// Two maps that always show the same part.
export function synchronise(first, second) {
  let moving = false;
  const follow = (leader, follower) => leader.on("move zoomend", () => {
    if (moving) return;
    moving = true;
    follower.setView(leader.getCenter(), leader.getZoom(), { animate: false });
    moving = false;
  });
  follow(first, second);
  follow(second, first);
}
