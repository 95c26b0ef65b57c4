"""What text is trained on, as the runner needs it said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ALL", "ASSISTANT", "DataSpec", "Predict"]

Predict = Literal["all", "assistant"]
"""Which tokens of a document are to be predicted."""
ALL: Predict = "all"
ASSISTANT: Predict = "assistant"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """The corpus, its split and its packing."""

    source: str
    """`pydoc-topics`, `random-words`, `path:FILE.jsonl`, `hf:ORG/NAME`, or `cache:DIR`."""
    sequence_tokens: int
    train_tokens: int
    """Token budget of every arm at its full budget (tokens that go through the student, padding excluded), all passes
    together."""
    held_out_share: float
    """Share of documents (whole topics) kept for evaluation."""
    seed: int
    packing: str = "stream"
    """`stream`: documents of a sequence see those before them. `documents`: no document sees another."""
    predict: Predict = ALL
    """`assistant`: of conversations and completions only the assistant's own tokens."""
    config: str | None = None
    """Hub data sets: which of several configurations; None where there is one."""
    split: str = "train"
    """Hub data sets: which of its splits is read, and then split here once more."""
    revision: str | None = None
    """Hub data sets: branch, tag or commit."""
    epochs: int = 1
    """Passes over the text: how often each of its sequences goes through a student."""

    @property
    def text_tokens(self) -> int:
        """Tokens of the text itself, which is what a teacher reads or writes."""
        return self.train_tokens // self.epochs

    @property
    def sequences(self) -> int:
        """Sequences of the text itself."""
        return self.text_tokens // self.sequence_tokens
