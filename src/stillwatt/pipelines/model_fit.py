"""Whether a study's models fit each other and its text: which output rows they share, how long a text may be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stillwatt.errors import StillwattError
from stillwatt.pipelines.adapters import check_targets
from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.models import CausalModel, load_tokenizer, tokenizer_sha256
from stillwatt.pipelines.objectives.vocabulary import shared_rows
from stillwatt.pipelines.spec import GenerateSpec, StudentSpec
from stillwatt.pipelines.spec_text import OwnTextSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "PRUNED",
    "check_adapters",
    "check_fit",
    "check_kept",
    "check_lengths",
    "cut_rows",
    "num_tokens",
    "output_rows",
    "shared_output_rows",
    "start_of",
]

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

    try:
        return AutoConfig.from_pretrained(str(directory), local_files_only=True).get_text_config()
    except (OSError, ValueError, KeyError) as err:
        words = " ".join(str(err).split())
        raise StillwattError(f"{directory}: its config.json is of no model that can be loaded here ({words})") from err


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


def check_kept(bench: Bench) -> None:
    """Refuse a logit cache of more tokens than the teacher, cut to the rows that a student has too, can tell apart.

    Raises:
        StillwattError: With the key and how many there are.
    """
    logits, rows = bench.spec.logits, shared_output_rows(bench)
    if logits is None or rows is None:
        return
    if (problem := logits.too_many_kept(rows)) is not None:
        raise StillwattError(f"teacher_logits.top_k: {problem}; lower it to {rows} or less")


def check_lengths(bench: Bench) -> None:
    """Refuse texts longer than a model has positions for; caution of such as are longer than it was made for.

    A table of positions has no row for a token beyond its end. Positions that are computed, as rotary ones are, go on;
    what a model makes of them is another matter.

    Raises:
        StillwattError: With the model, its number of positions and the recipe's key.
    """
    spec, texts = bench.spec, {"data.sequence_tokens": bench.spec.data.sequence_tokens}
    if spec.serve is not None:
        texts["serve.prompt_tokens + serve.new_tokens"] = spec.serve.prompt_tokens + spec.serve.new_tokens
    if spec.teacher.has_weights:
        written = {} if spec.generate is None else _written("teacher_generate", spec.generate)
        _check_length(bench, "the teacher", bench.teacher_place().directory, {**texts, **written})
    written = {} if spec.own_text is None else _written("student_generate", spec.own_text)
    for student in spec.students:
        _check_length(bench, f"student {student.name!r}", start_of(bench, student), {**texts, **written})


def _written(table: str, drawn: GenerateSpec | OwnTextSpec) -> dict[str, int]:
    return {f"{table}.prompt_tokens + {table}.max_new_tokens": drawn.prompt_tokens + drawn.max_new_tokens}


def _check_length(bench: Bench, what: str, directory: Path, texts: dict[str, int]) -> None:
    key, longest = max(texts.items(), key=lambda text: text[1])
    config = _text_config(directory)
    made_for = getattr(config, "max_position_embeddings", None)
    if not isinstance(made_for, int) or longest <= made_for:
        return
    rows = min(table_rows(directory), default=None)
    if rows is not None and longest > rows:
        raise StillwattError(
            f"{what} ({directory}) has a table of positions for texts of {rows} tokens, and {key} makes them "
            f"{longest} long: lower it, or choose a model that reads longer texts"
        )
    message = (
        f"caution: {what} ({directory}) is made for texts of {made_for} tokens (max_position_embeddings), and {key} "
        f"makes them {longest} long: what it says beyond is not what it was trained for"
    )
    bench.announce(message)
    bench.meter.write("warning", message=message)


def table_rows(directory: Path) -> Iterator[int]:
    """Texts of how many tokens each table of positions of a model is for; nothing where they are computed.

    The model in the folder is put together without memory for its weights.
    """
    model = _empty_model(directory)
    if model is None:
        return
    for name, part in model.get_decoder().named_modules():
        own = name.rpartition(".")[2]
        if isinstance(part, torch.nn.Embedding) and _is_absolute(own):
            # some begin behind a few rows that stand for no place
            before = getattr(part, "offset", 0) if part.padding_idx is None else part.padding_idx + 1
            yield part.num_embeddings - int(before)
    for name, table in model.get_decoder().named_buffers():
        if table.ndim == 2 and _is_absolute(name.rpartition(".")[2]):
            yield len(table)


def check_adapters(bench: Bench) -> None:
    """Refuse layers to be adapted that a student does not have.

    Raises:
        StillwattError: With the student, and the layers that it has.
    """
    lora = bench.spec.train.lora
    for student in () if lora is None else bench.spec.students:
        model = _empty_model(start_of(bench, student))
        if lora is not None and model is not None:
            check_targets(model, lora, f"student {student.name!r}")


def _empty_model(directory: Path) -> CausalModel | None:
    """The model in a folder, without memory for its weights; None where whoever loads it will say what is wrong."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(str(directory), local_files_only=True)
    try:
        with init_empty_weights(include_buffers=False):
            return AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    except ValueError:
        return None  # no causal language model


def _is_absolute(name: str) -> bool:
    """Whether a table of that name is of places in the text, as the families of transformers name them.

    >>> [_is_absolute(name) for name in ("wpe", "embed_positions", "position_embeddings", "relative_position_bias")]
    [True, True, True, False]
    """
    return (name == "wpe" or "pos" in name) and "rel" not in name and "ids" not in name
