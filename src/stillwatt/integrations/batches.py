"""What can be counted of a batch of training data, without knowing its library and without waiting for a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MASK = "attention_mask"
_POSITIONS = "position_ids"


def num_examples(batch: Any) -> Any:
    """Length of the first dimension of the first array in a batch; None where there is no array.

    Of examples that were joined into one row without padding (by `DataCollatorWithFlattening` and its like) it is how
    often positions begin anew, as a number on the device that they lie on: asking for it may mean to wait.

    >>> num_examples({"text": "hello"}) is None
    True
    """
    joined = _joined_positions(batch)
    if joined is not None:
        # a row that is padded at its end repeats position 0, so a beginning is a 0 before a 1
        return ((joined[:, :-1] == 0) & (joined[:, 1:] == 1)).sum()
    if isinstance(batch, Mapping) or hasattr(batch, "keys"):
        parts = [batch[key] for key in batch.keys()]  # noqa: SIM118 - batch classes that are no Mapping have keys() too
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        parts = list(batch)
    else:
        parts = [batch]
    shapes: list[Any] = [getattr(part, "shape", ()) for part in parts]
    found = [int(shape[0]) for shape in shapes if len(shape) > 0]
    return found[0] if found else None


def _joined_positions(batch: Any) -> Any:
    """The positions in a batch of one row that have nothing else to tell its examples apart; None in any other."""
    names = batch.keys() if hasattr(batch, "keys") else ()
    if _POSITIONS not in names or _MASK in names:
        return None
    positions = batch[_POSITIONS]
    shape: Sequence[int] = getattr(positions, "shape", ())
    return positions if len(shape) == 2 and shape[0] == 1 else None


class LazySum:
    """Adds up numbers where they are: on a GPU nothing waits until `take` asks for the sum."""

    def __init__(self) -> None:
        self._pending: Any = None

    def add_number(self, number: Any) -> None:
        """Add a number, or an array of one."""
        self._pending = number if self._pending is None else self._pending + number

    @property
    def is_at_hand(self) -> bool:
        """Whether `take` costs nothing: what is pending lies in the host's memory."""
        return str(getattr(getattr(self._pending, "device", None), "type", "cpu")) == "cpu"

    def drop(self) -> None:
        """Forget what came since the last call; waits for nothing."""
        self._pending = None

    def take(self) -> int:
        """The sum since the last call; waits for the device that holds the sum."""
        taken = 0 if self._pending is None else int(self._pending)
        self._pending = None
        return taken


class TokenCounter(LazySum):
    """Sums attention masks, and the lengths of examples that were joined into one row.

    Another batch without a mask has an unknown number of tokens that are no padding; `num_unknown` counts such batches.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_unknown = self.num_unmasked = 0
        self.num_known = 0

    def add(self, batch: Any) -> None:
        """Count the tokens of one batch."""
        mask = batch[_MASK] if hasattr(batch, "keys") and _MASK in batch.keys() else None  # noqa: SIM118 - as above
        joined = _joined_positions(batch)
        if joined is not None:
            # a row that is padded at its end repeats position 0 there
            padding = (joined.flip(1).cumsum(1) == 0).sum()
            self.num_known, self.num_unmasked = self.num_known + 1, self.num_unmasked + 1
            self.add_number(joined.shape[1] - padding)
            return
        # a mask of four dimensions says which token may look at which, not which are padding
        if mask is None or len(getattr(mask, "shape", ())) != 2:
            self.num_unknown, self.num_unmasked = self.num_unknown + 1, self.num_unmasked + 1
            return
        self.num_known += 1
        self.add_number(mask.sum())
