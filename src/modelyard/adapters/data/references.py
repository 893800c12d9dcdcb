"""Which rows were meant where they were too large to copy, and are they still in the source?"""

from __future__ import annotations

import hashlib
from datetime import datetime

import numpy as np
import pandas as pd

from modelyard.adapters.data.files import describe_files, is_file_source
from modelyard.adapters.data.hashes import row_hashes
from modelyard.adapters.data.selection import Part, select_rows
from modelyard.config import ModelConfig
from modelyard.config.recorded import recorded_config, restore_config
from modelyard.domain.releases import Change, Reference, SourceFile
from modelyard.project import Project

SAMPLE_ROWS = 1000


def refer_to_rows(
    project: Project,
    config: ModelConfig,
    part: Part,
    rows: pd.DataFrame,
    as_of: datetime | None,
    newest: datetime | None,
    since: datetime | None,
) -> Reference:
    """Describe where rows are and how they were chosen; `newest` is the last event time of all."""
    return Reference(
        part=part,
        config=recorded_config(config),
        as_of=as_of,
        newest=newest,
        since=since,
        files=_files(project, config),
        sample=hash_sample(rows),
    )


def read_reference(reference: Reference, project: Project) -> pd.DataFrame:
    """Read the rows of a reference from their source again. Raises DataError, ConfigError."""
    config = _config(reference, project)
    selection = select_rows(
        config, project.root, reference.as_of, newest=reference.newest, since=reference.since
    )
    return selection.part(reference.part)


def reference_changes(
    reference: Reference, project: Project, rows: pd.DataFrame
) -> tuple[Change, ...]:
    """Say which files of the source are not what they were, and whether a sample of rows is."""
    found = {file.name: file for file in _files(project, _config(reference, project))}
    before = {file.name: file for file in reference.files}
    changes = [
        Change(
            name=f"file {name}", recorded=_shown(before.get(name)), found=_shown(found.get(name))
        )
        for name in sorted(before.keys() | found.keys())
        if before.get(name) != found.get(name)
    ]
    sample = hash_sample(rows)
    if sample != reference.sample:
        changes.append(
            Change(name="sample of rows", recorded=reference.sample[:12], found=sample[:12])
        )
    return tuple(changes)


def hash_sample(rows: pd.DataFrame) -> str:
    """Return sha256 over up to a thousand rows that are spread evenly (hex)."""
    places = np.linspace(0, len(rows) - 1, min(SAMPLE_ROWS, len(rows))).astype(int)
    return hashlib.sha256(row_hashes(rows.iloc[places]).tobytes()).hexdigest()


def _config(reference: Reference, project: Project) -> ModelConfig:
    return restore_config(reference.config, project.model(reference.config["name"]))


def _files(project: Project, config: ModelConfig) -> tuple[SourceFile, ...]:
    source = str(config.data.source)
    if config.data.query is not None or source.startswith("sim://") or not is_file_source(source):
        return ()
    return describe_files(source, project.root)


def _shown(file: SourceFile | None) -> str:
    return "absent" if file is None else f"{file.size_bytes} bytes, {file.etag or 'no etag'}"
