"""Students that are trained by adapters of low rank, by the real `peft`: what is trained, kept, merged and refused."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("peft", reason="the lora extra is not installed")

from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from stillwatt.errors import MissingExtraError, StillwattError
from stillwatt.pipelines import adapters
from stillwatt.pipelines.adapters import ADAPTER_DIR, adapt, load_student, merged, read_adapter
from stillwatt.pipelines.artifacts import file_sha256
from stillwatt.pipelines.checkpoint import damage_of
from stillwatt.pipelines.losses import topk_tail_kl
from stillwatt.pipelines.model_fit import _empty_model
from stillwatt.pipelines.models import load_model, load_tokenizer, save_model
from stillwatt.pipelines.passes import Microbatch
from stillwatt.pipelines.spec_lora import LoraSpec
from stillwatt.pipelines.student_train import TrainJob, _Loop, _student
from tiny_models import CountingTask, files_below
from tiny_trainings import METHODS, TRAIN, greatest_difference, job_of, run_training, start, weights

LORA = LoraSpec(rank=4, alpha=8.0, dropout=0.0, target_modules="all-linear", use_rslora=False)
TRAINED = 2 * 4 * ((32 + 32) + 2 * (32 + 16) + (32 + 32) + 3 * (32 + 64))
"""Of the tiny student: two layers, rank 4, and each linear layer's widths."""


def lora_job(method: str, folder: Path, *, train: dict[str, Any] | None = None, **lora: Any) -> TrainJob:
    settings = dataclasses.replace(TRAIN, lora=dataclasses.replace(LORA, **lora), **(train or {}))
    return job_of(method, folder, train=settings, base_dir=start())


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(24).view(2, 12) % 257
    with torch.no_grad():
        told: torch.Tensor = model.eval()(input_ids=ids).logits
    return told


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("changes", [{}, {"dropout": 0.2, "use_rslora": True, "target_modules": ("q_proj", "o_proj")}])
def test_a_training_in_increments_ends_where_one_go_does(tmp_path: Path, method: str, changes: dict[str, Any]) -> None:
    wanted = lora_job(method, tmp_path, **changes)
    whole = run_training(wanted, tmp_path / "whole")
    run_training(wanted, tmp_path / "half", shares=(0.0, 0.5))
    rest = run_training(wanted, tmp_path / "rest", begin=tmp_path / "half", shares=(0.5, 1.0))
    assert greatest_difference(tmp_path / "whole", tmp_path / "rest") == 0.0
    assert rest["loss_last"] == whole["loss_last"]
    # of the training only what the adapters change, and something of it
    ours, base = weights(tmp_path / "whole"), weights(start())
    moved = {name for name, values in ours.items() if not torch.equal(values, base[name])}
    targets = changes.get(
        "target_modules", ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    )
    assert moved == {name for name in base if name.split(".")[-2] in targets}


def test_what_is_left_out_hangs_on_nothing_but_the_seed_and_the_place_in_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = lora_job("sft", tmp_path, dropout=0.5)
    alone = run_training(wanted, tmp_path / "alone")["loss_curve"]
    # whatever else has drawn random numbers before a step: another rank's microbatches, or an attempt that was killed
    monkeypatch.setattr(CountingTask, "advance", lambda *_: torch.manual_seed(5))
    assert run_training(wanted, tmp_path / "beside")["loss_curve"] == alone
    assert run_training(dataclasses.replace(wanted, seed=4), tmp_path / "other")["loss_curve"] != alone


