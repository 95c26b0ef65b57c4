"""Whether a study's models fit each other: which output rows they share, and what a tokenizer has no token for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.models import load_tokenizer, tokenizer_sha256
from stillwatt.pipelines.objectives.vocabulary import shared_rows
from stillwatt.pipelines.spec import StudentSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PRUNED", "check_fit", "cut_rows", "num_tokens", "output_rows", "shared_output_rows", "start_of"]

PRUNED = "prune-teacher"
"""The student source that is made from the teacher."""


def num_tokens(tokenizer: PreTrainedTokenizerBase) -> int:
    """One more than a tokenizer's greatest id: output rows from there on are padding."""
    return max(tokenizer.get_vocab().values()) + 1


def output_rows(directory: Path) -> int:
    """Rows of the output layer of the model in a folder, as its configuration has them; nothing is loaded."""
    return int(_text_config(directory).vocab_size)


def _text_config(directory: Path) -> Any:
    """A model's shape; of one that reads more than text, that of the part that does."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(directory), local_files_only=True).get_text_config()


def shared_output_rows(bench: Bench) -> int | None:
    """How many output rows, from the first, the teacher and every student of the study have (method.md, eq. 59).

    All students learn from one cache, and a student with more rows than another is compared on no more of them: so is
    it by a teacher beside it. None where no teacher's weights are here.
    """
    if not bench.spec.teacher.has_weights:
        return None
    own = [start_of(bench, student) for student in bench.spec.students]
    return min(map(output_rows, [bench.teacher_place().directory, *own]))


def cut_rows(bench: Bench, rows: int | None) -> int | None:
    """To how many output rows the teacher is cut by keeping the first `rows`; None where that leaves none out.

    An endpoint's text is cut into tokens here, so that it holds no others.
    """
    if rows is None or not bench.spec.teacher.has_weights:
        return None
    return rows if rows < output_rows(bench.teacher_place().directory) else None


def start_of(bench: Bench, student: StudentSpec) -> Path:
    """A folder with a student's output layer: its start's, or the teacher's where it is to be made from that."""
    return bench.teacher_place().directory if student.source == PRUNED else bench.start_dir(student)


def check_fit(bench: Bench, student: StudentSpec) -> None:
    """Refuse a student that has not the text's tokens, or lacks a row for one of them.

    Raises:
        StillwattError: With both tokenizers' or both models' sizes.
    """
    tokenizer, is_here = bench.tokenizer(), bench.spec.teacher.has_weights
    # where no teacher is here all text is in the first student's tokens, so that the others are held against it
    first = bench.teacher_place().directory if is_here else bench.start_dir(bench.spec.students[0])
    sizes = [output_rows(directory) for directory in (first, bench.start_dir(student))]
    same = tokenizer_sha256(load_tokenizer(bench.start_dir(student))) == tokenizer_sha256(tokenizer)
    shared_rows(*sizes, num_tokens=num_tokens(tokenizer), same_tokens=same, student=student.name)
