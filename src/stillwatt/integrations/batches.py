"""What can be counted of a batch of training data, without knowing its library and without waiting for a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MASK = "attention_mask"


def num_examples(batch: Any) -> int | None:
    """Length of the first dimension of the first array in a batch; None where there is no array.

    >>> num_examples({"text": "hello"}) is None
    True
    """
    if isinstance(batch, Mapping) or hasattr(batch, "keys"):
        parts = [batch[key] for key in batch.keys()]  # noqa: SIM118 - batch classes that are no Mapping have keys() too
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        parts = list(batch)
    else:
        parts = [batch]
    shapes: list[Any] = [getattr(part, "shape", ()) for part in parts]
    found = [int(shape[0]) for shape in shapes if len(shape) > 0]
    return found[0] if found else None


class TokenCounter:
    """Sums attention masks where they are: on a GPU nothing waits until `take` asks for the number.

    A batch without a mask has an unknown number of tokens that are no padding; `num_unknown` counts such batches.
    """

    def __init__(self) -> None:
        self.num_unknown = 0
        self.num_known = 0
        self._pending: Any = None

    def add(self, batch: Any) -> None:
        """Count the tokens of one batch."""
        mask = batch[_MASK] if hasattr(batch, "keys") and _MASK in batch.keys() else None  # noqa: SIM118 - as above
        # a mask of four dimensions says which token may look at which, not which are padding
        if mask is None or len(getattr(mask, "shape", ())) != 2:
            self.num_unknown += 1
            return
        self.num_known += 1
        tokens = mask.sum()
        self._pending = tokens if self._pending is None else self._pending + tokens

    @property
    def is_at_hand(self) -> bool:
        """Whether `take` costs nothing: what is pending lies in the host's memory."""
        return str(getattr(getattr(self._pending, "device", None), "type", "cpu")) == "cpu"

    def take(self) -> int:
        """The tokens since the last call; waits for the device that holds the sum."""
        taken = 0 if self._pending is None else int(self._pending)
        self._pending = None
        return taken
