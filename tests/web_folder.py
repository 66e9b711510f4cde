"""The page of `--format web`, with a stand-in for onnxruntime-web: it adds up the colours."""

import os
from types import SimpleNamespace

from data.geometry import Preprocessing
from export import web, web_package
from runs.run_folder import MODEL

LABELS = ("red", "green", "蓝<b>")
SIZE = 16
# Probabilities are the shares of the three colours, the similarity is that of red, less a half.
STUB = """
export const env = { wasm: {} };
export class Tensor {
  constructor(type, data, shape) { Object.assign(this, { type, data, shape }); }
}
const created = { async run({ input_img: { type, data, shape } }) {
  if (type !== "uint8" || shape.join() !== "1,16,16,3") throw new Error(`${type} ${shape}`);
  const sums = [0, 0, 0];
  data.forEach((value, i) => { sums[i % 3] += value; });
  const all = sums[0] + sums[1] + sums[2] || 1;
  const shares = Float32Array.from(sums, sum => sum / all);
  return { output_score: { data: shares },
           output_similarity: { data: Float32Array.of(shares[0] - 0.5) } };
} };
export const InferenceSession = { async create(url) {
  if (!(await fetch(url)).ok) throw new Error("no model");
  return created;
} };
"""


def extract(package_path, folder):
    """In the place of `web_package.extract`."""
    for name in web_package.FILES.values():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(STUB if name == "onnxruntime.js" else "")


def write(patch, folder, fitted=None, resize="letterbox"):
    """Writes the page into `folder`/web; returns that path."""
    os.makedirs(folder, exist_ok=True)
    onnx_path = os.path.join(folder, "model.onnx")
    with open(onnx_path, "wb") as file:
        file.write(b"a network")
    patch.setattr(web_package, "extract", extract)
    run = SimpleNamespace(path=os.path.join("runs", "animals"), class_names=LABELS,
                          preprocessing=Preprocessing(SIZE, resize), file=lambda name: MODEL)
    web.write(str(folder), onnx_path, "", run, fitted)
    return os.path.join(str(folder), web.FOLDER)
