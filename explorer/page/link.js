// The state of the page as the fragment of its address, and back. The server never sees it.

const DEFAULTS = {
  network: "", prompt: "", seed: 0, truncation: 1, noise: null, rotate: 0, warp: "",
  toPrompt: "", toSeed: null, weight: 0, compare: false, prompt2: "", network2: "",
  frame: true, x: 0.5, y: 0.5, zoom: 1, width: 1024, height: 1024,
};

export function toFragment(state) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(DEFAULTS)) {
    if (state[name] !== value && state[name] !== null) parts.set(name, String(state[name]));
  }
  return `#${parts}`;
}

// Unknown names are left out; a number that is none keeps its default.
export function fromFragment(fragment) {
  const state = { ...DEFAULTS };
  for (const [name, text] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    if (!Object.hasOwn(DEFAULTS, name)) continue;
    const value = DEFAULTS[name];
    if (typeof value === "boolean") state[name] = text === "true";
    else if (typeof value === "string") state[name] = text;
    else if (text !== "" && Number.isFinite(Number(text))) state[name] = Number(text);
  }
  return state;
}

// What the server needs to know of the picture of a state.
export function pictureOf(state, second = false) {
  const network = (second && state.network2) || state.network;
  const prompt = second ? state.prompt2 || state.prompt : state.prompt;
  const moves = state.toPrompt !== "" || state.toSeed !== null;
  const blend = moves && state.weight > 0
    ? { prompt: state.toPrompt || prompt, seed: state.toSeed ?? state.seed, weight: state.weight }
    : null;
  return {
    network, prompt, seed: state.seed, truncation: state.truncation, text_noise: state.noise,
    rotate: state.rotate, warp: state.warp || null, blend,
  };
}