def test_a_checkpoint_keeps_adapters_and_the_last_an_ordinary_student_beside_them(tmp_path: Path) -> None:
    wanted = lora_job("sft", tmp_path)
    half = run_training(wanted, tmp_path / "half", shares=(0.0, 0.5))
    assert files_below(tmp_path / "half") == {
        "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "optimizer.safetensors", "training.json",
    }  # fmt: skip
    kept = load_file(tmp_path / "half" / "adapter" / "adapter_model.safetensors")
    assert sum(values.numel() for values in kept.values()) == TRAINED == half["trained_parameters"]
    state = load_file(tmp_path / "half" / "optimizer.safetensors")
    assert sum(values.numel() for name, values in state.items() if name.endswith("exp_avg")) == TRAINED
    assert half["parameters"] == sum(each.numel() for each in load_model(start(), dtype="float32").parameters())

    run_training(wanted, tmp_path / "rest", begin=tmp_path / "half", shares=(0.5, 1.0))
    plain = {name for name in files_below(start()) if name != "stillwatt.json"}
    assert files_below(tmp_path / "rest") - plain == {
        "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "training.json",
    }  # fmt: skip
    assert plain <= files_below(tmp_path / "rest")
    assert (tmp_path / "rest" / "config.json").read_bytes() == (start() / "config.json").read_bytes()
    assert damage_of(tmp_path / "half") is None
    (tmp_path / "half" / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    assert "has changed" in (damage_of(tmp_path / "half") or "")


def test_the_merged_student_says_what_the_adapted_one_does_and_the_start_stays_as_it_is(tmp_path: Path) -> None:
    before = {name: file_sha256(start() / name) for name in files_below(start())}
    wanted = lora_job("kd", tmp_path)
    model = _student(wanted, start(), is_begun=False)
    assert torch.equal(logits(model), logits(load_model(start(), dtype="float32")))  # adapters begin as nothing
    run_training(wanted, tmp_path / "half", shares=(0.0, 0.5))
    run_training(wanted, tmp_path / "rest", begin=tmp_path / "half", shares=(0.5, 1.0))
    for name in ("half", "rest"):
        read_adapter(model, tmp_path / name / ADAPTER_DIR)
        adapted, start_logits = logits(model), logits(load_model(start(), dtype="float32"))
        student = load_student(tmp_path / name, start(), dtype="float32")
        assert torch.allclose(logits(student), adapted, atol=1e-5)
        assert float((adapted - start_logits).abs().max()) > 1e-3
        base = dict(load_model(start(), dtype="float32").named_parameters())
        own = {each.replace(".base_layer", ""): values for each, values in model.named_parameters()}
        assert all(torch.equal(own[each], values) for each, values in base.items())
    assert load_student(tmp_path / "half", start(), dtype="bfloat16").dtype is torch.bfloat16
    assert before == {name: file_sha256(start() / name) for name in files_below(start())}


def test_the_adapters_are_in_the_form_that_peft_reads(tmp_path: Path) -> None:
    run_training(lora_job("sft", tmp_path), tmp_path / "out")
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        theirs = PeftModel.from_pretrained(load_model(start(), dtype="float32"), str(tmp_path / "out" / ADAPTER_DIR))
    assert torch.allclose(logits(theirs), logits(load_model(tmp_path / "out", dtype="float32")), atol=1e-5)
    told = json.loads((tmp_path / "out" / ADAPTER_DIR / "adapter_config.json").read_text(encoding="utf-8"))
    assert (told["r"], told["lora_alpha"], told["inference_mode"]) == (4, 8.0, True)


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    scales = []
    for use_rslora in (False, True):
        model = load_model(start(), dtype="float32")
        adapt(model, dataclasses.replace(LORA, use_rslora=use_rslora), seed=1)
        scales.append(model.model.layers[0].self_attn.q_proj.scaling["default"])
    assert scales == [8.0 / 4.0, 8.0 / 2.0]


@pytest.mark.parametrize("is_again", [False, True])
def test_gradients_of_cached_kd_are_those_of_plain_autograd_on_whole_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_again: bool
) -> None:
    wanted = lora_job("kd", tmp_path, train={"gradient_checkpointing": is_again, "max_grad_norm": 1e9})
    model = _student(wanted, start(), is_begun=False)
    _unsettle(model)
    loop = _Loop(wanted, model)
    kept: dict[str, torch.Tensor] = {}

    def keep(*_: Any) -> None:
        kept.update({name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None})

    monkeypatch.setattr(loop._accelerator, "clip_grad_norm_", keep)
    found = loop.step(loop.batches(0, 0, 4), 0, 4)

    plain = _student(dataclasses.replace(wanted, train=dataclasses.replace(wanted.train, gradient_checkpointing=False)),
                     start(), is_begun=False)  # fmt: skip
    _unsettle(plain)
    (shown,) = wanted.passes.microbatches(0, 2, 2)
    ids = torch.from_numpy(wanted.examples.ids_ST[list(shown.rows)].astype(np.int64))
    told_NV = plain.train()(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1)
    assert loop._rows is not None
    rows = loop._rows.read(shown.rows, torch.ones(2, ids.shape[1] - 1, dtype=torch.bool))
    ids_NK, logp_NK, tail_N = rows.parts
    cross = torch.nn.functional.cross_entropy(told_NV, ids[:, 1:].flatten())
    loss = 0.5 * cross + 0.5 * topk_tail_kl(told_NV, ids_NK, logp_NK, tail_N).mean()
    torch.autograd.backward(loss)
    assert found == pytest.approx(float(loss.detach()), rel=1e-5)
    theirs = {name: each.grad for name, each in plain.named_parameters() if each.grad is not None}
    assert kept.keys() == theirs.keys()
    assert all(".lora_" in name for name in kept)
    for name, ours in kept.items():
        assert torch.allclose(ours, theirs[name], atol=1e-5 * float(theirs[name].abs().max())), name


