"""How is a fitted estimator stored, and loaded only when it is the one that was stored?

The same fit is the same bytes, in whatever process it was made: a model that was trained again can
be proven equal by its digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from modelyard.domain.values import Runtime, Value
from modelyard.errors import BundleError

if TYPE_CHECKING:
    import pandas as pd

TRUSTED_PACKAGES = frozenset({"numpy", "scipy", "sklearn"})
"""A skops file may name types of these, beside the ones that skops itself trusts."""

_FILE_NAMES = {"skops": "model.skops", "cloudpickle": "model.pkl", "onnx": "model.onnx"}
_SCHEMA = "schema.json"


class ModelFile(Value):
    """A stored model: where it is, how it is read, and the digest that it must have."""

    path: str
    """Relative to the folder that holds it."""
    format: Literal["skops", "cloudpickle", "onnx"]
    sha256: str
    types: tuple[str, ...] | None = None
    """Of a skops file, those that skops loads only when it is told to; None: not recorded."""

    @property
    def runtime(self) -> Runtime:
        """What it takes to predict with it."""
        return Runtime.COMPILED if self.format == "onnx" else Runtime.SKLEARN


def save_model(estimator: Any, folder: Path, *, sample: pd.DataFrame | None = None) -> ModelFile:
    """Store a fitted estimator in a folder, which is made if it is not there.

    skops is preferred: it holds no code. What skops cannot give back (user classes, lambdas, or,
    where a `sample` of rows is given, anything that then predicts differently) is cloudpickled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = _skops_bytes(estimator, sample)
    if stored is not None:
        content, types = stored
        return _store(content, "skops", folder, types)
    import cloudpickle

    return _store(cloudpickle.dumps(estimator), "cloudpickle", folder)


def save_compiled(graph: bytes, folder: Path) -> ModelFile:
    """Store a model that was compiled to ONNX in a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return _store(graph, "onnx", folder)


def load_model(file: ModelFile, folder: Path) -> Any:
    """Load the estimator that `save_model` stored.

    The bytes are hashed before anything in them is looked at, and the same bytes are loaded.
    Raises BundleError when the file is missing, was changed, or names types that are not trusted.
    """
    content = read_model(file, folder)
    if file.format == "skops":
        return _load_skops(content, file.types, folder / file.path)
    import cloudpickle

    return cloudpickle.loads(content)


def is_intact(file: ModelFile, folder: Path) -> bool:
    """Return whether a model's file is there and is the recorded one; nothing of it is loaded."""
    try:
        read_model(file, folder)
    except BundleError:
        return False
    return True


def read_model(file: ModelFile, folder: Path) -> bytes:
    """Return the bytes of a stored model. Raises BundleError if they are missing or changed."""
    path = folder / file.path
    try:
        content = path.read_bytes()
    except OSError as err:
        raise BundleError(f"Cannot read the model file {path}: {err}. Build it again.") from err
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise BundleError(
            f"The model file {path} was changed: its sha256 is {digest}, recorded is "
            f"{file.sha256}. It was not loaded; restore it or build it again."
        )
    return content


def _store(
    content: bytes,
    kind: Literal["skops", "cloudpickle", "onnx"],
    folder: Path,
    types: Sequence[str] | None = None,
) -> ModelFile:
    (folder / _FILE_NAMES[kind]).write_bytes(content)
    return ModelFile(
        path=_FILE_NAMES[kind],
        format=kind,
        sha256=hashlib.sha256(content).hexdigest(),
        types=None if types is None else tuple(types),
    )


def _skops_bytes(estimator: Any, sample: pd.DataFrame | None) -> tuple[bytes, list[str]] | None:
    """Return the estimator as skops bytes and the types in them that have to be trusted.

    None when they would not give it back.
    """
    from skops import io as skops

    try:
        content = _canonical(skops.dumps(estimator))
        types = skops.get_untrusted_types(data=content)
        if _foreign(types):
            return None
        restored = skops.loads(content, trusted=types)
    except Exception:  # skops raises whatever a foreign object's state raises: all mean "cannot"
        return None
    if sample is not None and not _same_predictions(estimator, restored, sample):
        return None
    return content, types


def _canonical(archive: bytes) -> bytes:
    """Return a skops archive that says the same, without what differs from process to process.

    skops names objects and files by their address in memory, and a zip holds the time of writing.
    Here objects are numbered in the order in which they appear, files are named by what they hold.
    Nothing is compressed: another zlib would compress the same bytes to others.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    schema = json.loads(members.pop(_SCHEMA))
    names = {
        name: hashlib.sha256(content).hexdigest()[:32] + Path(name).suffix
        for name, content in members.items()
    }
    _rename(schema, names, {})
    files = {names[name]: content for name, content in members.items()}
    files[_SCHEMA] = json.dumps(schema, separators=(",", ":")).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(files):
            target.writestr(zipfile.ZipInfo(name), files[name])  # dated 1980-01-01
    return buffer.getvalue()


def _rename(node: Any, names: dict[str, str], numbers: dict[int, int]) -> None:
    """Rename the files and number the objects of a schema in place."""
    if isinstance(node, list):
        for item in node:
            _rename(item, names, numbers)
    elif isinstance(node, dict):
        if "__loader__" in node:
            address = node.pop("__id__", None)
            # Texts and numbers are shared by accident of interning, and never changed.
            if address is not None and node["__loader__"] != "JsonNode":
                node["__id__"] = numbers.setdefault(address, len(numbers) + 1)
            if node.get("file") in names:
                node["file"] = names[node["file"]]
        for item in node.values():
            _rename(item, names, numbers)


def _load_skops(content: bytes, recorded: Sequence[str] | None, path: Path) -> Any:
    """Load a model that names no foreign type; skops refuses any that was not recorded."""
    from skops import io as skops
    from skops.io.exceptions import UntrustedTypesFoundException

    # To look for them takes as long as to load.
    types = skops.get_untrusted_types(data=content) if recorded is None else list(recorded)
    if foreign := _foreign(types):
        raise BundleError(
            f"The model file {path} names types that are not trusted: {', '.join(foreign)}. "
            f"Trusted are those of {', '.join(sorted(TRUSTED_PACKAGES))}."
        )
    try:
        return skops.loads(content, trusted=types)
    except UntrustedTypesFoundException as err:
        raise BundleError(
            f"The model file {path} holds other types than were recorded for it: {err} It was not "
            "loaded; build it again."
        ) from err


def _foreign(types: Sequence[str]) -> list[str]:
    return [name for name in types if name.split(".")[0] not in TRUSTED_PACKAGES]


def _same_predictions(left: Any, right: Any, sample: pd.DataFrame) -> bool:
    return bool(np.array_equal(np.asarray(left.predict(sample)), np.asarray(right.predict(sample))))
