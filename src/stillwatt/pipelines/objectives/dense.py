"""Losses of the whole vocabulary, fused with both output layers: teacher and student are compared chunk by chunk.

The teacher is given by its last hidden states and its output matrix, so that its logits, too, exist for one chunk
only. Both are compared a few rows at a time: all passes over such a tile find it in the processor's cache, which
is what makes this faster than whole arrays, not only smaller.

Shapes: N positions, C positions of one chunk, R rows of a tile, D hidden width (the teacher's own for the
teacher), V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stillwatt.pipelines.loss_chunk import ChunkLoss, HeadShape, chunk_buffer, loss_dtype
from stillwatt.pipelines.losses import HeadLoss, kd_head
from stillwatt.pipelines.objectives.kernels import KERNELS, Rows, normalise
from stillwatt.pipelines.objectives.registry import check_parameter, find_objective

__all__ = ["DENSE_CHUNK_TOKENS", "DenseTeacher", "full_kd_head"]

DENSE_CHUNK_TOKENS = 128
"""Positions whose logits exist at once, the teacher's and the student's; 128 of them over 49152 tokens fill 50 MB in
fp32. Fewer read the output matrix's gradient more often, more take memory. Never alters a result."""
_TILE_ELEMENTS = 100_000
"""Elements of a tile of logits on a processor, about: 0.4 MB in fp32, four such arrays at work. An accelerator has no
such cache to stay in, and each of a tile's dozen passes costs it the start of a kernel: there a chunk is one tile."""


@dataclass(frozen=True, slots=True)
class DenseTeacher:
    """The whole of a teacher's distributions, as hidden states yet to meet the output matrix; no gradient goes in."""

    name: str
    """Of the loss, in the register."""
    parameter: float | None
    hidden_ND: Tensor
    weight_VD: Tensor

    def check(self, num_rows: int, vocab_size: int) -> None:
        """Refuse another number of positions or of tokens than the student's; a padded vocabulary is cut before."""
        check_parameter(find_objective(self.name), self.parameter)
        if self.name not in KERNELS:
            raise ValueError(f"loss {self.name!r} is one of a cache, not of the whole vocabulary")
        hidden, weight = tuple(self.hidden_ND.shape), tuple(self.weight_VD.shape)
        if self.hidden_ND.dim() != 2 or self.weight_VD.dim() != 2 or hidden[1] != weight[1] or hidden[0] != num_rows:
            raise ValueError(f"teacher's hidden {hidden} and weight {weight} must be [{num_rows}, D], [V, D]")
        if weight[0] != vocab_size:
            raise ValueError(
                f"the teacher has {weight[0]} output rows and the student {vocab_size}; cut both to the tokens they "
                "share (objectives.vocabulary), as rows of padding are no tokens"
            )

    @torch.no_grad()
    def begin(self, hidden_ND: Tensor, vocab_size: int, shape: HeadShape) -> ChunkLoss:
        """Take room for one chunk of teacher logits and for a tile."""
        weight_VD = self.weight_VD.detach().to(self.hidden_ND.dtype)
        teacher_CV = chunk_buffer(self.hidden_ND, vocab_size, shape.chunk_tokens, self.hidden_ND.dtype)
        tile = _Tile(self.name, self.parameter or 0.0, shape, hidden_ND, vocab_size)

        def to_gradient(rows: slice, logits_CV: Tensor, target_C: Tensor) -> tuple[Tensor, Tensor]:
            here_CV = teacher_CV[: len(target_C)]
            torch.mm(self.hidden_ND[rows].detach(), weight_VD.T, out=here_CV)
            wide_CV = here_CV.to(logits_CV.dtype)
            parts = [
                tile.to_gradient(*piece)
                for piece in zip(
                    torch.split(wide_CV, tile.rows),
                    torch.split(logits_CV, tile.rows),
                    torch.split(target_C[:, None], tile.rows),
                    strict=True,
                )
            ]
            cross_entropies, divergences = zip(*parts, strict=True)
            return torch.cat(cross_entropies), torch.cat(divergences)

        return to_gradient


