// The model in the browser: a picture's file in, the answer of the server's /predict out.

import * as ort from "./onnxruntime.js";
import { preprocess } from "./preprocessing.js";

const TINY = 1.1754943508222875e-38;  // the smallest normal float32, in the place of 0
const MOST_THREADS = 4;
const HERE = new URL("./", import.meta.url);
const WORKER = new URL("preprocessing_worker.js", HERE);

// Opens the model that lies beside this file.
export async function open() {
  const response = await fetch(new URL("classifier.json", HERE));
  if (!response.ok) throw new Error(`classifier.json: ${response.status}`);
  const settings = await response.json();
  // Threads share memory, which browsers allow where the server sends COOP and COEP headers.
  ort.env.wasm.numThreads = self.crossOriginIsolated
    ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
  ort.env.wasm.wasmPaths = {
    mjs: new URL("onnxruntime-wasm.js", HERE).href, wasm: new URL("onnxruntime.wasm", HERE).href,
  };
  const session = await ort.InferenceSession.create(new URL(settings.file, HERE).href, {
    executionProviders: ["wasm"],
  });
  return new Classifier(settings, session);
}

// settings: what classifier.json holds. session: of ONNX Runtime.
export class Classifier {
  constructor(settings, session) {
    Object.assign(this, { settings, session, worker: openWorker(), lastId: 0 });
  }

  // The pixels that the model takes of a Blob. A file that cannot be decoded throws.
  async preprocess(blob) {
    const settings = this.settings.preprocessing, worker = await this.worker;
    if (!worker) return preprocess(blob, settings);
    const id = this.lastId += 1;
    return new Promise((resolve, reject) => {
      const listener = ({ type, data, message }) => {
        if (type === "message" && data.id !== id) return;
        worker.removeEventListener("message", listener);
        worker.removeEventListener("error", listener);
        const { pixels, error } = data ?? { error: { message } };
        if (pixels) resolve(pixels);
        else if (error.isUnreadable) reject(new DOMException(error.message, error.name));
        else reject(new Error(error.message));
      };
      worker.addEventListener("message", listener);
      worker.addEventListener("error", listener);
      worker.postMessage({ id, blob, settings });
    });
  }

  // What the network computes of such pixels: { probabilities, similarity }, not calibrated;
  // similarity is null for a model without.
  async compute(pixels) {
    const { input, outputs, preprocessing: { size } } = this.settings;
    const tensor = new ort.Tensor("uint8", new Uint8Array(pixels.buffer), [1, size, size, 3]);
    const results = await this.session.run({ [input]: tensor });
    const similarity = results[outputs.similarity]?.data[0] ?? null;
    return { probabilities: results[outputs.probabilities].data, similarity };
  }

  // { predictions: [{ label, id, probability }], unknown, reason }; without the latter two where
  // the model is not calibrated.
  describe({ probabilities, similarity }, topK) {
    const { labels, calibration } = this.settings;
    const scaled = calibration ? scale(probabilities, calibration.temperature) : probabilities;
    const predictions = labels
      .map((label, id) => ({ label, id, probability: scaled[id] }))
      .sort((one, other) => other.probability - one.probability || one.id - other.id)
      .slice(0, topK);
    if (!calibration) return { predictions };
    const reason = reasonOf(predictions[0], similarity, calibration);
    return { unknown: reason !== "", ...(reason && { reason }), predictions };
  }

  async classify(blob, topK) {
    const started = performance.now();
    const answer = this.describe(await this.compute(await this.preprocess(blob)), topK);
    return { ...answer, model: this.settings.model, ms: performance.now() - started };
  }
}

// The worker that prepares pictures; null in a browser that opens none.
function openWorker() {
  return new Promise(resolve => {
    if (typeof OffscreenCanvas === "undefined") return resolve(null);
    try {
      const worker = new Worker(WORKER, { type: "module" });
      worker.addEventListener("message", () => resolve(worker), { once: true });
      worker.addEventListener("error", () => resolve(null), { once: true });
    } catch {
      resolve(null);
    }
  });
}

// Calibrated probabilities: softmax(log(p) / temperature).
function scale(probabilities, temperature) {
  const logarithms = [...probabilities].map(p => Math.log(Math.max(p, TINY)) / temperature);
  const largest = Math.max(...logarithms);
  const powers = logarithms.map(value => Math.exp(value - largest));
  const sum = powers.reduce((one, other) => one + other);
  return Float32Array.from(powers, value => value / sum);
}

// Why an image is unknown, or "".
function reasonOf({ label, probability }, similarity, { thresholds, familiarity }) {
  if (similarity !== null && familiarity) {
    const measured = (probability - familiarity.probability_mean) / familiarity.probability_scale
      + (similarity - familiarity.similarity_mean) / familiarity.similarity_scale;
    if (measured < familiarity.minimum) return "unlike anything seen";
  }
  return probability < (thresholds[label] ?? Infinity) ? "unsure" : "";
}
