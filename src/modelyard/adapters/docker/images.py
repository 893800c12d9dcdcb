"""How does a release become a container image that is proven to predict as it was trained?

A runtime, which releases with the same requirements share, and on top of it the bundle alone. A
release's image gets its tags after it has predicted its golden rows right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from docker import DockerClient
from docker.models.images import Image

from modelyard.adapters.docker.builds import build, find_image, run_inside
from modelyard.adapters.docker.containers import (
    DIGEST_LABEL,
    LOG_FOLDER,
    MODEL_LABEL,
    VERSION_LABEL,
)
from modelyard.adapters.docker.engine import connect_engine, engine_errors, require_image
from modelyard.adapters.docker.haproxy import PORT
from modelyard.adapters.docker.runtimes import RUNTIME_LABEL, runtime_image
from modelyard.domain.values import ImageRef
from modelyard.errors import BundleError
from modelyard.serving.bundle import MANIFEST, REQUIREMENTS, Manifest, bundle_digest

BUNDLE_FOLDER = "/opt/modelyard/bundle"
GRACE_SECONDS = 3
"""For idle connections when a replica stops: its only client, the gateway, has left by then."""

RELEASE_DOCKERFILE = """\
ARG RUNTIME
FROM ${{RUNTIME}}
COPY bundle {bundle}
LABEL {labels}
CMD {command}
"""

_CHECK_GOLDEN = """\
import sys
from pathlib import Path
from modelyard.errors import ModelYardError
from modelyard.serving.replica import load_proven
try:
    load_proven(Path(sys.argv[1]), sys.argv[2])
except ModelYardError as err:
    sys.exit(str(err))
"""


@engine_errors("the image build")
def build_image(
    bundle_folder: Path,
    *,
    model: str,
    version: str,
    digest: str,
    base_image: str,
    home: Path,
    engine: DockerClient | None = None,
) -> ImageRef:
    """Build a release's image, prove it on its golden rows, and return it.

    Idempotent: the image of the same bundle on the same runtime is returned as it is. Locked
    requirements are kept under `home`.

    Raises BundleError when the bundle is not the one of `digest` or does not predict as recorded
    inside the image, RolloutError when its requirements cannot be had or the build fails,
    EngineUnavailableError when no engine answers.
    """
    engine = engine or connect_engine()
    found = bundle_digest(bundle_folder)
    if found != digest:
        raise BundleError(
            f"The bundle {bundle_folder} has the digest {found}, not {digest} of {model} "
            f"{version}. Write it again before building its image."
        )
    base = require_image(engine, base_image)
    repository = f"modelyard/{model}"
    tags = (f"{version}-{digest[:12]}", version)
    runtime = runtime_image(engine, base, (bundle_folder / REQUIREMENTS).read_text(), home)
    image = find_image(engine, f"{repository}:{tags[0]}")
    if image is None or image.labels.get(RUNTIME_LABEL) != runtime.labels[RUNTIME_LABEL]:
        labels = _release_labels(bundle_folder, model, version, digest, base_image, base)
        image = _build_release(engine, runtime, bundle_folder, digest, labels)
        _check_golden(engine, image, model, version, digest)
    for tag in tags:
        image.tag(repository, tag)
    return ImageRef(
        id=str(image.id),
        tags=tuple(f"{repository}:{tag}" for tag in tags),
        size_bytes=image.attrs["Size"],
        labels=image.labels,
    )


def _release_labels(
    bundle_folder: Path, model: str, version: str, digest: str, base_name: str, base: Image
) -> dict[str, str]:
    """Return labels with the names of the OCI image specification, and our own."""
    manifest = Manifest.model_validate_json((bundle_folder / MANIFEST).read_bytes())
    base_digests = base.attrs.get("RepoDigests") or ()
    labels = {
        "org.opencontainers.image.title": model,
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": manifest.provenance.get("git_commit", ""),
        "org.opencontainers.image.base.name": base_name,
        # an image that was never in a registry has no digest there
        "org.opencontainers.image.base.digest": next(
            (d.partition("@")[2] for d in base_digests), str(base.id)
        ),
        MODEL_LABEL: model,
        VERSION_LABEL: version,
        DIGEST_LABEL: digest,
    }
    return {name: value for name, value in labels.items() if value}


def _build_release(
    engine: DockerClient, runtime: Image, bundle: Path, digest: str, labels: Mapping[str, str]
) -> Image:
    command = [
        *("python", "-m", "modelyard.serving.replica", "--host", "0.0.0.0", "--port", str(PORT)),
        *("--bundle", BUNDLE_FOLDER, "--digest", digest, "--log", LOG_FOLDER),
        *("--grace", str(GRACE_SECONDS)),
    ]
    dockerfile = RELEASE_DOCKERFILE.format(
        bundle=BUNDLE_FOLDER,
        # one instruction, since each is a container and a tenth of a second
        labels=" ".join(f"{name}={_quoted(value)}" for name, value in labels.items()),
        command=json.dumps(command),
    )
    return build(
        engine,
        {"Dockerfile": dockerfile.encode(), "bundle": bundle},
        arguments={"RUNTIME": str(runtime.id)},
    )


def _quoted(text: str) -> str:
    """Return text as a Dockerfile's word that means just that."""
    return json.dumps(text, ensure_ascii=False).replace("$", "\\$")


def _check_golden(
    engine: DockerClient, image: Image, model: str, version: str, digest: str
) -> None:
    """Predict the golden rows inside the image; an image that fails is removed."""
    code, output = run_inside(engine, image, ["python", "-c", _CHECK_GOLDEN, BUNDLE_FOLDER, digest])
    if code != 0:
        engine.images.remove(image.id, force=True)
        raise BundleError(
            f"The image of {model} {version} was built and refused, since it does not predict as "
            f"the model that was trained. It said:\n{output}"
        )
