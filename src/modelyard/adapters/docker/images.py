"""How does a release become a container image that is proven to predict as it was trained?

A runtime, which releases with the same requirements share, and on top of it the bundle alone. A
release's image gets its tags after it has predicted its golden rows right.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from docker import DockerClient
from docker.models.images import Image

from modelyard.adapters.docker.builds import build, find_image, run_inside
from modelyard.adapters.docker.containers import LOG_FOLDER, MODEL_LABEL
from modelyard.adapters.docker.engine import connect_engine, engine_errors, require_image
from modelyard.adapters.docker.haproxy import PORT
from modelyard.adapters.docker.layers import bundle_layer
from modelyard.adapters.docker.registry import push_image
from modelyard.adapters.docker.replicas import DIGEST_LABEL, VERSION_LABEL
from modelyard.adapters.docker.runtimes import RUNTIME_LABEL, Runtime, find_runtime
from modelyard.adapters.docker.sbom import bill_of_materials
from modelyard.domain.values import ImageRef
from modelyard.errors import BundleError
from modelyard.serving.bundle import MANIFEST, REQUIREMENTS, Manifest, bundle_digest

BUNDLE_FOLDER = "/opt/modelyard/bundle"
SBOM_FILE = "/opt/modelyard/sbom.cdx.json"
GRACE_SECONDS = 3
"""For idle connections when a replica stops: its only client, the gateway, has left by then."""

RELEASE_DOCKERFILE = """\
ARG RUNTIME
FROM ${{RUNTIME}}
ADD bundle.tar /
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
    whole_base: bool = False,
    registry: str | None = None,
    engine: DockerClient | None = None,
) -> ImageRef:
    """Build a release's image, prove it on its golden rows, push it, and return it.

    Idempotent: the image of the same bundle on the same runtime is returned as it is. Locked
    requirements and the bill of materials are kept under `home`. With a `registry` the image is
    pushed there once it is proven, and known by its digest from then on.

    Raises BundleError when the bundle is not the one of `digest` or does not predict as recorded
    inside the image, RolloutError when its requirements cannot be had, the build fails, or the
    registry refuses, EngineUnavailableError when no engine answers.
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
    requirements = (bundle_folder / REQUIREMENTS).read_text()
    runtime = find_runtime(engine, base, requirements, home, whole_base=whole_base)
    manifest = Manifest.model_validate_json((bundle_folder / MANIFEST).read_bytes())
    sbom = bill_of_materials(
        model=model,
        version=version,
        digest=digest,
        files=manifest.files,
        lock=runtime.lock,
        contents=runtime.contents,
        base_image=base_image,
        base_digest=_digest(base),
    )
    image = find_image(engine, f"{repository}:{tags[0]}")
    if image is None or image.labels.get(RUNTIME_LABEL) != runtime.key:
        labels = _release_labels(manifest, model, version, digest, base_image, base)
        image = _build_release(engine, runtime, bundle_folder, digest, labels, sbom)
        _check_golden(engine, image, model, version, digest)
    for tag in tags:
        image.tag(repository, tag)
    _forget_unproven(engine, digest)
    kept = home / "images" / f"{model}-{tags[0]}.cdx.json"
    kept.write_bytes(sbom)
    return ImageRef(
        id=str(image.id),
        name=push_image(engine, image, registry, repository, tags) if registry else None,
        tags=tuple(f"{repository}:{tag}" for tag in tags),
        layers=tuple(image.attrs["RootFS"]["Layers"]),
        size_bytes=image.attrs["Size"],
        labels=image.labels,
        sbom=kept,
    )


def _digest(base: Image) -> str:
    """Return the base image's digest in its registry; its id where it was never in one."""
    known = base.attrs.get("RepoDigests") or ()
    return next((d.partition("@")[2] for d in known), str(base.id))


def _release_labels(
    manifest: Manifest, model: str, version: str, digest: str, base_name: str, base: Image
) -> dict[str, str]:
    """Return labels with the names of the OCI image specification, and our own."""
    labels = {
        "org.opencontainers.image.title": model,
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": manifest.provenance.get("git_commit", ""),
        "org.opencontainers.image.base.name": base_name,
        "org.opencontainers.image.base.digest": _digest(base),
        MODEL_LABEL: model,
        VERSION_LABEL: version,
        DIGEST_LABEL: digest,
    }
    return {name: value for name, value in labels.items() if value}


def _build_release(
    engine: DockerClient,
    runtime: Runtime,
    bundle: Path,
    digest: str,
    labels: Mapping[str, str],
    sbom: bytes,
) -> Image:
    """Build the image under a name that nothing runs, until it is proven."""
    command = [
        *("python", "-m", "modelyard.serving.replica", "--host", "0.0.0.0", "--port", str(PORT)),
        *("--bundle", BUNDLE_FOLDER, "--digest", digest, "--log", LOG_FOLDER),
        *("--grace", str(GRACE_SECONDS)),
    ]
    dockerfile = RELEASE_DOCKERFILE.format(
        # one instruction, since each is a container and a tenth of a second
        labels=" ".join(f"{name}={_quoted(value)}" for name, value in labels.items()),
        command=json.dumps(command),
    )
    with tempfile.TemporaryDirectory() as scratch:
        layer = Path(scratch) / "bundle.tar"
        bundle_layer(bundle, BUNDLE_FOLDER, {SBOM_FILE: sbom}, layer)
        return build(
            engine,
            {"Dockerfile": dockerfile.encode(), "bundle.tar": layer},
            tags=[_unproven(digest)],
            arguments={"RUNTIME": runtime.name},
        )


def _unproven(digest: str) -> str:
    return f"modelyard/unproven:{digest[:20]}"


def _forget_unproven(engine: DockerClient, digest: str) -> None:
    if find_image(engine, _unproven(digest)):
        engine.images.remove(_unproven(digest))


def _quoted(text: str) -> str:
    """Return text as a Dockerfile's word that means just that."""
    return json.dumps(text, ensure_ascii=False).replace("$", "\\$")


def _check_golden(
    engine: DockerClient, image: Image, model: str, version: str, digest: str
) -> None:
    """Predict the golden rows inside the image; an image that fails is removed."""
    code, output = run_inside(engine, image, ["python", "-c", _CHECK_GOLDEN, BUNDLE_FOLDER, digest])
    if code != 0:
        _forget_unproven(engine, digest)
        raise BundleError(
            f"The image of {model} {version} was built and refused, since it was not shown to "
            f"predict as the model that was trained. It said:\n{output}"
        )
