"""How large is a release's image, how soon is a new model in it, and how soon does it answer?

One pipeline of 14 columns (gradient boosting on numbers and one-hot categories), compiled, beside
MLflow's own scoring server on the same base image. `mlflow models build-docker` fetches packages
inside the build; here they are fetched before it, and put in as one archive: MLflow with all that
it needs, the model's requirements and gunicorn. Its recipe's nginx is left out. The model comes
after MLflow and before `pip install` of its requirements, as in that recipe; all of them are there
already, so that pip only looks. Ours has its golden rows predicted inside it, in the time told.
"""

from __future__ import annotations

import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
from docker import DockerClient
from sklearn.pipeline import Pipeline

from benchmarks.claims import Claim, claim, console, main, show
from benchmarks.docker_releases import BASE_IMAGE, fit_models, own_images, package
from modelyard.adapters.docker.builds import build
from modelyard.adapters.docker.containers import LOG_FOLDER
from modelyard.adapters.docker.engine import HARDENED, connect_engine, require_image
from modelyard.adapters.docker.layers import PARTS, assemble, describe_python
from modelyard.adapters.docker.wheels import BasePython
from modelyard.adapters.uv import run_uv

START_SECONDS = 180.0

_MLFLOW = """\
ARG BASE
FROM ${BASE}
ADD interpreter.tar /
ADD packages.tar /
ADD application.tar /
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin MLFLOW_DISABLE_ENV_CREATION=true
RUN printf '#!/bin/sh\\nexec python -m uvicorn "$@"\\n' > /usr/local/bin/uvicorn \
&& chmod +x /usr/local/bin/uvicorn
COPY model /opt/ml/model
RUN python -m pip install --no-index -q -r /opt/ml/model/requirements.txt gunicorn[gevent]
CMD ["python", "-m", "mlflow", "models", "serve", "-m", "/opt/ml/model", "-h", "0.0.0.0", \
"-p", "8080", "--env-manager", "local", "--workers", "1"]
"""


@dataclass(frozen=True)
class Measured:
    """What one way to make an image came to; times in seconds, the median of a few."""

    size_mb: float
    rebuild: float
    start: float


def measure(quick: bool) -> list[Claim]:
    engine = connect_engine()
    times = 2 if quick else 5
    with tempfile.TemporaryDirectory() as scratch, own_images(engine) as name:
        rows, pipelines = fit_models(times + 1)
        ours = _measure_ours(engine, name, rows, pipelines, Path(scratch))
        base = require_image(engine, BASE_IMAGE).attrs["Size"] / 1e6
        table = [_row("ModelYard, compiled", ours)]
        claims = [claim("MB of an image of a compiled release", ours.size_mb, "<=", 180)]
        if quick:
            claims.append(claim("seconds to rebuild for a new model", ours.rebuild, "<=", 5))
        else:
            mlflow = _measure_mlflow(engine, name, rows, pipelines[:3], Path(scratch))
            table.append(_row("MLflow", mlflow))
            most = max(5.0, mlflow.rebuild / 20)
            claims += [
                claim("size beside MLflow's", ours.size_mb / mlflow.size_mb, "<=", 1 / 6),
                claim("seconds to rebuild for a new model", ours.rebuild, "<=", most),
                claim(
                    "start to first right answer beside MLflow's",
                    ours.start / mlflow.start,
                    "<=",
                    0.2,
                ),
            ]
    console.print(f"The base image {BASE_IMAGE} has {base:.0f} MB here.")
    show(
        "Images of one model",
        ("", "MB", "new model s", "start to first right answer s"),
        table,
    )
    return claims


def _row(name: str, measured: Measured) -> tuple[object, ...]:
    return (name, measured.size_mb, measured.rebuild, measured.start)


