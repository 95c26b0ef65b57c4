"""What is gone on from: beginnings of training text, prompts of a file, or examples drawn from a set of seeds.

A prompt of the first two kinds stays before the completion in the student's text and is not supervised; a student that
writes for itself begins with such prompts, too. Examples are shown to the teacher alone: a student's text is the new
sample, as if it were a document of a corpus.
"""

from __future__ import annotations

import hashlib
import math
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillwatt.errors import StillwattError
from stillwatt.pipelines.bos import last_with_bos, with_bos
from stillwatt.pipelines.jsonl import read_rows, read_text
from stillwatt.pipelines.prompt_bounds import check_enough
from stillwatt.pipelines.spec import GenerateSpec
from stillwatt.pipelines.spec_text import CORPUS, Asking

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "PROMPT_PLACE",
    "SEED_PLACE",
    "SEED_TEMPLATE",
    "NewSample",
    "PromptSet",
    "Said",
    "check_prompts",
    "count_asked",
    "file_prompts",
    "first_conversation",
    "given_prompts",
    "prompts_identity",
    "seed_prompts",
    "seed_template",
    "source_of",
]

Said = str | Sequence[Mapping[str, Any]]
"""What is put to a teacher that takes words: a text to go on from, or the messages of a conversation."""
PROMPT_PLACE = "{prompt}"
"""Where a plain prompt stands in its template."""
SEED_PLACE = "{text}"
"""Where an example stands in its template."""
SEED_TEMPLATE = "{text}\n\n"
"""The template of examples where none is given."""
_MOST_DRAWN = 10_000
"""Prompts that are drawn from seeds for one round, at most."""
_FORM = 'one {"prompt": ...} or {"messages": [...]} a line'
_SEED_FORM = 'one {"text": ...} a line'


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSample:
    """Where a sample that was written after examples ends: before the text that stands between two examples."""

    separator: str
    tokenizer: PreTrainedTokenizerBase
    seeds: frozenset[str]
    """Texts that were shown; a copy of one of them is no new sample."""
    bos_ids: tuple[int, ...] = ()
    """What a sample begins with in the student's text, as every document does."""

    def is_complete(self, tokens: Sequence[int]) -> bool:
        """Whether the separator has been written."""
        return self.separator in self._text(tokens)

    def cut(self, tokens: Sequence[int]) -> tuple[list[int], int]:
        """The sample with an end token in place of the separator, and how many of the tokens it is made of.

        A token that reaches across the border is replaced by those of its part before it. Without a separator the
        tokens are left as they are.
        """
        text = self._text(tokens)
        border = text.find(self.separator)
        if border < 0:
            return list(tokens), len(tokens)
        whole = bisect_right(range(len(tokens) + 1), border, key=lambda n: len(self._text(tokens[:n]))) - 1
        rest = _ids(self.tokenizer, text[len(self._text(tokens[:whole])) : border])
        return [*tokens[:whole], *rest, int(self.tokenizer.eos_token_id)], whole

    def is_copy(self, tokens: Sequence[int]) -> bool:
        """Whether a sample's text, without its end token, is one of the seeds."""
        return self._text(tokens).strip() in self.seeds

    def seed_ids(self) -> list[list[int]]:
        """The seeds' own tokens, to compare with."""
        return [_ids(self.tokenizer, seed) for seed in sorted(self.seeds)]

    def _text(self, tokens: Sequence[int]) -> str:
        # special tokens stay: a separator may hold one
        return str(self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """Prompts as token ids, and what became of those that were read."""

    ids: tuple[tuple[int, ...], ...]
    counts: Mapping[str, int]
    """`read` rows (or prompts drawn); of them `cut`, `refused` and `answers_left_out`."""
    sample: NewSample | None = None
    """Where examples are shown; None where the prompt is part of the student's text."""
    said: tuple[Said | None, ...] = ()
    """Of each prompt, as it was before it became tokens; None where it was cut. Empty where there are tokens alone."""


def source_of(spec: GenerateSpec) -> Path | None:
    """The file that prompts or seeds are in; None where the teacher continues training text."""
    source = spec.seeds if spec.seeds is not None else spec.prompts
    return None if source == CORPUS else _path(source)


def _path(source: str) -> Path:
    return Path(source.removeprefix("path:")).expanduser()


def prompts_identity(spec: GenerateSpec, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What the prompts are made of, for an artefact's name: hashes of the file and of the chat template."""
    path = source_of(spec)
    assert path is not None  # asked where there is one
    template = str(getattr(tokenizer, "chat_template", None))
    return {
        "kind": "prompts" if spec.seeds is None else "seeds",
        "sha256": hashlib.sha256(read_text(path, "the prompts", _FORM).encode()).hexdigest(),
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
    }


def check_prompts(spec: GenerateSpec, needed_tokens: int = 0) -> None:
    """Refuse, before anything is spent, a file that no prompts, or too few, can be made of.

    Raises:
        MissingInputError: It is not there.
        StillwattError: It is empty, a row is not as it should be, there are fewer seeds than shots, or the prompts
            cannot give `needed_tokens`, however long they and their completions are.
    """
    path = source_of(spec)
    if path is None:
        return
    if spec.seeds is None:
        count = count_asked(spec)
    else:
        _seeds(path, spec.shots)
        count = _num_drawn(spec, needed_tokens)
    check_enough(spec, needed_tokens, count, count * spec.prompt_tokens)


def first_conversation(spec: GenerateSpec) -> str | None:
    """Where the first conversation of a file of prompts stands; None where there is none.

    Raises:
        MissingInputError: The file is not there.
        StillwattError: It is empty, or a row is not as it should be.
    """
    path = source_of(spec)
    if path is None or spec.seeds is not None:
        return None
    return next((asked.place for asked in _asked(path, spec) if asked.messages), None)


def count_asked(spec: Asking) -> int:
    """Prompts of a file, as many as there are rows.

    Raises:
        MissingInputError: It is not there.
        StillwattError: It is empty, or a row is not as it should be.
    """
    return len(_asked(_path(spec.prompts), spec))


def given_prompts(
    spec: GenerateSpec, tokenizer: PreTrainedTokenizerBase, needed_tokens: int, bos_ids: tuple[int, ...] = ()
) -> PromptSet:
    """The teacher's prompts where they come from a file, of prompts or of seeds.

    Raises:
        StillwattError: As `file_prompts` and `seed_prompts`, or all of them together cannot give `needed_tokens`.
    """
    if spec.seeds is None:
        found = file_prompts(spec, tokenizer, bos_ids)
    else:
        found = seed_prompts(spec, tokenizer, needed_tokens, bos_ids)
    check_enough(spec, needed_tokens, len(found.ids), sum(map(len, found.ids)))
    return found


def file_prompts(spec: Asking, tokenizer: PreTrainedTokenizerBase, bos_ids: tuple[int, ...] = ()) -> PromptSet:
    """The prompts of a file, in its order.

    A row's `prompt` is put into the template, where there is one. With `chat` it is then the user's message of a
    conversation; without, it is the text itself. A row's `messages` are a conversation as they are; an assistant's
    message at their end is left out, as the teacher writes its own. Conversations go through the tokenizer's chat
    template, which opens the assistant's turn. No special tokens are added beyond those the template writes, but for
    the BOS that the tokenizer puts before every text (`bos_ids`), where the template has not.

    Raises:
        StillwattError: The file cannot be used, the tokenizer has no chat template and a conversation needs one, or no
            prompt is short enough.
    """
    path = _path(spec.prompts)
    prompts, counts = list[tuple[int, ...]](), dict.fromkeys(("read", "cut", "refused", "answers_left_out"), 0)
    said = list[Said | None]()
    for asked in _asked(path, spec):
        counts["read"] += 1
        counts["answers_left_out"] += asked.has_answer
        ids = _ids(tokenizer, asked.as_text(tokenizer, spec.table))
        said += _add(ids, asked.place, spec, prompts, counts, bos_ids, said=asked.messages or asked.text)
    return PromptSet(ids=_some(prompts, path, spec), counts=counts, said=tuple(said))


def seed_prompts(
    spec: GenerateSpec, tokenizer: PreTrainedTokenizerBase, needed_tokens: int, bos_ids: tuple[int, ...] = ()
) -> PromptSet:
    """Prompts of a few examples each, drawn without repeats from the seeds; the teacher goes on with another.

    Each example fills the template's place; behind the last one stands what the template has before its place,
    without spaces at its end, as tokens of words carry the space before them. There is one prompt for every
    `max_new_tokens` of the budget, at most 10,000; a further round shows the same examples and samples anew.

    Raises:
        StillwattError: The file cannot be used, has fewer seeds than shots, or no prompt is short enough.
    """
    path = source_of(spec)
    assert path is not None  # asked where there is one
    seeds = _seeds(path, spec.shots)
    before, after = seed_template(spec.template)
    count = _num_drawn(spec, needed_tokens)
    rng = random.Random(spec.shots_seed)
    prompts, counts = list[tuple[int, ...]](), dict.fromkeys(("read", "cut", "refused"), 0)
    said = list[Said | None]()
    for number in range(count):
        counts["read"] += 1
        shown = "".join(f"{before}{seed}{after}" for seed in rng.sample(seeds, spec.shots)) + before.rstrip(" ")
        said += _add(_ids(tokenizer, shown), f"draw {number + 1}", spec, prompts, counts, bos_ids, said=shown)
    known = frozenset(seed.strip() for seed in seeds)
    sample = NewSample(separator=after, tokenizer=tokenizer, seeds=known, bos_ids=bos_ids)
    return PromptSet(ids=_some(prompts, path, spec), counts=counts, sample=sample, said=tuple(said))


def _num_drawn(spec: GenerateSpec, needed_tokens: int) -> int:
    return min(_MOST_DRAWN, max(1, math.ceil(needed_tokens / spec.max_new_tokens)))


def seed_template(template: str | None) -> tuple[str, str]:
    r"""What stands before and behind an example.

    >>> seed_template("Question: {text}\n")
    ('Question: ', '\n')
    """
    before, _, after = (template or SEED_TEMPLATE).partition(SEED_PLACE)
    return before, after


def _add(
    text: Sequence[int],
    place: str,
    spec: Asking,
    prompts: list[tuple[int, ...]],
    counts: dict[str, int],
    bos_ids: tuple[int, ...],
    *,
    said: Said,
) -> list[Said | None]:
    """Take a prompt in, if its length allows; one that is too long is cut from the left or left out, and counted.

    Returns what it says, nothing where it is left out.
    """
    if not text:
        raise StillwattError(f"{place}: the prompt has no tokens; remove the row")
    ids = with_bos(text, bos_ids)
    if len(ids) > spec.prompt_tokens:
        counts["cut" if spec.long_prompts == "cut" else "refused"] += 1
        if spec.long_prompts != "cut":
            return []
    prompts.append(tuple(last_with_bos(ids, spec.prompt_tokens, bos_ids)))
    return [said if len(ids) <= spec.prompt_tokens else None]


def _some(prompts: Sequence[tuple[int, ...]], path: Path, spec: Asking) -> tuple[tuple[int, ...], ...]:
    if not prompts:
        others = ', show fewer, or set long_prompts = "cut"' if isinstance(spec, GenerateSpec) else ""
        raise StillwattError(
            f"{path}: every prompt has more than {spec.prompt_tokens} tokens; raise {spec.table}.prompt_tokens{others}"
        )
    return tuple(prompts)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a row asks: a text to go on with, or the messages of a conversation."""

    place: str
    text: str = ""
    messages: Sequence[Mapping[str, str]] = ()
    has_answer: bool = False
    """Whether an assistant's message at the end was left out."""

    def as_text(self, tokenizer: PreTrainedTokenizerBase, table: str) -> str:
        """What is read; `table` has the settings."""
        return _chat_text(tokenizer, self.messages, self.place, table) if self.messages else self.text


def _asked(path: Path, spec: Asking) -> list[_Asked]:
    return [_parse(f"{path}:{number}", row, spec) for number, row in read_rows(path, "the prompts", _FORM)]


def _parse(place: str, row: Mapping[str, Any], spec: Asking) -> _Asked:
    prompt, messages = row.get("prompt"), row.get("messages")
    if isinstance(prompt, str) and prompt.strip():
        text = (spec.template or PROMPT_PLACE).replace(PROMPT_PLACE, prompt)
        if spec.chat:
            return _Asked(place, messages=_with_system([{"role": "user", "content": text}], spec.system))
        if spec.system is not None:
            raise StillwattError(
                f"{place}: a plain `prompt` has no system message; set {spec.table}.chat = true, or remove system"
            )
        return _Asked(place, text)
    if isinstance(messages, list):
        has_answer = _check_messages(messages, place)
        return _Asked(place, "", _with_system(messages[:-1] if has_answer else messages, spec.system), has_answer)
    names = ", ".join(sorted(row)) or "nothing"
    raise StillwattError(
        f"{place}: neither `prompt` (a string with something in it) nor `messages` (a list); found {names}"
    )


def _check_messages(messages: list[Any], place: str) -> bool:
    """Refuse what is no conversation; whether its last message is the assistant's."""
    for message in messages:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise StillwattError(f"{place}: a message is an object with `role` and `content`, both strings")
    has_answer = bool(messages) and messages[-1]["role"] == "assistant"
    if len(messages) == has_answer:
        raise StillwattError(f"{place}: there is no message to answer")
    return has_answer


def _with_system(messages: Sequence[Mapping[str, str]], system: str | None) -> Sequence[Mapping[str, str]]:
    if system is None or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": system}, *messages]


def _chat_text(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]], place: str, table: str
) -> str:
    from jinja2.exceptions import TemplateError

    if getattr(tokenizer, "chat_template", None) is None:
        raise StillwattError(
            f"{place}: the teacher's tokenizer has no chat template, so it cannot be asked in a conversation; give "
            f"`prompt` rows, and write the turns into {table}.template"
        )
    try:
        said = [dict(message) for message in messages]
        return str(tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))
    except TemplateError as err:
        raise StillwattError(f"{place}: the tokenizer's chat template refuses the messages ({err})") from err


def _seeds(path: Path, shots: int) -> list[str]:
    seeds = []
    for number, row in read_rows(path, "the seeds", _SEED_FORM):
        if not isinstance(row.get("text"), str) or not row["text"].strip():
            names = ", ".join(sorted(row)) or "nothing"
            raise StillwattError(f"{path}:{number}: no `text` (a string with something in it); found {names}")
        seeds.append(row["text"])
    if len(seeds) < shots:
        raise StillwattError(
            f"{path}: {shots} examples are to be shown in each prompt and there are {len(seeds)} seeds; lower "
            "teacher_generate.shots or write more seeds"
        )
    return seeds


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids
