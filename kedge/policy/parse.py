"""From a file to a policy, with errors that name file, line and field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from yaml.constructor import ConstructorError, SafeConstructor

from kedge.errors import PolicyError
from kedge.policy.data import FILED, Source
from kedge.policy.policy import Policy
from kedge.policy.section import Section

MAX_BYTES = 1_000_000
MAX_LEVELS = 20


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise PolicyError(f"{path}: cannot be read: {exc.strerror}") from exc
    if len(raw) > MAX_BYTES:
        raise PolicyError(f"{path}: {len(raw):,} bytes; a policy has at most {MAX_BYTES:,}")
    return raw


def load(path: str | Path) -> Policy:
    """Read a policy file; relative locations of data and code become absolute, seen from the file's folder.

    Raises:
        PolicyError: the file cannot be read, is not YAML, or breaks a rule; all faults are named at once, each with
            its line.
    """
    path = Path(path)
    raw = _bytes(path)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = raw[: exc.start].count(b"\n") + 1
        raise PolicyError(f"{path}:{line}: not UTF-8: byte 0x{raw[exc.start]:02x}; save the file as UTF-8") from exc
    return read(text, path)


def _composed(text: str, path: Path) -> tuple[yaml.Node | None, Any]:
    """The document's nodes, which know their lines, and its value."""
    try:
        _refuse_growth(text, path)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
        _refuse_duplicates(node, path)
        return node, None if node is None else _Constructor().construct_document(node)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise PolicyError(f"{path}:{line}: not valid YAML: {exc.problem}") from exc
    except yaml.reader.ReaderError as exc:
        line = text[: exc.position].count("\n") + 1
        raise PolicyError(f"{path}:{line}: not valid YAML: {exc.reason}") from exc
    except UnicodeEncodeError as exc:
        line = text[: exc.start].count("\n") + 1
        raise PolicyError(f"{path}:{line}: not valid YAML: half a character, {text[exc.start]!r}") from exc


def read(text: str, path: str | Path) -> Policy:
    """Read the text of a policy file, which need not be written yet; else as :func:`load`.

    Raises:
        PolicyError: as :func:`load`.
    """
    path = Path(path)
    node, value = _composed(text, path)
    if value is None:
        raise PolicyError(f"{path}:1: empty; `kedge init TABLE` writes a first policy from a table")
    if not isinstance(value, dict):
        raise PolicyError(f"{path}:1: a policy is a mapping of sections, got {_kind(value)}")
    _refuse_values(value, path, node)
    policy = _validated(value, str(path), node)
    return _resolved(policy, path.parent)


def _refuse_values(value: dict[str, Any], path: Path, node: yaml.Node | None) -> None:
    if "model" not in value and isinstance(value.get("models"), list):
        raise PolicyError(
            f"{path}:{_line(node, ('models',))}: models: these are values of kedge's chart, no policy. Check the file "
            "that a policy was copied from (each stands below `models[].policy`); the chart checks its values itself: "
            f"helm template charts/kedge --values {path}"
        )


class _Constructor(SafeConstructor):
    """Plain values of YAML; what looks like a day or a number and is none is an error with its line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as exc:  # 2026-13-45; 0b_; a number of 5,000 digits
            said = f"{_shown(node.value)} cannot be read ({exc}); in quotes it is text"
            raise ConstructorError(None, None, said, node.start_mark) from exc


def parse(value: Mapping[str, Any], *, place: str = "policy") -> Policy:
    """Read a policy from plain values, as a pipeline parameter carries it.

    The KFP local runner turns nested integers into floats (1 becomes 1.0); a float without a fraction is read as the
    integer it was.

    Raises:
        PolicyError: a rule is broken; ``place`` begins each line of the message.
    """
    return _validated(dict(value), place, None)


def line_of(path: str | Path, field: Sequence[str]) -> int | None:
    """The line of a policy file that a field stands on, or the deepest section around it; None if it has no lines.

    For what only the world beyond the file can tell: whether a column is in the table, for instance.
    """
    try:
        return _line(yaml.compose(Path(path).read_text("utf-8"), Loader=yaml.CSafeLoader), tuple(field))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def schema() -> dict[str, Any]:
    """The policy's JSON Schema (draft 2020-12), every field described."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Policy.model_json_schema()}


def _validated(value: dict[str, Any], place: str, node: yaml.Node | None) -> Policy:
    try:
        return Policy.model_validate(value)
    except ValidationError as exc:
        lines = [_describe(error, place, node) for error in _causes_first(exc.errors(), value)]
        raise PolicyError("\n".join(lines)) from None


