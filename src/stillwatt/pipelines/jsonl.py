"""Files of one JSON object a line, as recipes name them: corpora, prompts, seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stillwatt.errors import MissingInputError, StillwattError

__all__ = ["read_rows", "read_text"]


def read_rows(path: Path, what: str, form: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects; empty lines are passed over.

    Args:
        path: The file.
        what: What it is to the recipe, for messages: `the corpus`.
        form: How a line should look, for messages.

    Raises:
        MissingInputError: It is not there, or cannot be read.
        StillwattError: It is empty, no UTF-8, or a line is no JSON object; with the line's number.
    """
    # not `splitlines`: JSON may hold other ends of lines than this one
    lines = [(n, line) for n, line in enumerate(read_text(path, what, form).split("\n"), start=1) if line.strip()]
    if not lines:
        raise StillwattError(f"{path}: the file is empty; give {form}")
    for number, line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as err:  # the latter where brackets are nested by the thousand
            raise StillwattError(f"{path}:{number}: not JSON ({err})") from err
        if not isinstance(row, dict):
            raise StillwattError(f"{path}:{number}: expected an object: {form}")
        yield number, row


def read_text(path: Path, what: str, form: str) -> str:
    """The file's text.

    Raises:
        MissingInputError: It is not there, or cannot be read.
        StillwattError: It is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except UnicodeDecodeError as err:
        raise StillwattError(f"{path}: not UTF-8 text ({err}); save it as such") from err
    except OSError as err:
        raise MissingInputError(what, str(path), f"give a file with {form}") from err
