"""Stage: a model's quality on held-out text. Scores come with a standard error; nothing here is trained on.

Shapes: B sequences or questions, T tokens of a sequence, C context tokens, L continuation tokens, O = 4 options,
D hidden width, N positions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stillwatt.errors import StillwattError
from stillwatt.metering.meter import Stage
from stillwatt.pipelines.bos import without_bos
from stillwatt.pipelines.corpus import Prepared, cut_stream, positions_of
from stillwatt.pipelines.models import CausalModel, head_weight, hidden_states, next_token_losses, token_losses
from stillwatt.pipelines.progress import Task
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.spec_evaluate import EvaluateSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "OPTIONS",
    "Question",
    "choice_questions",
    "choice_score",
    "make",
    "perplexity_score",
    "shrunk_error",
    "total_work",
]

OPTIONS = 4
"""Continuations of a question; guessing scores 1/4."""


def total_work(spec: EvaluateSpec) -> int:
    """Tokens that `make` passes through the model, without those of lm-evaluation-harness; the bar's length."""
    per_item = spec.choice_context_tokens + OPTIONS * spec.choice_continuation_tokens
    return spec.perplexity_tokens + spec.choice_items * per_item


def make(
    model: CausalModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Prepared,
    spec: EvaluateSpec,
    *,
    stage: Stage,
    task: Task,
    ranks: Ranks,
) -> list[dict[str, Any]]:
    """Take every score that the recipe asks for.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        data: Where the held-out text is.
        spec: What is asked for.
        stage: Gets `tokens`, those that this process's model read, a question's context once for its four options, and
            wrote; and `generated_tokens`, those that it wrote for tasks of lm-evaluation-harness. Padding is none.
        task: The bar.
        ranks: They share the work, batch by batch, each with the whole model; all get every score.

    Returns:
        Entries {task, value, se, n, higher_is_better}, ready for JSON.

    Raises:
        StillwattError: The held-out text is too short for what is asked, or the model gives NaN on it.
        MissingExtraError: lm-evaluation-harness tasks are asked for and it is not installed.
    """
    held_out = _held_out_sequences(data, spec, end_id=int(tokenizer.eos_token_id))
    count = _Count(stage, task, ranks)
    losses_ST = _losses_by_sequence(model, held_out.ids_ST, held_out.positions_ST, spec.batch_size, count)
    if np.isnan(losses_ST).any():
        raise StillwattError(
            f"{model.name_or_path}: the model gives NaN on held-out text; look for NaN in its weights, or load it as "
            "float32 if it was made for another form of numbers"
        )
    scores = [perplexity_score(losses_ST, held_out.counted_ST[:, 1:])]
    if spec.choice_items:
        questions = choice_questions(data.held_out_documents, spec, data.bos_ids)
        scores.append(choice_score(_right_answers(model, questions, spec.batch_size, count)))
    if spec.lm_eval_tasks:
        from stillwatt.pipelines.evaluate_harness import harness_scores

        scores += harness_scores(model, tokenizer, spec, stage=stage, ranks=ranks, has_bos=bool(data.bos_ids))
    return scores


