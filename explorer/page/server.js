// Requests to the server. An error is a sentence, `error.message`, which the page shows.

const RETRY_MS = 1000;

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const LOST = "The explorer does not answer. Is explore.py still running? The page asks again.";
const listeners = new Set();
let lost = false;

// Calls listener(true) when the server stops answering, and listener(false) when it is back.
export function onConnection(listener) {
  listeners.add(listener);
}

function connection(isLost) {
  if (lost === isLost) return;
  lost = isLost;
  for (const listener of listeners) listener(isLost);
  if (isLost) poll();
}

async function poll() {
  while (lost) {
    await pause(RETRY_MS);
    try {
      await fetch("/options", { cache: "no-store" });
      connection(false);
    } catch {
      // still lost
    }
  }
}

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// The response of a request, or an error with a sentence. It waits and asks again where the
// server is busy.
export async function ask(address, options = {}) {
  for (;;) {
    let response;
    try {
      response = await fetch(address, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      connection(true);
      throw new Refused(LOST, 0);
    }
    if (response.ok) return response;
    const body = await response.json().catch(() => ({}));
    const busy = response.status === 503 || response.status === 429;
    const sentence = body.error || `The server says ${response.status}.`;
    if (!busy) throw new Refused(sentence, response.status);
    await pause(RETRY_MS * (0.5 + Math.random()));
    if (options.signal && options.signal.aborted) throw new DOMException("left", "AbortError");
  }
}

export async function askJson(address, options) {
  return (await ask(address, options)).json();
}

// The name of the picture of a state, and what the server says of its network.
export function register(state, signal) {
  return askJson("/pictures", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(state),
    signal,
  });
}
