// A web worker that runs the graphs of the folder graphs/ with onnxruntime-web.
//
// A message { graph, inputs } is answered by { outputs } or { error }, one at a time. Tensors are
// { type, dims, data } in both directions. ?gpu has WebGPU draw; with ?gpu=checked only after its
// first picture has been compared with WebAssembly.

const PLACE = new URL("../", import.meta.url);
const gpu = new URL(import.meta.url).searchParams.get("gpu");
const DRAWING = "synthesis"; // only this pays on a GPU; codes and text are small
const SIDE = 8; // places of the frame that are compared, each way
const LIMIT = 1e-3; // largest difference, for values in [-1, 1]
const sessions = new Map();
let unchecked = gpu === "checked";

async function load() {
  const [code, binary] = gpu !== null
    ? ["ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"]
    : ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"];
  const ort = await import(new URL(`runtime/${code}`, PLACE).href);
  ort.env.wasm.wasmPaths = { wasm: new URL(`runtime/${binary}`, PLACE).href };
  ort.env.wasm.numThreads = 1; // threads need headers that a static host does not send
  return ort;
}

const runtime = load();

async function open(graph, executionProviders) {
  const ort = await runtime;
  const address = new URL(`graphs/${graph}.onnx`, PLACE).href;
  return ort.InferenceSession.create(address, { executionProviders, logSeverityLevel: 3 });
}

// Throws where the session differs from WebAssembly on the codes of a picture. The sine of the
// graphs does not depend on the GPU; the rest of its arithmetic may.
async function check(session, feeds) {
  const { Tensor } = await runtime;
  const centres = Float32Array.from({ length: SIDE }, (_, i) => (i + 0.5) / SIDE);
  const places = new Tensor("float32", centres, [SIDE]);
  const few = { ...feeds, rows: places, columns: places };
  const exact = await open(DRAWING, ["wasm"]);
  const expected = (await exact.run(few)).image.data;
  const found = await (await session.run(few)).image.getData();
  await exact.release();
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
  const near = (value, i) => Math.abs(found[i] - value) <= LIMIT * largest;
  if (!expected.every(near)) throw new Error("WebGPU differs from WebAssembly");
}

async function run({ graph, inputs }) {
  const providers = gpu !== null && graph === DRAWING ? ["webgpu", "wasm"] : ["wasm"];
  if (!sessions.has(graph)) sessions.set(graph, open(graph, providers));
  const [ort, session] = [await runtime, await sessions.get(graph)];
  const feeds = {};
  for (const name of session.inputNames) {
    const { type, data, dims } = inputs[name];
    feeds[name] = new ort.Tensor(type, data, dims);
  }
  if (unchecked && graph === DRAWING) {
    await check(session, feeds);
    unchecked = false;
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
