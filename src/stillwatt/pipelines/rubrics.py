"""What a judge is asked: a text with places for the question and the answers, built in or from a file.

A built-in rubric never changes under its name: a better one gets the next number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stillwatt.errors import MissingInputError, StillwattError, UnknownNameError

__all__ = ["BUILT_IN", "PLACES", "Rubric", "read_rubric"]

PLACES: Mapping[str, tuple[str, ...]] = {
    "pairwise": ("question", "answer_a", "answer_b"),
    "score": ("question", "answer"),
}
"""What a rubric must have a place for, by mode."""

BUILT_IN: Mapping[str, tuple[str, str]] = {
    "continuation-pairwise-1": (
        "pairwise",
        "Here is the beginning of a text, and two ways to go on with it.\n\n"
        "Beginning:\n{question}\n\n"
        "Continuation A:\n{answer_a}\n\n"
        "Continuation B:\n{answer_b}\n\n"
        "Which continuation is more correct, more coherent and fits the beginning better? Answer with the letter A or "
        "B alone.\n"
        "The better continuation is",
    ),
    "continuation-grade-1": (
        "score",
        "Here is the beginning of a text, and a way to go on with it.\n\n"
        "Beginning:\n{question}\n\n"
        "Continuation:\n{answer}\n\n"
        "How correct, coherent and fitting is the continuation, from 1 (nonsense) to 5 (as good as the real text)? "
        "Answer with the number alone.\n"
        "Grade:",
    ),
}
"""Mode and text by name."""

_PLACE = re.compile(r"\{(question|answer|answer_a|answer_b)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric:
    """A text with places."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """What tells it from others, whatever it is called."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    def fill(self, **texts: str) -> str:
        """The text with its places filled, in one pass: what an answer holds is never taken for a place.

        >>> Rubric(name="r", text="{question} | {answer}").fill(question="{answer}", answer="x")
        '{answer} | x'
        """
        return _PLACE.sub(lambda found: texts[found.group(1)], self.text)


def read_rubric(source: str, mode: str) -> Rubric:
    """Take a built-in rubric, or read one from a file.

    Args:
        source: A name of `BUILT_IN`, or `path:FILE`.
        mode: `pairwise` or `score`.

    Raises:
        MissingInputError: The file cannot be read.
        StillwattError: The rubric is for the other mode, or lacks a place, or has one of the other mode's.
        UnknownNameError: There is none of that name.
    """
    if source.startswith("path:"):
        text, name = _from_file(Path(source.removeprefix("path:")).expanduser()), source
    elif source in BUILT_IN:
        text, name = BUILT_IN[source][1], source
    else:
        raise UnknownNameError("rubric", source, (*BUILT_IN, "path:FILE"))
    wanted, found = set(PLACES[mode]), set(_PLACE.findall(text))
    if found != wanted:
        missing, foreign = sorted(wanted - found), sorted(found - wanted)
        parts = [f"has no place for {_named(missing)}"] if missing else []
        parts += [f"has a place for {_named(foreign)}, which mode {mode} does not fill"] if foreign else []
        needed = _named(PLACES[mode])
        raise StillwattError(f"rubric {name} {' and '.join(parts)}; a rubric of mode {mode} holds {needed}")
    return Rubric(name=name, text=text)


def _named(places: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{{{place}}}" for place in places)


def _from_file(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")  # the mark that some editors begin a file with is no text
    except (OSError, UnicodeDecodeError) as err:
        cure = "write the text that the judge is to read, in UTF-8, or name a built-in rubric"
        raise MissingInputError("a judge's rubric", str(path), f"{cure} ({', '.join(BUILT_IN)}; {err})") from err
    # editors end a file with a line end, behind which no verdict would follow
    return text.removesuffix("\n")
