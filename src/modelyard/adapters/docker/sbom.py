"""What is a release's image made of, for those who look for known flaws and licences?

A bill of materials in CycloneDX's JSON form. The same release gives the same bytes.
"""

# The library's decorators hide from a type checker what its constructors take.
# pyright: reportCallIssue=false

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from modelyard.adapters.docker.builds import EPOCH
from modelyard.adapters.docker.layers import RuntimeContents
from modelyard.domain.records import pins_of

_NAMESPACE = uuid.UUID("6f0d2f5e-5a7c-5a55-9f60-1c1f3a5f5f0e")


def bill_of_materials(
    *,
    model: str,
    version: str,
    digest: str,
    files: dict[str, str],
    lock: str,
    contents: RuntimeContents,
    base_image: str,
    base_digest: str,
) -> bytes:
    """Return the bill of materials of a release's image as CycloneDX 1.6 JSON.

    Args:
        digest: sha256 of the release's bundle.
        files: sha256 of each file of the bundle by its path.
        lock: the locked packages, as pip's requirements with hashes.
        base_digest: what the base image is known by.
    """
    bom: Any = Bom(
        components=[
            *_python_packages(lock),
            *_system(contents),
            Component(
                type=ComponentType.APPLICATION,
                name="modelyard",
                version=metadata.version("modelyard"),
                bom_ref="modelyard",
            ),
        ],
        serial_number=uuid.uuid5(_NAMESPACE, f"{model} {version} {digest} {lock} {base_digest}"),
    )
    root: Any = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=model,
        version=version,
        bom_ref=f"{model}@{version}",
        hashes=[_sha256(digest)],
        components=[
            Component(type=ComponentType.FILE, name=path, hashes=[_sha256(found)], bom_ref=path)
            for path, found in sorted(files.items())
        ],
        properties=[
            Property(name="modelyard:base_image", value=base_image),
            Property(name="modelyard:base_image_digest", value=base_digest),
        ],
    )
    bom.metadata.component = root
    # as every file's in the image: the time of a build would make two of them differ
    bom.metadata.timestamp = datetime.fromtimestamp(EPOCH, UTC)
    bom.register_dependency(root, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1).encode() + b"\n"


def _python_packages(lock: str) -> Iterator[Any]:
    """Yield the wheels; a locked one has the hash of each file that the index offers."""
    for name, version in pins_of(lock).items():
        yield Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            purl=PackageURL("pypi", None, name, version),
            bom_ref=f"pkg:pypi/{name}@{version}",
        )


def _system(contents: RuntimeContents) -> Iterator[Any]:
    yield Component(
        type=ComponentType.PLATFORM,
        name="python",
        version=contents.python,
        purl=PackageURL("generic", None, "python", contents.python),
        bom_ref="python",
    )
    for package in contents.packages:
        yield Component(
            type=ComponentType.LIBRARY,
            name=package.name,
            version=package.version,
            purl=PackageURL("deb", "debian", package.name, package.version, {"arch": package.arch}),
            bom_ref=f"deb:{package.name}",
        )


def _sha256(found: str) -> Any:
    return HashType(alg=HashAlgorithm.SHA_256, content=found)
