// `Runners`: web workers that run graphs, and the queue of their jobs.

const MOST = 4; // workers; each of them holds the graphs in memory

export class Runners {
  // gpu: what `drawer` answers.
  constructor(gpu) {
    this.queue = [];
    this.start(gpu);
  }

  // On a GPU one worker is enough.
  start(gpu) {
    const cores = navigator.hardwareConcurrency || 2;
    this.most = gpu ? 1 : Math.max(1, Math.min(MOST, cores - 1));
    this.gpu = gpu;
    this.address = new URL(`./runner.js${gpu ? `?gpu=${gpu}` : ""}`, import.meta.url);
    this.idle = [];
    this.started = 0;
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
    const job = this.queue.shift();
    worker.onmessage = ({ data: { outputs, error } }) => {
      if (error && this.gpu === "checked") {
        this.fallBack(worker, job);
        return;
      }
      this.idle.push(worker);
      this.next();
      if (error) job.reject(this.refusal(error));
      else job.resolve(outputs);
    };
    worker.onerror = (event) => {
      if (this.gpu === "checked") {
        this.fallBack(worker, job);
        return;
      }
      worker.terminate();
      this.started -= 1;
      this.next();
      job.reject(this.refusal(event.message || "a worker did not start"));
    };
    worker.postMessage({ graph: job.graph, inputs: job.inputs });
    this.next();
  }

  // WebAssembly takes over, beginning with the job that the only worker could not do.
  fallBack(worker, job) {
    worker.terminate();
    this.queue.unshift(job);
    this.start("");
    this.next();
  }
}

// Whether WebGPU draws: "" no; "checked" if it agrees with WebAssembly, which otherwise takes over;
// "forced" in any case. The address may decide, by ?cpu or ?gpu. A graphics processor computed in
// software is far slower than WebAssembly.
export async function drawer() {
  const asked = new URL(document.baseURI).searchParams;
  if (asked.has("cpu")) return "";
  const adapter = navigator.gpu && await navigator.gpu.requestAdapter().catch(() => null);
  if (asked.has("gpu")) {
    if (adapter) return "forced";
    throw new Error("This browser offers no WebGPU; open the page without ?gpu.");
  }
  const software = adapter && (adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
  return adapter && !software ? "checked" : "";
}
