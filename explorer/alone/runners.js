// `Runners`: web workers that run graphs, and the queue of their jobs.

const MOST = 4; // workers; each of them holds the graphs in memory

export class Runners {
  // gpu: whether onnxruntime-web may draw by WebGPU. Then one worker is enough.
  constructor(gpu) {
    const cores = navigator.hardwareConcurrency || 2;
    this.most = gpu ? 1 : Math.max(1, Math.min(MOST, cores - 1));
    this.gpu = gpu;
    this.address = new URL(`./runner.js${gpu ? "?gpu" : ""}`, import.meta.url);
    this.idle = [];
    this.started = 0;
    this.queue = [];
  }

  // The outputs of a graph. A job that is aborted before it begins is left out.
  run(graph, inputs, signal = null) {
    return new Promise((resolve, reject) => {
      this.queue.push({ graph, inputs, signal, resolve, reject });
      this.next();
    });
  }

  refusal(reason) {
    const remedy = this.gpu ? " Open the page without ?gpu." : "";
    return new Error(`The browser cannot draw: ${reason}${remedy}`);
  }

  next() {
    while (this.queue.length && this.queue[0].signal && this.queue[0].signal.aborted) {
      this.queue.shift().reject(new DOMException("left", "AbortError"));
    }
    if (!this.queue.length) return;
    if (!this.idle.length && this.started < this.most) {
      this.started += 1;
      this.idle.push(new Worker(this.address, { type: "module" }));
    }
    const worker = this.idle.pop();
    if (!worker) return;
    const { graph, inputs, resolve, reject } = this.queue.shift();
    worker.onmessage = ({ data: { outputs, error } }) => {
      this.idle.push(worker);
      this.next();
      if (error) reject(this.refusal(error));
      else resolve(outputs);
    };
    worker.onerror = (event) => {
      worker.terminate();
      this.started -= 1;
      this.next();
      reject(this.refusal(event.message || "a worker did not start"));
    };
    worker.postMessage({ graph, inputs });
    this.next();
  }
}

// Whether a graphics processor draws: where the address has ?gpu. Its arithmetic is less exact.
export async function wantsGpu() {
  if (!new URL(document.baseURI).searchParams.has("gpu")) return false;
  const adapter = navigator.gpu && await navigator.gpu.requestAdapter();
  if (!adapter) throw new Error("This browser offers no WebGPU; open the page without ?gpu.");
  return true;
}
