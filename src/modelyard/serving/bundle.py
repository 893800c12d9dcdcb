"""What is one release, as files, and are these the files that were released?

A bundle is a folder: `bundle.json` (the manifest), the model file, `golden.json` (rows with the
predictions that the model gave when the bundle was written), `requirements.txt`, and `code/` with
the user's modules where the model needs them. Its digest covers every byte of every file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import ValidationError

from modelyard.domain.values import Contract, Value
from modelyard.errors import BundleError, RequestError
from modelyard.serving.model_file import ModelFile, load_model
from modelyard.serving.predictor import Predictor, prepare_features

MANIFEST = "bundle.json"
GOLDEN = "golden.json"
REQUIREMENTS = "requirements.txt"
CODE = "code"
GOLDEN_ROWS = 50
DEFAULT_TOLERANCE = 1e-6


class Manifest(Value):
    """What `bundle.json` says."""

    format: Literal[1] = 1
    model: str
    version: str
    contract: Contract
    model_file: ModelFile
    files: dict[str, str]
    """sha256 of every other file, by its path inside the bundle."""
    tolerance: float
    """Largest difference, absolute and relative, from a golden prediction."""
    requirements: str = REQUIREMENTS
    provenance: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A release that was read from its files and found unchanged."""

    folder: Path
    digest: str
    manifest: Manifest
    predictor: Predictor

    @property
    def contract(self) -> Contract:
        return self.manifest.contract

    def check_golden(self) -> int:
        """Predict the golden rows again and return how many there are.

        Raises BundleError when a prediction is off by more than the tolerance, or a label differs.
        """
        golden = json.loads((self.folder / GOLDEN).read_text())
        rows = pd.DataFrame(golden["rows"], dtype=object)
        found = self.predictor.predict_frame(rows)
        _compare("prediction", golden["predictions"], found.predictions, self)
        if golden["probabilities"] is not None:
            _compare("probabilities", golden["probabilities"], found.probabilities, self)
        return len(rows)


def write_bundle(
    folder: Path,
    *,
    model: str,
    version: str,
    contract: Contract,
    model_file: ModelFile,
    model_folder: Path,
    golden: pd.DataFrame,
    requirements: str,
    provenance: Mapping[str, str],
    code: Path | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> str:
    """Write a release's bundle and return its digest.

    `golden` holds raw input rows (features, and any other columns); the first 50 are kept with
    what the model says about them. `code` is a module file or package folder that the model's
    classes come from. The folder appears whole or not at all, and when it is there already with
    the same content, nothing is done.

    Raises BundleError when the folder holds another bundle, or the golden rows break the contract.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        estimator = load_model(model_file, model_folder)
        shutil.copyfile(model_folder / model_file.path, draft / model_file.path)
        _write_json(draft / GOLDEN, _golden_record(Predictor(estimator, contract), golden))
        (draft / REQUIREMENTS).write_text(requirements)
        if code is not None:
            _copy_code(code, draft / CODE)
        manifest = Manifest(
            model=model,
            version=version,
            contract=contract,
            model_file=model_file,
            files=_file_digests(draft),
            tolerance=tolerance,
            provenance=dict(provenance),
        )
        _write_json(draft / MANIFEST, manifest.model_dump(mode="json"))
        digest = bundle_digest(draft)
        draft.chmod(0o755)  # mkdtemp's 0700 would lock out the user that an image runs as
        _put(draft, folder, digest)
        return digest
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def bundle_digest(folder: Path) -> str:
    """Return the sha256 over the sorted paths and sha256 digests of all files of a folder."""
    lines = [f"{digest}  {path}\n" for path, digest in _file_digests(folder).items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def load_bundle(folder: Path, digest: str) -> Bundle:
    """Read a bundle whose files hash to `digest`, and load its model.

    Nothing is loaded before every file was checked. Modules in `code/` are made importable, after
    the installed ones, so that they cannot take an installed package's place.

    Raises BundleError when a file is missing, was changed or added.
    """
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"There is no bundle in {folder}: it has no {MANIFEST}. Build it again.")
    found = bundle_digest(folder)
    if found != digest:
        raise BundleError(
            f"The bundle {folder} is not the one that was released: its digest is {found}, "
            f"expected {digest}{_changed_files(folder)}. It was not loaded; build it again."
        )
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except ValidationError as err:
        raise BundleError(f"{folder / MANIFEST} cannot be read: {err}") from err
    code = str(folder / CODE)
    if (folder / CODE).is_dir() and code not in sys.path:
        sys.dont_write_bytecode = True  # a __pycache__ would change the bundle's digest
        sys.path.append(code)
    estimator = load_model(manifest.model_file, folder)
    return Bundle(folder, digest, manifest, Predictor(estimator, manifest.contract))


def example_row(folder: Path) -> dict[str, Any]:
    """Return the first golden row of a bundle, as it would be sent in a request."""
    return json.loads((folder / GOLDEN).read_text())["rows"][0]


def _golden_record(predictor: Predictor, golden: pd.DataFrame) -> dict[str, Any]:
    try:
        features = prepare_features(golden.head(GOLDEN_ROWS), predictor.contract)
    except RequestError as err:
        raise BundleError(f"The golden rows break the contract: {err}") from err
    said = predictor.predict(features)
    return {
        "rows": _json_rows(features),
        "predictions": said.predictions,
        "probabilities": said.probabilities,
    }


def _json_rows(features: pd.DataFrame) -> list[dict[str, Any]]:
    """Return prepared features as one JSON-shaped object a row, null for what is missing."""
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in features.to_dict("records")
    ]


def _compare(what: str, expected: list[Any], found: Any, bundle: Bundle) -> None:
    release = f"{bundle.manifest.model} {bundle.manifest.version}"
    if found is None:
        raise BundleError(f"{release}: the golden rows have {what}, this model gives none.")
    for row, (before, now) in enumerate(zip(expected, found, strict=True)):
        if not _agrees(before, now, bundle.manifest.tolerance):
            raise BundleError(
                f"{release} does not predict as recorded: golden row {row} has {what} {before}, "
                f"now {now} (tolerance {bundle.manifest.tolerance:g}). Compare the installed "
                f"packages with the bundle's {REQUIREMENTS}, or build the release again."
            )


def _agrees(before: Any, now: Any, tolerance: float) -> bool:
    if before is None or now is None or isinstance(before, str):
        return before == now
    return bool(np.allclose(now, before, rtol=tolerance, atol=tolerance))


def _copy_code(code: Path, target: Path) -> None:
    target.mkdir()
    if code.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(code, target / code.name, ignore=ignored)
    else:
        shutil.copyfile(code, target / code.name)


def _file_digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _changed_files(folder: Path) -> str:
    """Name the files that differ from the manifest, as far as it can be read."""
    try:
        recorded = Manifest.model_validate_json((folder / MANIFEST).read_bytes()).files
    except ValidationError:
        return f"; {MANIFEST} itself cannot be read"
    present = _file_digests(folder)
    present.pop(MANIFEST)
    changed = sorted(
        name for name in recorded.keys() | present.keys() if recorded.get(name) != present.get(name)
    )
    return f"; changed: {', '.join(changed or [MANIFEST])}"


def _put(draft: Path, folder: Path, digest: str) -> None:
    try:
        draft.rename(folder)
    except OSError as err:
        if not folder.is_dir():
            raise
        there = bundle_digest(folder)
        if there != digest:
            raise BundleError(
                f"{folder} holds another bundle already (digest {there}, not {digest}). A release "
                "never changes: give the new one another version, or move the folder away."
            ) from err


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