def tile_rows(device_type: str, vocab_size: int, chunk_rows: int) -> int:
    """Rows that are worked on at once.

    >>> tile_rows("cpu", 50_000, 128), tile_rows("cuda", 50_000, 128), tile_rows("cpu", 10, 128)
    (2, 128, 128)
    """
    return min(max(1, _TILE_ELEMENTS // vocab_size), chunk_rows) if device_type == "cpu" else chunk_rows


class _Tile:
    """Room for a few rows, and what is done to them."""

    def __init__(self, name: str, parameter: float, shape: HeadShape, like: Tensor, vocab_size: int) -> None:
        self.rows = tile_rows(like.device.type, vocab_size, min(shape.chunk_tokens, len(like)))
        self._kernel, self._parameter, self._shape = KERNELS[name], parameter, shape
        room = [like.new_empty(self.rows, vocab_size, dtype=loss_dtype(like)) for _ in range(3)]
        self._p_RV, self._q_RV, self._plain_RV = room

    def to_gradient(self, teacher_RV: Tensor, logits_RV: Tensor, target_R1: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy and divergence per row; both arrays are used up, the logits' becomes the gradient."""
        shape, num = self._shape, len(target_R1)
        p_RV, q_RV = self._p_RV[:num], self._q_RV[:num]
        logit_R1 = logits_RV.gather(-1, target_R1)
        plain_RV, log_sum_R1 = q_RV, None
        if shape.temperature != 1.0:
            plain_RV = torch.softmax(logits_RV, -1, out=self._plain_RV[:num])
            # the target's probability may underflow, its logarithm does not
            log_sum_R1 = torch.logsumexp(logits_RV, -1, keepdim=True)
            logits_RV.div_(shape.temperature)
            teacher_RV.div_(shape.temperature)
        normalise(teacher_RV, p_RV)
        tempered_sum_R1 = normalise(logits_RV, q_RV)
        divergence_R = self._kernel(Rows(teacher_RV, logits_RV, p_RV, q_RV), self._parameter)
        cross_entropy_R1 = (tempered_sum_R1 if log_sum_R1 is None else log_sum_R1) - logit_R1
        if shape.slope_weight:
            logits_RV.mul_(shape.slope_weight)
        else:
            logits_RV.zero_()  # an infinite slope times 0 would be NaN
        if shape.alpha:
            logits_RV.add_(plain_RV, alpha=shape.alpha)
            logits_RV.scatter_add_(-1, target_R1, torch.full_like(logit_R1, -shape.alpha))
        return cross_entropy_R1.squeeze(-1), divergence_R


def full_kd_head(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    teacher_hidden_ND: Tensor,
    teacher_weight_VD: Tensor,
    *,
    loss: str,
    alpha: float,
    temperature: float,
    parameter: float | None = None,
    chunk_tokens: int = DENSE_CHUNK_TOKENS,
) -> HeadLoss:
    """Summed loss against all of the teacher's logits, fused with both output layers (method.md, eqs. 48 to 54).

    Equal to `alpha * CE + (1 - alpha) * T^a * objectives.reference.divergence(...)` for any `chunk_tokens`; gradients
    reach the student's hidden states and output matrix, never the teacher's. Widths may differ, vocabularies may not.

    Args:
        hidden_ND: Last hidden states of the student.
        weight_VD: Output matrix of the student.
        targets_N: The next token of the text.
        teacher_hidden_ND: Last hidden states of the teacher, at the same positions.
        teacher_weight_VD: Output matrix of the teacher, over the same tokens.
        loss: Name in the register, of a loss of the whole vocabulary.
        alpha: Weight of the cross-entropy, in [0, 1].
        temperature: T; divides both sides' logits.
        parameter: beta or alpha of the loss, for those that have one.
        chunk_tokens: Positions whose logits exist at once.

    Raises:
        UsageError: No such loss, or a parameter it cannot have.
        ValueError: Shapes do not fit, the hidden states are float16, `alpha` is not a share, or `temperature` is not
            positive.
    """
    return kd_head(
        hidden_ND,
        weight_VD,
        targets_N,
        DenseTeacher(loss, parameter, teacher_hidden_ND, teacher_weight_VD),
        alpha=alpha,
        temperature=temperature,
        temperature_power=find_objective(loss).temperature_power,
        chunk_tokens=chunk_tokens,
    )
