"""Which output rows of two models stand for the same tokens; padding of the output layer is no token.

Model families round their output layers up to a multiple of 64 or more, each size its own way, so that two models
with one tokenizer may differ in rows. Giving the smaller one rows of zero logits would give them real mass; cutting
both to the tokens they share does not (method.md, eq. 59).
"""

from __future__ import annotations

from torch import Tensor

from stillwatt.errors import StillwattError

__all__ = ["cut_to_shared", "first_rows", "shared_rows"]


def shared_rows(teacher_rows: int, student_rows: int, *, num_tokens: int, same_tokens: bool, student: str) -> int:
    """How many output rows, from the first, both models have; every token's is among them.

    Args:
        teacher_rows: Rows of the teacher's output matrix.
        student_rows: Rows of the student's.
        num_tokens: One more than the tokenizer's greatest id.
        same_tokens: Whether each id stands for the same token in both tokenizers.
        student: Its name, for the message.

    Raises:
        StillwattError: The tokenizers differ, or a model has no row for some token.

    >>> shared_rows(152064, 151936, num_tokens=151669, same_tokens=True, student="small")
    151936
    """
    if not same_tokens:
        raise StillwattError(
            f"teacher and student {student!r} cut text into different tokens, so there is no student probability to "
            "set against each of the teacher's, and the tokens that all arms train on would be no text to this "
            "student; choose one with the teacher's tokenizer"
        )
    rows = min(teacher_rows, student_rows)
    if rows < num_tokens:
        raise StillwattError(
            f"the tokenizer has {num_tokens} tokens, the teacher predicts {teacher_rows} and student {student!r} "
            f"{student_rows}; each needs a row for every token: resize the smaller one's embeddings "
            "(`resize_token_embeddings`) and save it"
        )
    return rows


def cut_to_shared(weight_VD: Tensor, other_VD: Tensor) -> tuple[Tensor, Tensor]:
    """Both output matrices without the rows that one of them alone has; gradients reach the rows that stay."""
    rows = min(weight_VD.shape[0], other_VD.shape[0])
    return first_rows(weight_VD, rows), first_rows(other_VD, rows)


def first_rows(weight_VD: Tensor, rows: int) -> Tensor:
    """The first rows of an output matrix; itself where it has no more, so that its gradient needs no copy."""
    return weight_VD if weight_VD.shape[0] <= rows else weight_VD[:rows]
