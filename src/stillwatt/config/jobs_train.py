"""What an arm's training asks of a machine: its text, the student's steps and the teacher beside it, as counts."""

from __future__ import annotations

from dataclasses import dataclass

from stillwatt.analysis.costs.counts import loaded, read, saved, trained
from stillwatt.config.model_size import adapter_weights
from stillwatt.pipelines.spec import ArmSpec, PipelineSpec
from stillwatt.records.forecast import Counts, ModelSize

__all__ = ["LOGIT_BYTES", "TrainedText", "reading_counts", "text_of", "training_counts"]

LOGIT_BYTES = 16.0
"""Per entry of the vocabulary and token: logits are written, read, and made into probabilities, in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedText:
    """What an arm trains on between two checkpoints: given text, and as much of its own as is expected, at its longest.

    Steps on own text are drawn one by one, so their number is expected and not known.
    """

    given: float
    """Tokens."""
    own_texts: float = 0.0
    own_length: float = 0.0
    """Tokens of one, its prompt included."""

    @property
    def tokens(self) -> float | None:
        """How many there are; None where the student decides."""
        return None if self.own_texts else self.given

    def parts(self, sequence: float) -> tuple[tuple[float, float], ...]:
        """Tokens and the length of their sequences."""
        own = ((self.own_texts * self.own_length, self.own_length),) if self.own_texts else ()
        return ((self.given, sequence), *own) if self.given else own


def text_of(spec: PipelineSpec, arm: ArmSpec, sequences: int) -> TrainedText:
    """What an arm trains on in so many sequences of the budget."""
    length = spec.data.sequence_tokens
    if not arm.own_text_share or spec.own_text is None:
        return TrainedText(given=float(sequences * length))
    own = arm.own_text_share * sequences
    longest = spec.own_text.prompt_tokens + spec.own_text.max_new_tokens
    return TrainedText(given=(sequences - own) * length, own_texts=own, own_length=float(longest))


def reading_counts(spec: PipelineSpec, teacher: ModelSize, text: TrainedText) -> Counts:
    """A teacher beside a student."""
    counts = Counts()
    for tokens, length in text.parts(spec.data.sequence_tokens):
        counts += read(teacher, tokens=tokens, sequence=length, batch=spec.train.batch_size)
    return counts


def training_counts(spec: PipelineSpec, size: ModelSize, text: TrainedText, *, is_first: bool, is_last: bool) -> Counts:
    """From one checkpoint to the next: the optimiser's state is kept between them, and not after the last."""
    batch, accumulation = spec.train.batch_size, spec.train.accumulation_steps
    adapters = adapter_weights(size, spec.train.lora)
    counts = loaded(size) + saved(size, with_optimizer=not is_last, adapters=adapters)
    if not is_first:
        state = saved(size, with_optimizer=True, adapters=adapters).stored_bytes
        counts += Counts(stored_bytes=state if adapters is not None else state - loaded(size).stored_bytes)
    if adapters is not None and is_last:
        counts += loaded(size)  # once more, for the adapters to be merged into
    for tokens, length in text.parts(spec.data.sequence_tokens):
        counts += trained(
            size,
            tokens=tokens,
            sequence=length,
            batch=batch,
            accumulation=accumulation,
            is_recomputed=spec.train.gradient_checkpointing,
            adapters=adapters,
        )
        counts += Counts(streamed_bytes=tokens * size.vocabulary * LOGIT_BYTES)
    return counts
