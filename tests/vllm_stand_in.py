"""A plain stand-in for vLLM, for what the real one cannot be made to do at will; and the teacher that it runs.

That teacher is a table: what follows a token hangs on that token alone, so a test can say what must come out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

VOCABULARY = 40
CONFIG = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "vocab_size": VOCABULARY,
}
STAND_IN = """
import json, os, sys, types
from pathlib import Path
import numpy as np
class _Platform:
    def is_cpu(self): return True
platforms = types.ModuleType("vllm.platforms"); platforms.current_platform = _Platform()
sys.modules["vllm.platforms"] = platforms

class Flat(list):
    pass

class SamplingParams:
    def __init__(self, **given): self.given = given

class LLM:
    def __init__(self, **given):
        print("loading", given["model"])
        if given["model"].endswith("unreadable"): raise ValueError("no such architecture")
        self.given = given
        self.vocabulary = json.loads((Path(given["model"]) / "config.json").read_text())["vocab_size"]
        self.table = 2.0 * np.random.default_rng(3).normal(size=(self.vocabulary, self.vocabulary))
    def generate(self, prompts, parameters, use_tqdm):
        asked = [each["prompt_token_ids"] for each in prompts]
        left = Path(self.given["model"], "calls_left")
        if left.exists():
            if left.read_text() == "0": left.unlink(); print("out of luck", flush=True); os._exit(3)
            left.write_text(str(int(left.read_text()) - 1))
        if asked[0][0] == 13: print("out of luck", flush=True); os._exit(3)
        if asked[0][0] == 14: raise RuntimeError("out of memory")
        if max(map(len, asked)) >= self.given["max_model_len"]: raise ValueError("longer than the maximum")
        if not isinstance(parameters, list): return [self.read(ids, parameters.given) for ids in asked]
        make = lambda ids: types.SimpleNamespace(outputs=[types.SimpleNamespace(token_ids=tuple(ids))])
        drawn = [int(p.given["seed"]) % len(p.given.get("allowed_token_ids", range(97))) for p in parameters]
        return [make([*ids, one, p.given["top_k"], 2]) for ids, one, p in zip(asked, drawn, parameters)]
    def read(self, ids, given):
        count = given["prompt_logprobs"]
        if count > self.given["max_logprobs"]: raise ValueError("greater than max allowed")
        logits = self.table[ids[:-1]]
        logp = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
        best = np.argsort(-logp, axis=1, kind="stable")[:, :count]
        every = np.concatenate([np.array(ids[1:])[:, None], best], axis=1)
        if Path(self.given["model"], "short").exists(): every = every[:, 1:]
        flat = Flat(range(len(ids)))
        flat.token_ids = every.ravel().tolist()
        flat.logprobs = np.take_along_axis(logp, every, 1).ravel().tolist()
        return types.SimpleNamespace(prompt_logprobs=flat)
"""


def install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a module named vllm where this process and its children find it first."""
    (place / "vllm").mkdir(parents=True)
    (place / "vllm" / "__init__.py").write_text(STAND_IN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]))


def model_folder(place: Path) -> Path:
    """A folder that the stand-in takes for a model."""
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return place


def table() -> npt.NDArray[np.float64]:
    """Logits of what follows each token."""
    return 2.0 * np.random.default_rng(3).normal(size=(VOCABULARY, VOCABULARY))


class TableTeacher:
    """The same teacher in this process, with whole logits."""

    def __init__(self) -> None:
        shape = SimpleNamespace(vocab_size=VOCABULARY)
        self.config, self.device = SimpleNamespace(get_text_config=lambda: shape), torch.device("cpu")
        self.logits_VV = torch.from_numpy(table()).float()

    def eval(self) -> Any:
        return self

    def __call__(self, *, input_ids: torch.Tensor, use_cache: bool, **more: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.logits_VV[input_ids])
