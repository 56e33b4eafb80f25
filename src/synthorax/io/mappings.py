"""Reading mappings from YAML and JSON files within bounds, because the files may come from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from synthorax.errors import InputError

MOST_JSON_BYTES = 64 * 2**20
"""Most bytes of a JSON file; ids of a million patients take a third of it."""
MOST_YAML_BYTES = 2**18
"""Most bytes of a YAML file; a run's settings take a hundredth of it."""


MOST_YAML_DEPTH = 64
"""Most mappings and lists within each other in a YAML text, of which a run's settings have 4."""
LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader, ten times as fast, where PyYAML was built with it."""


def parse_yaml(text: str) -> Any:
    """Return the content of a YAML text: plain values, lists and mappings.

    Raises:
        ValueError: the text is not YAML, has aliases, is nested too deeply, or has a value that JSON lacks, such as a
            date.
    """
    try:
        _check_events(text)
        content = yaml.load(text, LOADER)
        json.dumps(content)
    except (yaml.YAMLError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    return content


def _check_events(text: str) -> None:
    """Refuse aliases, by which a few hundred bytes can expand to billions of values, and deep nesting."""
    depth = 0
    for event in yaml.parse(text, LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("an alias, which is not accepted")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_YAML_DEPTH:
            raise yaml.YAMLError(f"more than {MOST_YAML_DEPTH} mappings and lists within each other")


def read_mapping(path: Path, what: str = "file") -> dict[str, Any]:
    """Read the mapping of a YAML or JSON file.

    Args:
        path: path of the file.
        what: name of its content for errors, such as `configuration`.

    Raises:
        InputError: the file is damaged, too large, or does not hold a mapping.
    """
    expected = "a file that holds a mapping, as synthorax wrote it"
    try:
        if not path.is_file():
            raise InputError(path, "no regular file", expected)
        is_json = path.suffix == ".json"
        if (size := path.stat().st_size) > (most := MOST_JSON_BYTES if is_json else MOST_YAML_BYTES):
            raise InputError(path, f"{size} bytes", f"at most {most} bytes")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if is_json else parse_yaml(text)
    except (OSError, ValueError, RecursionError) as error:
        words = " ".join(str(error).split())[:120]
        raise InputError(path, f"a damaged {what} ({words})", expected) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(path, f"a damaged {what} (no mapping, but {type(content).__name__})", expected)
    return content
