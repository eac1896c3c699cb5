// A web worker that runs the graphs of the folder graphs/ with onnxruntime-web.
//
// A message { graph, inputs } is answered by { outputs } or { error }, one at a time. Tensors are
// { type, dims, data } in both directions.

const PLACE = new URL("../", import.meta.url);
const gpu = new URL(import.meta.url).searchParams.has("gpu");
const sessions = new Map();

async function load() {
  const [code, binary] = gpu
    ? ["ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"]
    : ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"];
  const ort = await import(new URL(`runtime/${code}`, PLACE).href);
  ort.env.wasm.wasmPaths = { wasm: new URL(`runtime/${binary}`, PLACE).href };
  ort.env.wasm.numThreads = 1; // threads need headers that a static host does not send
  return ort;
}

const runtime = load();

// Only the drawing pays on a GPU; codes and text are small.
async function open(graph) {
  const ort = await runtime;
  const executionProviders = gpu && graph === "synthesis" ? ["webgpu", "wasm"] : ["wasm"];
  const address = new URL(`graphs/${graph}.onnx`, PLACE).href;
  return ort.InferenceSession.create(address, { executionProviders, logSeverityLevel: 3 });
}

async function run({ graph, inputs }) {
  if (!sessions.has(graph)) sessions.set(graph, open(graph));
  const [ort, session] = [await runtime, await sessions.get(graph)];
  const feeds = {};
  for (const name of session.inputNames) {
    const { type, data, dims } = inputs[name];
    feeds[name] = new ort.Tensor(type, data, dims);
  }
  const found = await session.run(feeds);
  const outputs = {};
  for (const [name, tensor] of Object.entries(found)) {
    outputs[name] = { type: tensor.type, dims: [...tensor.dims], data: await tensor.getData() };
  }
  return outputs;
}

self.onmessage = ({ data }) => run(data).then(
  (outputs) => self.postMessage({ outputs }),
  (error) => self.postMessage({ error: String((error && error.message) || error) }),
);