def _unsettle(model: Any) -> None:
    """Give the adapters something to say, the same each time."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if ".lora_" in name:
                values.copy_(0.1 * torch.randn(values.shape, generator=generator))


def test_own_text_is_written_by_the_adapted_student(tmp_path: Path) -> None:
    wanted = lora_job("gkd", tmp_path)
    model = _student(wanted, start(), is_begun=False)
    assert wanted.own_text is not None
    before, *_ = wanted.own_text.write(model, [Microbatch(0, (0, 1))], 0)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if ".lora_B" in name:
                values.fill_(0.5)
    after, *_ = wanted.own_text.write(model, [Microbatch(0, (0, 1))], 0)
    assert before.ids_BT.tolist() != after.ids_BT.tolist()


def test_a_student_with_an_output_layer_of_its_own_leaves_it_alone(tmp_path: Path) -> None:
    model = load_model(start(), dtype="float32")
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone() * 2.0)
    save_model(model, load_tokenizer(start()), tmp_path / "start")
    wanted = dataclasses.replace(lora_job("kd", tmp_path), base_dir=tmp_path / "start")
    run_training(wanted, tmp_path / "out", begin=tmp_path / "start")
    ours, base = weights(tmp_path / "out"), weights(tmp_path / "start")
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        assert torch.equal(ours[name], base[name])


def test_layers_that_hold_their_weights_the_other_way_are_adapted_too(tmp_path: Path) -> None:
    torch.manual_seed(2)
    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=257, n_positions=32, bos_token_id=0, eos_token_id=2)
    model = GPT2LMHeadModel(config)
    save_model(model, load_tokenizer(start()), tmp_path / "start")
    lora = dataclasses.replace(LORA, target_modules=("c_attn", "mlp.c_proj"))
    adapted = load_model(tmp_path / "start", dtype="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapt(adapted, lora, seed=1)
    wanted = dataclasses.replace(
        lora_job("sft", tmp_path), base_dir=tmp_path / "start", train=dataclasses.replace(TRAIN, lora=lora)
    )
    run_training(wanted, tmp_path / "half", begin=tmp_path / "start", shares=(0.0, 0.5))
    read_adapter(adapted, tmp_path / "half" / ADAPTER_DIR)
    assert torch.allclose(
        logits(merged(tmp_path / "start", tmp_path / "half" / ADAPTER_DIR)), logits(adapted), atol=1e-5
    )


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (("q_porj",), "'q_porj' is none of its layers, of student 'tiny' (LlamaForCausalLM); there are: down_proj,"),
        (("q_proj", "mlp"), "'mlp' is model.layers.0.mlp, no linear layer inside it"),
        (("lm_head",), "'lm_head' is lm_head, no linear layer inside it"),
        (("embed_tokens",), "'embed_tokens' is model.embed_tokens, no linear layer inside it"),
    ],
)
def test_layers_that_a_student_does_not_have_are_refused_with_those_it_has(
    targets: tuple[str, ...], words: str
) -> None:
    model = _empty_model(start())
    assert model is not None
    with pytest.raises(StillwattError) as caught:
        adapters.check_targets(model, dataclasses.replace(LORA, target_modules=targets), "student 'tiny'")
    assert words in str(caught.value)
    assert 'q_proj, up_proj, v_proj, or "all-linear"' in str(caught.value)


@pytest.mark.parametrize("kind", ["mamba", "jamba"])
def test_layers_whose_matrices_are_read_past_them_get_no_adapter(tmp_path: Path, kind: str) -> None:
    sizes: dict[str, Any] = {"vocab_size": 257, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0}
    if kind == "jamba":  # one layer of attention, one with a state
        sizes |= {"intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 1,
                  "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}  # fmt: skip
    torch.manual_seed(2)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes))  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    save_model(model, load_tokenizer(start()), tmp_path / "start")
    with pytest.raises(StillwattError, match="out_proj, whose matrix is read past the layer, and past any adapter, of"):
        adapters.check_targets(model, dataclasses.replace(LORA, target_modules=("out_proj",)), "student 'tiny'")
    wanted = dataclasses.replace(lora_job("sft", tmp_path), base_dir=tmp_path / "start")
    found = run_training(wanted, tmp_path / "whole", begin=tmp_path / "start")
    kept = load_file(tmp_path / "whole" / ADAPTER_DIR / "adapter_model.safetensors")
    assert sum(values.numel() for values in kept.values()) == found["trained_parameters"]
    others = {name.split(".")[-3] for name in kept}
    assert "in_proj" in others
    assert not others & {"x_proj", "dt_proj", "out_proj", "lm_head"}
    # every adapter was trained: none of those that begin at 0 is there still
    assert all(values.abs().max() > 0 for values in kept.values())
    model = merged(tmp_path / "start", tmp_path / "whole" / ADAPTER_DIR)
    assert torch.equal(logits(model), logits(load_model(tmp_path / "whole", dtype="float32")))


def test_without_peft_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"peft is not installed; run: pip install 'stillwatt\[lora\]'"):
        adapters.check_installed()


def test_adapters_of_another_student_are_refused(tmp_path: Path) -> None:
    run_training(lora_job("sft", tmp_path, rank=2), tmp_path / "half", shares=(0.0, 0.5))
    with pytest.raises(StillwattError, match="not of this student's layers"):
        run_training(lora_job("sft", tmp_path), tmp_path / "out", begin=tmp_path / "half", shares=(0.5, 1.0))
    (tmp_path / "half" / ADAPTER_DIR / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(StillwattError, match="the adapters cannot be read"):
        merged(start(), tmp_path / "half" / ADAPTER_DIR)
