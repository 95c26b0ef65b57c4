"""What a teacher that vLLM runs would have said next at each position of given texts (method.md, eq. 136).

vLLM reads a text as a prompt and tells the most probable tokens at each of its positions, over the whole vocabulary and
at temperature 1. It tells nothing of the others.

Shapes: T positions with a successor in the text, W told tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillwatt.pipelines.logit_forms import Top, form_of
from stillwatt.pipelines.spec import LogitsSpec
from stillwatt.pipelines.vllm_engine import Counter, VllmEngine, config_of_folder

__all__ = ["VllmTeacher", "vllm_teacher"]


@dataclass(slots=True)
class VllmTeacher:
    """A teacher that vLLM runs; the same for the same batches, vLLM, hardware and number of threads."""

    engine: VllmEngine
    rows: int | None = None
    """How many output rows, from the first, are told of; None for all that the teacher has."""

    @property
    def vocab_size(self) -> int:
        """Width of what is told of, rows that no token has among them."""
        return _told_rows(self.engine.directory, self.rows)[0]

    def top(self, sequences: Sequence[Sequence[int]], count: int) -> list[Top]:
        """The `count` most probable tokens at each position of each sequence but the last one.

        Raises:
            MissingInputError: vLLM is not installed.
            StillwattError: vLLM cannot load the teacher, or failed or was ended while it read.
        """
        texts = [[int(token) for token in sequence] for sequence in sequences]
        asked = [text for text in texts if len(text) > 1]
        # as many more as there are rows to leave out: so many of the most probable ones may be such
        kept, (vocab_size, left_out) = count, _told_rows(self.engine.directory, self.rows)
        count = kept + left_out
        payload = self.engine.ask({"texts": asked, "count": count})[1] if asked else b""
        rows = sum(len(text) - 1 for text in asked)
        ids, logp = np.frombuffer(payload, dtype="<i4"), np.frombuffer(payload, dtype="<f4")
        ends = np.cumsum([len(text) - 1 for text in texts])[:-1]
        ids_TW, logp_TW = ids[: rows * count].reshape(rows, count), logp[rows * count :].reshape(rows, count)
        parts = zip(np.split(ids_TW, ends), np.split(logp_TW, ends), strict=True)
        tops = [Top(ids_TW=one, logp_TW=other, vocab_size=vocab_size + left_out) for one, other in parts]
        return [top.cut(vocab_size, kept) for top in tops] if left_out else tops


@contextmanager
def vllm_teacher(
    directory: Path,
    dtype: str,
    spec: LogitsSpec,
    sequences: Sequence[Sequence[int]],
    *,
    threads: int | None,
    stage: Counter,
    rows: int | None = None,
) -> Iterator[VllmTeacher]:
    """A teacher for those sequences, whose engine starts when it is first asked and is ended with the block.

    Args:
        directory: The model's folder.
        dtype: Number format of its weights.
        spec: What is kept of what it says, and how many sequences it reads together.
        sequences: All that it will be given.
        threads: Threads of the engine; None leaves vLLM's own choice.
        stage: Told what starting took (`VllmEngine.stage`).
        rows: How many output rows, from the first, it tells of (`teacher_logits.make`).
    """
    vocab_size, left_out = _told_rows(directory, rows)
    most = min(form_of(spec, sequences).told(is_wide=True), vocab_size) + left_out
    engine = VllmEngine(
        directory,
        dtype,
        longest=max(map(len, sequences), default=0) + 1,  # with the token that vLLM draws, and that nobody reads
        batch_size=spec.batch_size,
        threads=threads,
        most_logprobs=most,
        key="teacher_logits.engine",
        stage=stage,
    )
    with closing(engine):
        yield VllmTeacher(engine, rows)


def _told_rows(directory: Path, rows: int | None) -> tuple[int, int]:
    """Rows of the output that are told of, and how many there are behind them."""
    whole = int(config_of_folder(directory)["vocab_size"])
    told = whole if rows is None else min(rows, whole)
    return told, whole - told
