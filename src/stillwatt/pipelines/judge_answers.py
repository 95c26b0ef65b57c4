"""The questions that a judge's subjects answer, and their answers on disk.

Questions are pieces of held-out text, the same for every model; an answer is what a model goes on with. Empty answers
are kept and judged: a model that says nothing has said that.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stillwatt.errors import StillwattError
from stillwatt.metering.meter import Stage
from stillwatt.pipelines.artifacts import file_sha256, write_json
from stillwatt.pipelines.bos import without_bos
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.sampling import TextWriter
from stillwatt.pipelines.spec_evaluate import JudgeSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Piece", "decoded", "judged_pieces", "needed_tokens", "read_answers", "shuffled", "write_answers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Held-out text, cut in two."""

    prompt: tuple[int, ...]
    really: tuple[int, ...]
    """What followed."""


def needed_tokens(spec: JudgeSpec) -> int:
    """Held-out tokens that the questions want, with as many again for what documents' ends leave over."""
    return 2 * spec.prompts * (spec.prompt_tokens + spec.answer_tokens)


def judged_pieces(
    documents: Sequence[npt.NDArray[np.int32]], spec: JudgeSpec, bos_ids: tuple[int, ...] = ()
) -> list[Piece]:
    """Cut the questions side by side from the held-out documents, and draw as many as are wanted by `spec.seed`.

    The BOS, where there is one, stands before every prompt.

    Raises:
        StillwattError: The held-out text holds too few.
    """
    documents = [without_bos(ids, bos_ids) for ids in documents]
    length, prompt = spec.prompt_tokens + spec.answer_tokens, spec.prompt_tokens
    starts = [
        (index, start) for index, ids in enumerate(documents) for start in range(0, len(ids) - length + 1, length)
    ]
    if len(starts) < spec.prompts:
        raise StillwattError(
            f"evaluate.judge.prompts = {spec.prompts}, but the held-out text holds {len(starts)} pieces of "
            f"{prompt} + {spec.answer_tokens} tokens; lower it or them, or raise data.held_out_share"
        )
    random.Random(spec.seed).shuffle(starts)
    pieces = [documents[index][start : start + length].tolist() for index, start in starts[: spec.prompts]]
    return [Piece(prompt=(*bos_ids, *ids[:prompt]), really=tuple(ids[prompt:])) for ids in pieces]


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of tokens, without those that only end or pad it."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def shuffled(text: str, seed: int) -> str:
    """The text's own words in an order drawn by the seed, with single spaces between them.

    >>> sorted(shuffled("a  b c", 1).split())
    ['a', 'b', 'c']
    """
    words = text.split()
    random.Random(seed).shuffle(words)
    return " ".join(words)


def write_answers(
    writer: TextWriter,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    spec: JudgeSpec,
    path: Path,
    *,
    labels: Mapping[str, str],
    batch_size: int,
    stage: Stage,
    task: Task,
    ranks: Ranks,
) -> dict[str, Any]:
    """Let a model answer every question, and keep the texts in a file.

    Tokens counted are the prompts' and those generated, each end token included. Ranks share the questions batch by
    batch; each counts its own, and the first one keeps the texts.

    Returns:
        What the judge's stage needs to know: the file's hash, the stage's labels, and how much was written; nothing on
        a rank that keeps none.
    """

    def write(firsts: Sequence[int]) -> Iterator[list[list[int]]]:
        for first in firsts:
            batch = prompts[first : first + batch_size]
            completions = writer.write(batch, spec.seed + first)
            new, read = sum(map(len, completions)), sum(map(len, batch))
            stage.add(tokens=read + new, generated_tokens=new, samples=len(batch))
            task.advance((read + new) * ranks.count)
            yield completions

    batches = ranks.divide(range(0, len(prompts), batch_size), lambda firsts: [*write(firsts)])
    if not ranks.is_first:
        return {}
    texts = [decoded(tokenizer, completion) for completions in batches for completion in completions]
    generated = sum(len(completion) for completions in batches for completion in completions)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"texts": texts})
    return {
        "sha256": file_sha256(path),
        "labels": dict(labels),
        "count": len(texts),
        "empty": sum(not text.strip() for text in texts),
        "generated_tokens": generated,
    }


def read_answers(path: Path, kept: Mapping[str, Any]) -> list[str]:
    """The answers that an evaluation left.

    Raises:
        StillwattError: The file is gone, or no longer what the evaluation wrote.
    """
    try:
        data = path.read_bytes()
    except OSError as err:
        raise StillwattError(f"{path}: the answers that are to be judged are gone ({err}); begin a new run") from err
    if hashlib.sha256(data).hexdigest() != kept["sha256"]:
        raise StillwattError(f"{path}: the answers have changed since they were written; begin a new run")
    texts: list[str] = json.loads(data)["texts"]
    return texts
