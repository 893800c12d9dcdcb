"""How is a config changed without losing what a person wrote around it?"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from modelyard.config.schema import load_model_file
from modelyard.errors import ConfigError


def rewrite_model_file(path: Path, changes: Mapping[str, Any]) -> None:
    """Set keys of a model's config, by dotted name; comments and order stay.

    A value of None removes the key. Raises ConfigError for what the config cannot mean, and leaves
    the file as it was.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    config = yaml.load(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = config
        for section in sections:
            place = place.setdefault(section, CommentedMap())
        if value is None:
            place.pop(last, None)
        else:
            place[last] = _in_one_line(value)
    written = io.StringIO()
    yaml.dump(config, written)
    # under its own name, which a model's config must have
    half = path.parent / ".rewriting" / path.name
    half.parent.mkdir(exist_ok=True)
    try:
        half.write_text(written.getvalue(), encoding="utf-8")
        load_model_file(half)
        half.replace(path)
    except ConfigError as err:
        raise ConfigError(f"{path.name} was left as it is: {err}") from None
    finally:
        half.unlink(missing_ok=True)
        half.parent.rmdir()


def _in_one_line(value: Any) -> Any:
    if isinstance(value, list | tuple):
        sequence = CommentedSeq(value)
        sequence.fa.set_flow_style()
        return sequence
    if isinstance(value, Mapping):
        mapping = CommentedMap(value)
        mapping.fa.set_flow_style()
        return mapping
    return value
