"""The servers that ours is compared with, as scripts: `format` fills in what is in braces.

root     this project's folder
folder   the exported model
port     where to listen
runtime  its runtime and precision
"""

FLASK = """
import sys
sys.path.insert(0, {root!r})
from flask import Flask, jsonify, request
from data.decoding import load
from prediction.exported_model import parse_description, read_description
from prediction import runtimes
labels, preprocessing = parse_description({folder!r}, read_description({folder!r}))
predict = runtimes.open_model({folder!r}, "savedmodel")
app = Flask("plain")

@app.post("/predict")
def answer():
    images = load(request.files["image"].read(), preprocessing)[None]
    row = predict(images).probabilities[0]
    return jsonify(label=labels[int(row.argmax())], probability=float(row.max()))

@app.get("/readyz")
def ready():
    return "ready"

app.run(port={port}, threaded=True)
"""
LITSERVE = """
import sys
sys.path.insert(0, {root!r})
import litserve
import numpy as np

class API(litserve.LitAPI):
    def setup(self, device):
        from prediction import runtimes
        from data.decoding import load
        from prediction.exported_model import parse_description, read_description
        self.labels, self.settings = parse_description({folder!r}, read_description({folder!r}))
        self.load = load
        self.run = runtimes.open_model({folder!r}, *{runtime!r})
        for size in (1, 2, 4, 8, 16):
            self.run(np.zeros((size, self.settings.size, self.settings.size, 3), np.uint8))
    def decode_request(self, request):
        return self.load(request["image"].file.read(), self.settings)
    def batch(self, inputs):
        return np.stack(inputs)
    def predict(self, x):
        return self.run(x).probabilities
    def unbatch(self, rows):
        return list(rows)
    def encode_response(self, row):
        return {{"label": self.labels[int(row.argmax())], "probability": float(row.max())}}

if __name__ == "__main__":
    api = API(max_batch_size=16, batch_timeout=0.002)
    litserve.LitServer(api, accelerator="cpu", healthcheck_path="/readyz",
                       track_requests=False).run(port={port}, generate_client_file=False,
                                              log_level="warning")
"""
BENTOML = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
import bentoml
import numpy as np

@bentoml.service(workers=1, traffic={{"timeout": 60}}, metrics={{"enabled": False}},
                 logging={{"access": {{"enabled": False}}}})
class Service:
    def __init__(self):
        from prediction import runtimes
        from data.decoding import load
        from prediction.exported_model import parse_description, read_description
        self.labels, self.settings = parse_description({folder!r}, read_description({folder!r}))
        self.load = load
        self.run = runtimes.open_model({folder!r}, *{runtime!r})
        for size in (1, 2, 4, 8, 16):
            self.run(np.zeros((size, self.settings.size, self.settings.size, 3), np.uint8))

    @bentoml.api(batchable=True, max_batch_size=16, max_latency_ms=60000)
    def predict(self, image: list[Path]) -> list[dict]:
        images = np.stack([self.load(path, self.settings) for path in image])
        rows = self.run(images).probabilities
        return [{{"label": self.labels[int(row.argmax())], "probability": float(row.max())}}
                for row in rows]
"""
