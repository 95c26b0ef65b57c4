"""The named losses of logit distillation: their register, their plain definitions, their fused forms."""
