"""Adapters of low rank beside a student's weights, as a plain frozen dataclass; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ALL_LINEAR", "LoraSpec"]

ALL_LINEAR = "all-linear"
"""Every linear layer that is called as one: not the output layer, nor what state-space mixers read past the layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSpec:
    """What is trained in the place of a student's weights (method.md, eq. 47b)."""

    rank: int
    alpha: float
    dropout: float
    """Probability that an input of an adapter is left out in training."""
    target_modules: str | tuple[str, ...]
    """`all-linear`, or the last parts of the names of linear layers."""
    use_rslora: bool
    """Whether adapters are scaled by alpha over the root of the rank, in stead of alpha over the rank."""

    @property
    def said(self) -> str:
        """All of it as one line.

        >>> LoraSpec(rank=8, alpha=16.0, dropout=0.1, target_modules=("q_proj", "v_proj"), use_rslora=True).said
        'rank 8, alpha 16, q_proj+v_proj, dropout 0.1, rslora'
        """
        targets = self.target_modules if isinstance(self.target_modules, str) else "+".join(self.target_modules)
        more = (f"dropout {self.dropout:g}" if self.dropout else "", "rslora" if self.use_rslora else "")
        return ", ".join([f"rank {self.rank}", f"alpha {self.alpha:g}", targets, *filter(None, more)])
