"""What can be said of the files of text that a recipe names, with no model and no tokenizer at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from stillwatt.config.corpus_file import check_size, read_corpus
from stillwatt.config.problem import Place, Problem
from stillwatt.errors import MissingInputError, StillwattError
from stillwatt.pipelines.documents import check_corpus
from stillwatt.pipelines.harness_check import check_include_path
from stillwatt.pipelines.prompts import check_prompts, count_asked
from stillwatt.pipelines.spec import PipelineSpec

__all__ = ["Look", "look_into"]

Found = TypeVar("Found")


@dataclass(slots=True)
class Look:
    """What was found."""

    problems: list[Problem] = field(default_factory=list)
    cautions: tuple[str, ...] = ()
    """A file that is not here, since a recipe may be checked on another machine; prompts that come again."""

    def at(self, place: Place, look: Callable[[], Found]) -> Found | None:
        """What is found there; None where it is not here, or wrong."""
        try:
            return look()
        except MissingInputError as err:
            self.cautions += (f"{'.'.join(map(str, place))}: {err}; it was not looked into",)
        except StillwattError as err:
            self.problems.append(Problem(place=place, message=str(err)))
        return None


def look_into(spec: PipelineSpec) -> Look:
    """Read the rows of each file of text, prompts or seeds, and hold what they can give against the budget."""
    found, generate, own = Look(), spec.generate, spec.own_text
    corpus = found.at(("data", "source"), lambda: read_corpus(spec.data))
    if corpus is not None:
        found.at(("data", "predict"), lambda: check_corpus(spec.data))
        found.at(("data", "train_tokens"), lambda: check_size(spec.data, corpus))
    if generate is not None:
        key = "prompts" if generate.seeds is None else "seeds"
        found.at(("teacher_generate", key), lambda: check_prompts(generate, spec.data.text_tokens))
    found.at(("evaluate", "lm_eval_include_path"), lambda: check_include_path(spec.evaluate))
    if own is not None and own.has_file:
        rows = found.at(("student_generate", "prompts"), lambda: count_asked(own))
        sequences = spec.data.sequences * spec.data.epochs
        if rows is not None and rows < sequences:
            found.cautions += (
                f"student_generate.prompts: {rows:,} prompts for the {sequences:,} sequences of a training: they are "
                "taken again, in a new order each time",
            )
    return found