def _measure_ours(
    engine: DockerClient, name: str, rows: pd.DataFrame, pipelines: list[Pipeline], folder: Path
) -> Measured:
    releases = [
        package(folder, name, f"{number}.0.0", pipeline, rows)
        for number, pipeline in enumerate(pipelines)
    ]
    built = releases[0].build(engine, folder)
    rebuilds = [_seconds(lambda r=release: r.build(engine, folder)) for release in releases[1:]]
    command = [*engine.images.get(built.id).attrs["Config"]["Cmd"], "--behind-gateway"]
    writable = {"tmpfs": {"/tmp": "size=64m", LOG_FOLDER: "uid=10001"}}
    starts = [
        _start(engine, built.id, rows, pipelines[0], command=command, **{**HARDENED, **writable})
        for _ in range(3)
    ]
    return Measured(built.size_bytes / 1e6, statistics.median(rebuilds), statistics.median(starts))


def _measure_mlflow(
    engine: DockerClient, name: str, rows: pd.DataFrame, pipelines: list[Pipeline], folder: Path
) -> Measured:
    import mlflow.sklearn

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it warns of how its peer is made here
    base = require_image(engine, BASE_IMAGE)
    base.tag(f"modelyard/{name}-base", "1")
    python = describe_python(engine, base)
    packages, layers = folder / "mlflow-packages", folder / "mlflow-layers"
    layers.mkdir()
    own = [f"{p}=={metadata.version(p)}" for p in ("mlflow", "scikit-learn", "pandas", "numpy")]
    _install(packages, [*own, "cloudpickle", "gunicorn[gevent]", "pip"], python)
    assemble(
        engine,
        base,
        python,
        packages=packages,
        application={"README": b"MLflow\n"},
        lock=b"",
        whole_base=True,
        folder=layers,
    )

    def image(number: int) -> Any:
        return build(
            engine,
            {
                "Dockerfile": _MLFLOW.encode(),
                **{f"{part}.tar": layers / f"{part}.tar" for part in PARTS},
                "model": folder / f"mlflow-{number}",
            },
            tags=[f"modelyard/{name}-mlflow:{number}"],
            arguments={"BASE": f"modelyard/{name}-base:1"},
        )

    for number, pipeline in enumerate(pipelines):
        mlflow.sklearn.save_model(
            pipeline,
            str(folder / f"mlflow-{number}"),
            serialization_format="cloudpickle",
            pip_requirements=[*own, "cloudpickle"],
        )
    built = image(0)
    rebuilds = [_seconds(lambda n=n: image(n)) for n in range(1, len(pipelines))]
    starts = [_start(engine, str(built.id), rows, pipelines[0]) for _ in range(3)]
    shutil.rmtree(packages)
    return Measured(
        built.attrs["Size"] / 1e6, statistics.median(rebuilds), statistics.median(starts)
    )


def _install(target: Path, packages: list[str], python: BasePython) -> None:
    done = run_uv(
        *("pip", "install", "--target", str(target), "--quiet", "--link-mode", "copy"),
        *("--python-version", python.version, "--python-platform", python.platform),
        *("--only-binary", ":all:", *packages),
    )
    if done.returncode:
        raise SystemExit(f"MLflow cannot be installed: {done.stderr.strip()}")


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _start(
    engine: DockerClient, image: str, rows: pd.DataFrame, pipeline: Pipeline, **settings: Any
) -> float:
    """Return the seconds from starting a container to the first answer, which must be right."""
    asked = rows.head(1)
    expected = float(pipeline.predict(asked)[0])
    body = {"dataframe_records": asked.to_dict("records")}
    begun = time.perf_counter()
    container = engine.containers.run(
        image, detach=True, ports={"8080/tcp": ("127.0.0.1", None)}, **settings
    )
    try:
        container.reload()
        port = container.ports["8080/tcp"][0]["HostPort"]
        while time.perf_counter() - begun < START_SECONDS:
            try:
                answer = httpx.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=60)
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            took = time.perf_counter() - begun
            answer.raise_for_status()
            assert abs(answer.json()["predictions"][0] - expected) < 1e-4
            return took
        raise SystemExit(f"{image} did not answer: {container.logs().decode()[-2000:]}")
    finally:
        container.remove(force=True)


if __name__ == "__main__":
    main(__doc__ or "", measure)