def _causes_first(errors: Sequence[ErrorDetails], value: Mapping[str, Any]) -> list[ErrorDetails]:
    """Unknown fields before all else: what is misspelt is also missing, or has its default.

    So a negative label is not held against the default of a `positive_label` that may be the misspelt one.
    """
    unknown = [error for error in errors if error["type"] == "extra_forbidden"]
    others = [error for error in errors if error["type"] != "extra_forbidden"]
    if any(error["loc"][:-1] == ("model",) for error in unknown) and "positive_label" not in value["model"]:
        others = [error for error in others if error["loc"] != ("model", "negative_label")]
    return unknown + others


def _describe(error: ErrorDetails, place: str, node: yaml.Node | None) -> str:
    path = tuple(part for part in error["loc"] if part != "[key]")
    field = ".".join(str(part) for part in path) or "policy"
    line = _line(node, path)
    where = f"{place}:{line}: {field}" if line else f"{place}: {field}"
    seen = error.get("input")
    match error["type"]:
        case "extra_forbidden":
            allowed = _fields_at(path[:-1])
            close = difflib.get_close_matches(str(path[-1]), allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            return f"{where}: unknown field{hint or ';'} allowed here: {', '.join(allowed)}"
        case "missing":
            return f"{where}: missing, and it has no default"
        case "value_error":
            return f"{where}: {error['ctx']['error']}"
        case "timezone_aware":
            return f"{where}: say where its clock is, such as 2026-03-29T02:30:00Z (UTC) or 2026-03-29T02:30:00+01:00"
        case _:
            message = re.sub(r"^\w+ should ", "must ", error["msg"])
            return f"{where}: {message}, got {_shown(seen)}"


def _fields_at(path: tuple[int | str, ...]) -> list[str]:
    """Names a mapping at this path may have, walking the models by their annotations."""
    held: Any = Policy
    for part in path:
        section = _section(held)
        if section is not None:
            name = section.EARLIER.get(str(part), str(part))
            held = section.model_fields[name].annotation if name in section.model_fields else None
        else:  # an item of a list, or a value of a mapping
            held = next((args[-1] if isinstance(part, str) else args[0] for args in _arguments(held)), None)
    section = _section(held)
    return [] if section is None else list(section.model_fields)


def _section(held: Any) -> type[Section] | None:
    """The section that a field is, perhaps beside None."""
    options = (held, *get_args(held))
    if not isinstance(held, type) and get_origin(held) in (list, tuple, dict):
        return None
    return next((each for each in options if isinstance(each, type) and issubclass(each, Section)), None)


def _arguments(held: Any) -> Iterator[tuple[Any, ...]]:
    """What lists and mappings hold, those beside None too."""
    for each in (held, *get_args(held)):
        if get_origin(each) in (list, tuple, dict):
            yield get_args(each)


def _line(node: yaml.Node | None, path: tuple[int | str, ...]) -> int | None:
    """Line of the deepest node along the path that exists, counted from 1."""
    if node is None:
        return None
    line = node.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _refuse_growth(text: str, path: Path) -> None:
    """Aliases can make a small file endless, deep nesting can exhaust the reader, tags make values what they do not
    look like; a policy needs none of them."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise PolicyError(f"{path}:{line}: alias *{event.anchor}: write the value out; a policy has no aliases")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise PolicyError(f"{path}:{line}: tag {tag}: write the plain value; a policy has no tags")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_LEVELS:
            raise PolicyError(f"{path}:{line}: nested deeper than {MAX_LEVELS} levels; no field of a policy is")


def _refuse_duplicates(node: yaml.Node | None, path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise PolicyError(f"{path}:{key.start_mark.line + 1}: a list or a mapping cannot be a field's name")
            if key.value in seen:
                raise PolicyError(f"{path}:{key.start_mark.line + 1}: {key.value!r} is given twice in one mapping")
            seen.add(key.value)
            _refuse_duplicates(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item, path)


def _resolved(policy: Policy, folder: Path) -> Policy:
    data = policy.data
    source = _absolute(data.source, folder)
    labels = data.labels
    if labels is not None:
        labels = labels.model_copy(update={"source": _absolute(labels.source, folder)})
    code = policy.code
    if code is not None and "://" not in code and not code.startswith("sha256:"):
        code = str((folder / code).resolve())
    data = data.model_copy(update={"source": source, "labels": labels})
    return policy.model_copy(update={"data": data, "code": code})


def _absolute(source: Source, folder: Path) -> Source:
    if source.format not in FILED or "://" in source.location:
        return source
    location = Path(source.location)
    if location.is_absolute():
        return source
    return source.model_copy(update={"location": str((folder / location).resolve())})


def _kind(value: object) -> str:
    return {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}.get(
        type(value), type(value).__name__
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
