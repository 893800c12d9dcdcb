"""How is one fitted pipeline served by others: MLflow, MLServer, BentoML and LitServe?

MLflow is the project's own. The others live in environments of their own below a cache folder,
made with uv on first use; one that does not install, or does not answer right, is named and left
out of the table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.environments import environment

_SHARED = ("numpy", "pandas", "scikit-learn", "cloudpickle")

_MODEL = """\
import cloudpickle, pandas as pd
MODEL = cloudpickle.load(open({model!r}, "rb"))
COLUMNS = {columns!r}
def predict(data):
    return MODEL.predict_proba(pd.DataFrame(data, columns=COLUMNS)).tolist()
"""

_LITSERVE = """\
import litserve as ls
from served import predict
class API(ls.LitAPI):
    def setup(self, device): pass
    def decode_request(self, request): return request["dataframe_split"]["data"]
    def predict(self, data): return predict(data)
    def encode_response(self, said): return {{"predictions": said}}
if __name__ == "__main__":
    ls.LitServer(API(), accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port={port}, generate_client_file=False, log_level="error")
"""

_BENTOML = """\
import bentoml
from served import predict
@bentoml.service(workers=1)
class Model:
    @bentoml.api
    def invocations(self, dataframe_split: dict) -> dict:
        return {{"predictions": predict(dataframe_split["data"])}}
"""

_MLSERVER = """\
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
import numpy as np
from served import COLUMNS, predict
class Model(MLModel):
    async def load(self): return True
    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        columns = {{i.name: i.data.root for i in payload.inputs}}
        rows = list(zip(*(columns[name] for name in COLUMNS)))
        out = NumpyCodec.encode_output("predict", np.array(predict(rows)))
        return InferenceResponse(model_name=self.name, outputs=[out])
"""


@dataclass(frozen=True)
class Job:
    """What is served, and where."""

    folder: Path
    """Holds the pipeline as `model.pkl` and as the MLflow model `mlflow`."""
    columns: tuple[str, ...]
    port: int


@dataclass(frozen=True)
class Peer:
    """A server that can be started: its command, its address, and the form of its requests."""

    name: str
    command: list[str]
    folder: Path
    port: int
    path: str
    form: str
    """split or v2."""


def mlflow_peer(job: Job) -> Peer:
    words = ["-m", "mlflow", "models", "serve", "-m", str(job.folder / "mlflow")]
    more = ["--host", "127.0.0.1", "--port", str(job.port), "--env-manager", "local"]
    command = [sys.executable, *words, *more, "--workers", "1"]
    name = f"MLflow {metadata.version('mlflow')}"
    return Peer(name, command, job.folder, job.port, "/invocations", "split")


def litserve_peer(job: Job) -> Peer:
    python = environment("litserve", "litserve==0.2.19", shared=_SHARED)
    folder = _folder(job, "litserve", {"server.py": _LITSERVE.format(port=job.port)})
    return Peer("LitServe 0.2.19", [python, "server.py"], folder, job.port, "/predict", "split")


def bentoml_peer(job: Job) -> Peer:
    python = environment("bentoml", "bentoml==1.4.39", shared=_SHARED)
    folder = _folder(job, "bentoml", {"service.py": _BENTOML.format()})
    command = [python, "-m", "bentoml", "serve", "service:Model", "--host", "127.0.0.1"]
    return Peer(
        "BentoML 1.4.39",
        [*command, "--port", str(job.port)],
        folder,
        job.port,
        "/invocations",
        "split",
    )


def mlserver_peer(job: Job) -> Peer:
    python = environment("mlserver", "mlserver==1.7.1", "uvloop<0.22", shared=_SHARED)
    settings = {
        "host": "127.0.0.1",
        "http_port": job.port,
        "grpc_port": job.port + 1,
        "metrics_port": job.port + 2,
        "parallel_workers": 0,
    }
    folder = _folder(
        job,
        "mlserver",
        {
            "model.py": _MLSERVER.format(),
            "settings.json": json.dumps(settings),
            "model-settings.json": json.dumps({"name": "m", "implementation": "model.Model"}),
        },
    )
    command = [str(Path(python).parent / "mlserver"), "start", "."]
    return Peer("MLServer 1.7.1", command, folder, job.port, "/v2/models/m/infer", "v2")


PEERS: dict[str, Callable[[Job], Peer]] = {
    "MLflow": mlflow_peer,
    "LitServe": litserve_peer,
    "BentoML": bentoml_peer,
    "MLServer": mlserver_peer,
}


def _folder(job: Job, name: str, files: dict[str, str]) -> Path:
    folder = job.folder / name
    folder.mkdir(exist_ok=True)
    model = _MODEL.format(model=str(job.folder / "model.pkl"), columns=list(job.columns))
    for file, text in {"served.py": model, **files}.items():
        (folder / file).write_text(text)
    return folder