def perplexity_score(
    losses_ST: npt.NDArray[np.float64], counted_ST: npt.NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """Perplexity and its standard error from per-token cross-entropies in nats (method.md, eq. 44).

        m = sum_s l_s / sum_s n_s                         l_s, n_s: summed loss and tokens of sequence s
        var(m) = S / (S - 1) * sum_s (l_s - m n_s)^2 / (sum_s n_s)^2
        ppl = exp(m),   se(ppl) = ppl * se(m)

    Tokens of one sequence are not independent, so the sequence is the unit that varies (a cluster). The last step
    is the delta method.

    Args:
        losses_ST: One row per sequence; S is the number of those of which something counts, at least two.
        counted_ST: Which of them count; all where None.

    Raises:
        StillwattError: Fewer than two sequences; there is no standard error then.

    >>> score = perplexity_score(np.log(np.array([[2.0, 2.0], [2.0, 2.0]])))
    >>> round(score["value"], 6), score["se"], score["n"]
    (2.0, 0.0, 4)
    """
    counted_ST = np.ones(losses_ST.shape, dtype=np.bool_) if counted_ST is None else counted_ST
    num_sequences = int(counted_ST.any(axis=1).sum())
    if num_sequences < 2:
        raise StillwattError(
            "perplexity needs at least two held-out sequences with tokens to be predicted; raise "
            "evaluate.perplexity_tokens"
        )
    losses_ST = np.where(counted_ST, losses_ST, 0.0)
    counts_S, num_tokens = counted_ST.sum(axis=1), int(counted_ST.sum())
    mean = float(losses_ST.sum()) / num_tokens
    residuals_S = losses_ST.sum(axis=1) - mean * counts_S
    variance = num_sequences / (num_sequences - 1) * float((residuals_S**2).sum()) / num_tokens**2
    if not mean <= math.log(np.finfo(np.float64).max):  # so that no NaN passes
        raise StillwattError(f"held-out cross-entropy is {mean:.3g} nats per token; the model is broken")
    perplexity = math.exp(mean)
    return _score("perplexity", perplexity, perplexity * math.sqrt(variance), num_tokens, higher_is_better=False)


def choice_score(is_right: Sequence[bool]) -> dict[str, Any]:
    """Share of questions answered rightly, and its standard error (method.md, eq. 45).

        a = k / n,   se(a) = sqrt(p (1 - p) / (n + 4))  with  p = (k + 2) / (n + 4)

    The standard error is that of Agresti and Coull: unlike sqrt(a (1 - a) / n) it does not claim certainty when
    every answer, or none, is right.

    >>> score = choice_score([True, True, True, False])
    >>> score["value"], round(score["se"], 3), score["n"]
    (0.75, 0.171, 4)
    """
    num_right, num_items = sum(is_right), len(is_right)
    error = shrunk_error(num_right, num_items)
    return _score("choice4", num_right / num_items, error, num_items, higher_is_better=True)


def shrunk_error(num_right: int, num_items: int) -> float:
    """The standard error of a share of right answers, which is never 0 (method.md, eq. 45)."""
    shrunk = (num_right + 2) / (num_items + 4)
    return math.sqrt(shrunk * (1 - shrunk) / (num_items + 4))


def _score(task: str, value: float, error: float, count: int, *, higher_is_better: bool) -> dict[str, Any]:
    return {"task": task, "value": value, "se": error, "n": count, "higher_is_better": higher_is_better}


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """Sequences of held-out text, spread evenly over it."""

    ids_ST: Tensor
    positions_ST: Tensor | None
    """Each token's place in its own document, where documents are kept apart; None otherwise."""
    counted_ST: npt.NDArray[np.bool_]
    """Which tokens count in the perplexity: those that training would predict in such text."""


def _held_out_sequences(data: Prepared, spec: EvaluateSpec, *, end_id: int) -> _HeldOut:
    length, end = data.train.ids_ST.shape[1], np.array([end_id], dtype=np.int32)
    stream = np.concatenate([piece for ids in data.held_out_documents for piece in (ids, end)])
    is_start, is_counted = np.zeros(len(stream), dtype=np.bool_), np.ones(len(stream), dtype=np.bool_)
    is_start[np.cumsum([0, *(len(ids) + 1 for ids in data.held_out_documents[:-1])])] = True
    if data.held_out_predicted is not None:
        is_counted = np.concatenate(data.held_out_predicted)
    cut = cut_stream(stream, is_counted, is_start, length=length, bos_ids=data.bos_ids)
    wanted, available = spec.perplexity_tokens // length, len(cut.ids_ST)
    if wanted < 2 or available < wanted:
        raise StillwattError(
            f"evaluate.perplexity_tokens = {spec.perplexity_tokens} is {wanted} held-out sequences of {length} tokens; "
            f"at least 2 are needed and {available} are there: change it, or data.held_out_share"
        )
    # spread evenly over the held-out text: the first sequences alone would be one or two documents
    chosen = [index * available // wanted for index in range(wanted)]
    positions_ST, counted_ST = None, cut.predicted_ST[chosen]
    if data.train.starts_ST is not None:
        # a document's first token is predicted from nothing where no other document is seen
        starts_ST = cut.starts_ST[chosen]
        positions_ST, counted_ST = torch.from_numpy(positions_of(starts_ST)), counted_ST & ~starts_ST
    return _HeldOut(torch.from_numpy(cut.ids_ST[chosen].astype(np.int64)), positions_ST, counted_ST)


@dataclass(frozen=True, slots=True)
class _Count:
    """Counts what goes through the model, on the books and on the bar; the latter for all ranks."""

    stage: Stage
    task: Task
    ranks: Ranks

    def add(self, tokens: int) -> None:
        """So many on this rank."""
        self.stage.add(tokens=tokens)
        self.task.advance(tokens * self.ranks.count)


def _losses_by_sequence(
    model: CausalModel, ids_ST: Tensor, positions_ST: Tensor | None, batch_size: int, count: _Count
) -> npt.NDArray[np.float64]:
    def read(starts: Sequence[int]) -> Iterator[npt.NDArray[np.float64]]:
        for start in starts:
            ids_BT = ids_ST[start : start + batch_size]
            positions_BT = None if positions_ST is None else positions_ST[start : start + batch_size]
            yield next_token_losses(model, ids_BT, positions_BT).double().cpu().numpy()
            count.add(ids_BT.numel())

    return np.concatenate(count.ranks.divide(range(0, len(ids_ST), batch_size), lambda starts: [*read(starts)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A context, and four continuations of which one is the real one."""

    context: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    right: int


def choice_questions(
    documents: Sequence[npt.NDArray[np.int32]], spec: EvaluateSpec, bos_ids: tuple[int, ...] = ()
) -> list[Question]:
    """Make the questions: the same for every model, by `spec.seed`.

    Contexts with their real continuation are cut side by side from the held-out documents, so no text serves twice
    as a context; the other three continuations are cut from other held-out documents, equally long. The BOS, where
    there is one, stands before every context and in no piece.

    Raises:
        StillwattError: The held-out text holds too few such pieces, or only one document.
    """
    rng = random.Random(spec.seed)
    documents = [without_bos(ids, bos_ids) for ids in documents]
    context, length = spec.choice_context_tokens, spec.choice_continuation_tokens
    pieces = [
        (index, start)
        for index, ids in enumerate(documents)
        for start in range(0, len(ids) - context - length + 1, context + length)
    ]
    sources = [index for index, ids in enumerate(documents) if len(ids) >= length]
    if len(pieces) < spec.choice_items or len(sources) < 2:
        raise StillwattError(
            f"evaluate.choice_items = {spec.choice_items}, but there are {len(pieces)} pieces of {context} + {length} "
            f"tokens from {len(sources)} held-out documents; lower it, or raise data.held_out_share"
        )
    rng.shuffle(pieces)
    questions = []
    for index, start in pieces[: spec.choice_items]:
        ids = documents[index]
        real = _ids(ids, start + context, length)
        others = [other for other in sources if other != index]
        chosen = rng.sample(others, OPTIONS - 1) if len(others) >= OPTIONS - 1 else rng.choices(others, k=OPTIONS - 1)
        options = [_ids(documents[i], rng.randrange(len(documents[i]) - length + 1), length) for i in chosen]
        # the place of the right one is drawn, or a model that finds all four alike would always be right
        right = rng.randrange(OPTIONS)
        options.insert(right, real)
        questions.append(Question(context=(*bos_ids, *_ids(ids, start, context)), options=tuple(options), right=right))
    return questions


def _ids(ids: npt.NDArray[np.int32], start: int, length: int) -> tuple[int, ...]:
    return tuple(int(token) for token in ids[start : start + length])


def _right_answers(model: CausalModel, questions: Sequence[Question], batch_size: int, count: _Count) -> list[bool]:
    def ask(firsts: Sequence[int]) -> Iterator[list[bool]]:
        for first in firsts:
            batch = questions[first : first + batch_size]
            losses_BO = option_losses(model, batch)
            yield [int(row.argmin()) == item.right for row, item in zip(losses_BO, batch, strict=True)]
            count.add(sum(len(item.context) + sum(map(len, item.options)) for item in batch))

    batches = count.ranks.divide(range(0, len(questions), batch_size), lambda firsts: [*ask(firsts)])
    return [is_right for batch in batches for is_right in batch]


@torch.no_grad()
def option_losses(model: CausalModel, questions: Sequence[Question]) -> Tensor:
    """Mean cross-entropy of each option after its context, in nats; float32 [B, O], lowest is the answer.

    The context goes through the model once and its key-value cache serves all four options, where what every layer
    keeps of it can be repeated; only positions that predict an option's token reach the output layer.
    """
    context_BC = torch.tensor([item.context for item in questions], device=model.device)
    options_BOL = torch.tensor([item.options for item in questions], device=model.device)
    num_questions, _, length = options_BOL.shape
    options_NL = options_BOL.flatten(0, 1)
    decoder = model.get_decoder()
    seen = decoder(input_ids=context_BC, use_cache=True)
    cache: Any = getattr(seen, "past_key_values", None)
    if _is_repeatable(cache):
        cache.batch_repeat_interleave(OPTIONS)
        states_NLD = decoder(input_ids=options_NL[:, :-1], past_key_values=cache, use_cache=True).last_hidden_state
        last_N1D = seen.last_hidden_state[:, -1:].repeat_interleave(OPTIONS, dim=0)
        states_NLD = torch.cat([last_N1D, states_NLD], dim=1)
    else:
        whole_NT = torch.cat([context_BC.repeat_interleave(OPTIONS, dim=0), options_NL[:, :-1]], dim=1)
        states_NLD = hidden_states(model, whole_NT)[:, -length:]
    losses = token_losses(states_NLD.flatten(0, 1), head_weight(model), options_NL.flatten())
    return losses.view(num_questions, OPTIONS, length).mean(-1)


def _is_repeatable(cache: Any) -> bool:
    """Whether a cache can serve several options at once: every layer of it keeps keys and values, and no state besides.

    The cache of a hybrid model has the method, and its layers with a state (linear attention, convolutions) have none,
    or one that repeats their keys alone.
    """
    layers = getattr(cache, "layers", ())
    return len(layers) > 0 and all(
        hasattr(layer, "batch_repeat_interleave") and not hasattr(layer, "update_conv_state") for layer in layers
    )
