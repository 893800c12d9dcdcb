"""Which line of a YAML file is wrong, why, and how is it meant to be spelled?"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from modelyard.errors import ConfigError

Schema = TypeVar("Schema", bound=BaseModel)
Key = tuple[str | int, ...]


class Problem(NamedTuple):
    """One thing that a config says and cannot mean."""

    key: Key
    message: str


class ContradictionError(ValueError):
    """Parts of a config that are right alone and cannot both be meant."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{dotted(p.key)}: {p.message}" for p in self.problems))


def load_file(path: Path, schema: type[Schema]) -> Schema:
    """Read a YAML file as `schema`.

    Raises ConfigError which names every problem of the file on a line of its own: file, line,
    key, value, what is wrong.
    """
    raw, tree = _parse(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{shown(path)}:1: holds no keys; write `key: value` lines.")
    try:
        return schema.model_validate(raw)
    except ValidationError as err:
        problems = [p for e in err.errors(include_url=False) for p in _explain(e, schema)]
        lines = sorted(_located(path, tree, raw, problem) for problem in problems)
        # From None: the vendor's own message would repeat all of it in other words.
        raise ConfigError("\n".join(text for _, text in lines)) from None


def closest(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean ...?` for the known word most like `word`, or what is known."""
    names = sorted(known)
    # Case is the commonest slip in column names, and counts as a difference in every letter.
    by_lower = {name.lower(): name for name in reversed(names)}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f" Did you mean `{by_lower[near[0]]}`?"
    some = ", ".join(f"`{name}`" for name in names[:12]) + (", ..." if len(names) > 12 else "")
    return f" Known: {some}." if names else ""


def dotted(key: Key) -> str:
    """Write `("data", "features", "numeric", 2)` as `data.features.numeric[2]`."""
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in key).lstrip(".")


def shown(path: Path) -> str:
    """Return the path as a person in the working directory would write it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _parse(path: Path) -> tuple[Any, Node | None]:
    try:
        text = path.read_text(encoding="utf-8")
        return YAML(typ="safe", pure=True).load(text), YAML(typ="safe", pure=True).compose(text)
    except FileNotFoundError:
        raise ConfigError(f"{shown(path)}: there is no such file.") from None
    except UnicodeDecodeError as err:
        raise ConfigError(f"{shown(path)}: is not UTF-8 text ({err}).") from err
    except OSError as err:
        raise ConfigError(f"{shown(path)}: cannot be read ({err.strerror}).") from err
    except DuplicateKeyError as err:
        line = err.problem_mark.line + 1 if err.problem_mark else 1
        key = re.search(r'duplicate key "([^"]*)"', str(err.problem))
        raise ConfigError(
            f"{shown(path)}:{line}: {key[1] if key else 'a key'}: stands twice; remove one of both."
        ) from err
    except MarkedYAMLError as err:
        line = err.problem_mark.line + 1 if err.problem_mark else 1
        raise ConfigError(
            f"{shown(path)}:{line}: is not YAML: {err.problem or err.context}."
        ) from err
    except YAMLError as err:
        raise ConfigError(f"{shown(path)}: is not YAML: {err}") from err


def _located(path: Path, tree: Node | None, raw: Any, problem: Problem) -> tuple[int, str]:
    """Return the line that a problem is on, and the sentence about it."""
    number, value, found = 1, raw, True
    for key in problem.key:
        node = tree
        tree, mark = _child(node, key)
        if mark is None:
            found = False
            break
        number = mark + 1
        value = value[key]
    written = f" = {_short(value)}" if found and problem.key else ""
    where = f"{dotted(problem.key)}{written}: " if problem.key else ""
    return number, f"{shown(path)}:{number}: {where}{problem.message}"


def _child(node: Node | None, key: str | int) -> tuple[Node | None, int | None]:
    """Return the node below `key` and the line, from 0, on which its key stands."""
    for name, value in node.value if isinstance(node, MappingNode) else ():
        if name.value == key:
            return value, name.start_mark.line
    if isinstance(node, SequenceNode) and isinstance(key, int):
        item = node.value[key]
        return item, item.start_mark.line
    return None, None


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{...}" if value else "{}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _explain(error: ErrorDetails, schema: type[BaseModel]) -> list[Problem]:
    """Say in the user's words what pydantic found."""
    key: Key = tuple(error["loc"])
    context = error.get("ctx", {})
    cause = context.get("error")
    kind = error["type"]
    if isinstance(cause, ContradictionError):
        return [Problem(key + p.key, p.message) for p in cause.problems]
    if cause is not None:
        message = f"{cause}."
    elif kind == "extra_forbidden":
        message = f"unknown key.{closest(str(key[-1]), _fields(schema, key[:-1]))}"
    elif kind == "missing":
        message = "is missing; it has no default."
    elif kind in ("literal_error", "enum"):
        allowed = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        message = f"must be {context.get('expected')}."
        if len(allowed) > 1:
            message += closest(str(error["input"]), allowed).partition(" Known:")[0]
    elif kind == "string_type":
        message = "must be text; put it in quotes."
    elif kind == "tuple_type":
        message = "must be a list, like [a, b]."
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        message = "must hold `key: value` lines."
    else:
        message = f"{error['msg'][0].lower()}{error['msg'][1:]}.".replace("input should", "must")
    return [Problem(key, message)]


def _fields(schema: type[BaseModel], key: Key) -> tuple[str, ...]:
    """Return the names of the fields that may stand below `key`."""
    model: Any = schema
    for part in key:
        field = model.model_fields.get(part) if _is_model(model) else None
        if field is None:
            # Below a dict, every key has a value of the dict's value type.
            continue
        model = next(
            (t for t in (field.annotation, *get_args(field.annotation)) if _is_model(t)),
            None,
        )
    return tuple(model.model_fields) if _is_model(model) else ()


def _is_model(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)
