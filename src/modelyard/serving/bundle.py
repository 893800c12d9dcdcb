"""What is one release, as files, and are these the files that were released?

A bundle is a folder: `bundle.json` (the manifest), the model file, `golden.json` (rows with the
predictions that the pipeline gave when the bundle was written), `requirements.txt`, and `code/`
with the user's modules where the model needs them. Its digest covers every byte of every file.
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
from pydantic import ValidationError

from modelyard.domain.values import Contract, Runtime, Value
from modelyard.errors import BundleError
from modelyard.serving.agreement import differences
from modelyard.serving.features import Features, Reader
from modelyard.serving.model_file import ModelFile, load_model, read_model
from modelyard.serving.predictor import Prediction, Predictor

MANIFEST = "bundle.json"
GOLDEN = "golden.json"
REQUIREMENTS = "requirements.txt"
CODE = "code"
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
    not_null: tuple[str, ...] = ()
    """Columns in which the model does not take a missing value."""
    tolerance: float
    """Largest difference from a golden prediction, see `agreement.differences`."""
    runtime_reason: str = ""
    """What proved a compiled model equal, or why the pipeline itself serves."""
    requirements: str = REQUIREMENTS
    provenance: dict[str, str]

    @property
    def runtime(self) -> Runtime:
        """What predicts, and hence what a replica must have installed."""
        return self.model_file.runtime


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
        rows = golden["rows"]
        cells = {name: [row.get(name) for row in rows] for name in self.contract.names()}
        probabilities = golden["probabilities"]
        expected = Prediction(
            golden["predictions"], None if probabilities is None else np.array(probabilities)
        )
        found = self.predictor.predict(Reader(self.contract).read(cells, len(rows)))
        apart = differences(expected, found)
        wrong = np.flatnonzero(apart > self.manifest.tolerance)
        if len(wrong):
            raise BundleError(_disagreement(self.manifest, int(wrong[0]), expected, found))
        return len(rows)


def write_bundle(
    folder: Path,
    *,
    model: str,
    version: str,
    contract: Contract,
    model_file: ModelFile,
    model_folder: Path,
    golden: Features,
    expected: Prediction,
    requirements: str,
    provenance: Mapping[str, str],
    code: Path | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    runtime_reason: str = "",
    not_null: tuple[str, ...] = (),
) -> str:
    """Write a release's bundle and return its digest.

    `golden` are rows and `expected` what the fitted pipeline says about them. `code` is a module
    file or package folder that the model's classes come from. The folder appears whole or not at
    all, and when it is there already with the same content, nothing is done.

    Raises BundleError when the folder holds another bundle, or the model file cannot be read.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (draft / model_file.path).write_bytes(read_model(model_file, model_folder))
        _write_json(draft / GOLDEN, _golden_record(golden, expected, contract))
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
            runtime_reason=runtime_reason,
            not_null=not_null,
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
    return Bundle(folder, digest, manifest, _predictor(folder, manifest))


def example_row(folder: Path) -> dict[str, Any]:
    """Return the first golden row of a bundle, as it would be sent in a request."""
    return json.loads((folder / GOLDEN).read_text())["rows"][0]


def _predictor(folder: Path, manifest: Manifest) -> Predictor:
    """Load the model with what its runtime needs, and no more."""
    file, contract = manifest.model_file, manifest.contract
    if manifest.runtime is Runtime.COMPILED:
        from modelyard.serving.compiled import CompiledPredictor

        return CompiledPredictor(read_model(file, folder), contract)
    from modelyard.serving.estimators import EstimatorPredictor

    code = str(folder / CODE)
    if (folder / CODE).is_dir() and code not in sys.path:
        sys.dont_write_bytecode = True  # a __pycache__ would change the bundle's digest
        sys.path.append(code)
    return EstimatorPredictor(load_model(file, folder), contract)


def _golden_record(golden: Features, expected: Prediction, contract: Contract) -> dict[str, Any]:
    names = contract.names()
    columns = [values.tolist() for values in golden.columns(contract)]
    rows = [
        {name: None if v != v else v for name, v in zip(names, cells, strict=True)}
        for cells in zip(*columns, strict=True)
    ]
    return {
        "rows": rows,
        "predictions": expected.predictions,
        "probabilities": _listed(expected.probabilities),
    }


def _listed(probabilities: np.ndarray | None) -> list[Any] | None:
    return None if probabilities is None else probabilities.tolist()


def _disagreement(manifest: Manifest, row: int, expected: Prediction, found: Prediction) -> str:
    what, before, now = "prediction", expected.predictions[row], found.predictions[row]
    if before == now and expected.probabilities is not None:
        what, before = "probabilities", expected.probabilities[row].tolist()
        now = _listed(None if found.probabilities is None else found.probabilities[row])
    return (
        f"{manifest.model} {manifest.version} does not predict as recorded: golden row {row} has "
        f"{what} {before}, now {now} (tolerance {manifest.tolerance:g}). Compare the installed "
        f"packages with the bundle's {REQUIREMENTS}, or build the release again."
    )


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
