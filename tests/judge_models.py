"""Judges whose preference is planted, and the pieces that tests of judging share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stillwatt.pipelines.judge_local import Coder, LocalJudge
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_model, load_tokenizer
from stillwatt.pipelines.spec_evaluate import JudgeSpec

_WIDTH = 32
OTHERWISE = "otherwise"
"""Every last letter that is not named."""

ALWAYS_A = {OTHERWISE: {"A": 9.0}}
"""A judge that takes whatever stands first."""


def judge_spec(**changes: Any) -> JudgeSpec:
    """Six questions, each answered by the teacher and the student."""
    told: dict[str, Any] = {
        "source": "teacher",
        "revision": None,
        "dtype": "float32",
        "mode": "pairwise",
        "against": "teacher",
        "rubric": "continuation-pairwise-1",
        "form": "plain",
        "verdicts": ("A", "B"),
        "prompts": 6,
        "prompt_tokens": 8,
        "answer_tokens": 6,
        "temperature": 0.0,
        "top_p": 1.0,
        "batch_size": 4,
        "seed": 1,
        "in_quality": False,
        "try_planted": True,
    }
    return JudgeSpec(**(told | changes))


def plant_judge(directory: Path, logits: Mapping[str, Mapping[str, float]]) -> Path:
    """Write a real model that looks at the last letter of its prompt alone.

    Args:
        directory: Where to.
        logits: By last letter (or `OTHERWISE`), the logit of each letter that may follow; all else has 0.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    place = resolve_model("tiny-random", revision=None, announce=lambda _: None).directory
    tokenizer = load_tokenizer(place)
    config = LlamaConfig.from_pretrained(str(place))
    config.tie_word_embeddings = False
    model = LlamaForCausalLM(config)
    rows = {letter: row for row, letter in enumerate(logits)}
    with torch.no_grad():
        for layer in model.model.layers:
            # nothing is looked back at: each position keeps its own letter's vector
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        words = model.model.embed_tokens.weight.zero_()
        words[:, rows.get(OTHERWISE, _WIDTH - 1)] = 1.0
        head = model.lm_head.weight.zero_()
        for letter, row in rows.items():
            if letter != OTHERWISE:
                (token,) = tokenizer(letter)["input_ids"]
                words[token] = 0.0
                words[token, row] = 1.0
            for verdict, logit in logits[letter].items():
                (token,) = tokenizer(verdict)["input_ids"]
                head[token, row] = logit / math.sqrt(_WIDTH)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def open_planted(directory: Path, *, verdicts: tuple[str, ...] = ("A", "B"), batch: int = 3) -> LocalJudge:
    """A planted judge, loaded."""
    coder = Coder(tokenizer=load_tokenizer(directory), judge="planted", form="plain", verdicts=verdicts, context=512)
    judge = LocalJudge(
        coder, lambda: load_model(directory, dtype="float32"), weights="sha256:0", dtype="float32", batch=batch
    )
    judge.open()
    return judge
