"""Output layers that are padded each their own way: rows of one model alone are in no distribution and no text."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from given_tables import converted, given_spec, rows_of
from stillwatt.errors import StillwattError
from stillwatt.pipelines import teacher_generate, teacher_logits
from stillwatt.pipelines.artifacts import RECORD_NAME, artifact_id
from stillwatt.pipelines.cache_fidelity import measure_fidelity
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.logit_forms import Top
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import CausalModel, load_model, load_tokenizer, save_model, tokenizer_sha256
from stillwatt.pipelines.sampling import Writer
from stillwatt.pipelines.spec import ArmSpec, CacheSpec, GenerateSpec, LogitsSpec, Method, PipelineSpec
from stillwatt.pipelines.spec_text import OwnTextSpec
from stillwatt.pipelines.vllm_teacher import vllm_teacher
from stillwatt.pipelines.vllm_writer import VllmWriter
from study_place import KillingProgress, Place
from tiny_models import CountingStage, CountingTask, Tally, smoke_spec
from vllm_stand_in import VOCABULARY, TableTeacher, install, model_folder

TOKENS = 257
PADDED = 300
FIXED = LogitsSpec(top_k=8, temperature=2.0, batch_size=4)
FORMS = {
    "fixed": FIXED,
    "topk": dataclasses.replace(FIXED, cache=CacheSpec(scheme="topk", step=0.25)),
    "topp": dataclasses.replace(FIXED, top_k=40, cache=CacheSpec(scheme="topp", mass=0.3)),
    "head_draws": dataclasses.replace(FIXED, cache=CacheSpec(scheme="head_draws", draws=6)),
    "rs_kd": dataclasses.replace(FIXED, top_k=0, cache=CacheSpec(scheme="rs_kd", draws=12)),
}
OWN_TEXT = OwnTextSpec(prompt_tokens=8, max_new_tokens=24, temperature=1.0, top_p=1.0)
_GENERATE = smoke_spec().generate
assert _GENERATE is not None
GENERATE: GenerateSpec = _GENERATE


def padded(rows: int = PADDED, *, is_student: bool = False) -> CausalModel:
    """The tiny model with rows that no token has, which are as probable as those of tokens, or more so."""
    place = resolve_model("tiny-random", revision=None, announce=lambda _: None, is_student=is_student)
    model = load_model(place.directory, dtype="float32")
    torch.manual_seed(0)
    model.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        model.get_output_embeddings().weight *= 20.0  # untrained, it says nearly the same of everything
        model.get_output_embeddings().weight[TOKENS:] *= 2.0
    return model.eval()


def folder_of(directory: Path, rows: int, *, is_student: bool = False) -> str:
    tokenizer = load_tokenizer(resolve_model("tiny-random", revision=None, announce=lambda _: None).directory)
    save_model(padded(rows, is_student=is_student), tokenizer, directory)
    return f"path:{directory}"


def study(tmp_path: Path, *, teacher: int, students: tuple[int, ...], **changes: Any) -> PipelineSpec:
    """A study of models with so many output rows each."""
    spec = smoke_spec(serve=None, generate=None, **changes)
    source = folder_of(tmp_path / "teacher", teacher)
    learners = tuple(
        dataclasses.replace(
            spec.students[0],
            name=f"s{rows}",
            source=folder_of(tmp_path / f"s{rows}", rows, is_student=True),
            drop_layers=0,
            candidate_starts=(),
        )
        for rows in students
    )
    return dataclasses.replace(
        spec, teacher=dataclasses.replace(spec.teacher, source=source), students=learners, generate=GENERATE
    )


def kd(name: str = "kd", **changes: Any) -> ArmSpec:
    return ArmSpec(**{"name": name, "method": Method.KD, "alpha": 0.0, "temperature": 1.0, **changes})


def inputs_of(place: Place, kind: str) -> tuple[Path, dict[str, Any]]:
    (found,) = (place.directory / "artifacts").glob(f"{kind}-*")
    return found, json.loads((found / RECORD_NAME).read_text())["inputs"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("STILLWATT_HOME", str(tmp_path / "home"))
    return Place(tmp_path / "runs")


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_cache_is_that_of_a_teacher_without_those_rows(tmp_path: Path, form: str) -> None:
    draw = np.random.default_rng(4)
    sequences = [draw.integers(0, 256, length).tolist() for length in (20, 20, 13, 20)]
    found = {}
    for name, model, rows in (("cut", padded(), TOKENS), ("whole", padded(TOKENS), None)):
        made = teacher_logits.make(
            model, sequences, FORMS[form], tmp_path / name, task=CountingTask(), stage=CountingStage(), rows=rows
        )
        cache = open_cache(tmp_path / name)
        assert cache.vocab_size == TOKENS
        found[name] = (made, measure_fidelity(cache, model, sequences, CountingStage()))
    (one, near), (other, as_near) = found["cut"], found["whole"]
    assert (one["kept_mass"] or 0.0) == pytest.approx(other["kept_mass"] or 0.0, rel=1e-5)
    assert near.get("kl_to_full", 0.0) == pytest.approx(as_near.get("kl_to_full", 0.0), rel=1e-4)
    left, right = (_kept(open_cache(tmp_path / name)) for name in ("cut", "whole"))
    # a wider product of matrices rounds otherwise, and so may a draw or a coded level fall
    assert float((left[0] == right[0]).float().mean()) > 0.999
    assert float((left[1] - right[1]).abs().nan_to_num(0.0).mean()) < 1e-3


def _kept(cache: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of the first sequences, and log-probabilities or weights."""
    if getattr(cache, "scheme", None) is not None and cache.scheme.is_unbiased:
        drawn = cache.weights([0, 1])
        return drawn.ids_BTK, drawn.weight_BTK
    kept = cache.batch([0, 1])
    return kept.ids_BTK, kept.logp_BTK


@pytest.mark.parametrize("students", [(TOKENS,), (280, TOKENS), (320,)])
def test_a_cache_of_all_shared_rows_trains_as_the_teacher_beside_the_student(
    place: Place, tmp_path: Path, students: tuple[int, ...]
) -> None:
    shared = min(PADDED, *students)
    spec = study(
        tmp_path,
        teacher=PADDED,
        students=students,
        arms=(kd(), kd("online", loss="forward_kl")),
        logits=LogitsSpec(top_k=shared, temperature=1.0, batch_size=4),
    )
    journal = place.run(spec)
    directory, inputs = inputs_of(place, "logits")
    assert open_cache(directory).vocab_size == shared
    assert inputs.get("output_rows") == (shared if shared < PADDED else None)
    for student in spec.students:
        before = f"{student.name}." if len(students) > 1 else ""
        cached, online = (journal.results(f"train.{before}{arm}.1.0") for arm in ("kd", "online"))
        assert cached["loss_first"] == pytest.approx(online["loss_first"], rel=2e-3)
        assert cached["loss_last"] == pytest.approx(online["loss_last"], rel=2e-3)


def test_more_kept_tokens_than_shared_rows_are_refused_before_anything_is_prepared(
    place: Place, tmp_path: Path
) -> None:
    spec = study(tmp_path, teacher=PADDED, students=(TOKENS,), arms=(kd(),))
    kept = dataclasses.replace(FIXED, temperature=1.0, top_k=TOKENS + 1)
    with pytest.raises(StillwattError, match=r"teacher_logits\.top_k: 258 kept tokens .* lower it to 257 or less"):
        place.run(dataclasses.replace(spec, logits=kept))
    assert place.journal.stages() == ["prepare_data"]
    assert not place.journal.results("prepare_data")


def test_all_students_of_a_study_are_compared_on_one_number_of_rows(place: Place, tmp_path: Path) -> None:
    """A student that another one stands beside learns what it would learn alone, cut to the fewest rows."""
    arms = (kd("online", loss="forward_kl"),)
    both = place.run(study(tmp_path / "both", teacher=PADDED, students=(280, TOKENS), arms=arms), "both")
    alone = place.run(study(tmp_path / "alone", teacher=TOKENS, students=(280,), arms=arms), "alone")
    losses = both.results("train.s280.online.1.0")["loss_first"], alone.results("train.online.1.0")["loss_first"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("form", ["fixed", "rs_kd"])
def test_a_padded_teacher_teaches_a_smaller_student_by_every_artefact(place: Place, tmp_path: Path, form: str) -> None:
    logits = dataclasses.replace(FORMS[form], temperature=1.0)
    arms = (kd(loss="sampled_kl" if form == "rs_kd" else "top_k_tail"), smoke_spec().arms[2])
    journal = place.run(study(tmp_path, teacher=PADDED, students=(TOKENS,), arms=arms, logits=logits))
    assert set(journal.status().values()) == {"ended"}
    directory, inputs = inputs_of(place, "text")
    assert inputs["output_rows"] == TOKENS
    assert max(map(max, teacher_generate.load(directory).sequences)) < TOKENS


def test_a_padded_student_writes_what_its_teacher_can_read(place: Place, tmp_path: Path) -> None:
    arm = ArmSpec(name="gkd", method=Method.GKD, alpha=0.0, temperature=1.0, loss="jsd", loss_parameter=0.5,
                  own_text_share=1.0)  # fmt: skip
    journal = place.run(study(tmp_path, teacher=TOKENS, students=(PADDED,), arms=(arm,), own_text=OWN_TEXT))
    assert set(journal.status().values()) == {"ended"}
    assert journal.results("train.gkd.1.0")["own_text_steps"] == 4


def test_rows_that_cut_nothing_are_in_no_name(place: Place) -> None:
    place.run(dataclasses.replace(smoke_spec(serve=None), arms=smoke_spec().arms[1:]))
    for kind in ("logits", "text"):
        assert "output_rows" not in inputs_of(place, kind)[1]


def test_a_run_that_began_with_an_uncut_cache_goes_on_with_it(place: Place, tmp_path: Path) -> None:
    spec = study(tmp_path, teacher=PADDED, students=(TOKENS,), arms=(kd(),))
    place.run(spec, progress=KillingProgress("train.kd.1.0"))
    assert place.journal.events[-1] == {"event": "killed"}
    # as a release before this one named it
    directory, inputs = inputs_of(place, "logits")
    record = json.loads((directory / RECORD_NAME).read_text())
    del inputs["output_rows"]
    (directory / RECORD_NAME).write_text(json.dumps({**record, "inputs": inputs}))
    directory.rename(directory.with_name(artifact_id("logits", inputs)))
    journal = place.run(spec, prefix="b")
    assert "teacher_logits" not in journal.stages()
    assert journal.status()["evaluate.kd.1.0"] == "ended"
    # another run's arms have not begun on it
    assert "teacher_logits" in place.run(spec, "r2").stages()
    assert len([*(place.directory / "artifacts").iterdir()]) == 2


@pytest.mark.parametrize("temperature", [0.0, 9.0])
def test_what_no_token_has_is_never_written_and_probabilities_are_those_of_tokens(temperature: float) -> None:
    spec = dataclasses.replace(GENERATE, temperature=temperature)
    prompts, model = [[5, 6, 7], [9] * 6, [200, 3]], padded()
    plain = Writer(model, _Ends(), spec, frozenset()).write(prompts, 3)
    assert temperature == 0.0 or max(map(max, plain)) >= TOKENS  # left to itself it does
    writer = Writer(model, _Ends(), spec, frozenset(), num_tokens=TOKENS)
    written = writer.write_scored(prompts, 3)
    assert [one.tokens for one in written] == writer.write(prompts, 3)
    for prompt, one in zip(prompts, written, strict=True):
        assert max(one.tokens) < TOKENS
        with torch.inference_mode():
            logits_LV = model(input_ids=torch.tensor([[*prompt, *one.tokens]])).logits[0, :, :TOKENS]
        logp_LV = logits_LV.log_softmax(-1)[len(prompt) - 1 : -1]
        assert one.logprobs == pytest.approx([float(r[t]) for r, t in zip(logp_LV, one.tokens, strict=True)], abs=1e-4)


class _Ends:
    eos_token_id = None
    pad_token_id = 0


def test_an_engine_that_tells_the_most_probable_tokens_leaves_rows_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", monkeypatch)
    model, rows = model_folder(tmp_path / "model"), VOCABULARY - 6
    draw = np.random.default_rng(7)
    sequences = [draw.choice(12, length).tolist() for length in (12, 9, 12)]
    for spec in (dataclasses.replace(FIXED, temperature=1.0, top_k=k) for k in (8, rows)):
        there, here = tmp_path / f"there{spec.top_k}", tmp_path / f"here{spec.top_k}"
        tally = Tally()
        with vllm_teacher(model, "float32", spec, sequences, threads=1, stage=tally, rows=rows) as teacher:
            teacher_logits.make(teacher, sequences, spec, there, task=tally, stage=tally)
        teacher_logits.make(TableTeacher(), sequences, spec, here, task=tally, stage=tally, rows=rows)
        one, other = open_cache(there), open_cache(here)
        assert one.vocab_size == other.vocab_size == rows
        assert torch.equal(one.batch([0]).ids_BTK, other.batch([0]).ids_BTK)
        # rows that were not told of are still in the sum, each less than the least that was
        off = (one.batch([0]).logp_BTK - other.batch([0]).logp_BTK).abs().max()
        assert float(off) < (0.1 if spec.top_k == 8 else 1e-4)


def test_what_an_engine_told_of_rows_left_out_is_in_no_sum() -> None:
    told = Top(ids_TW=np.array([[4, 1, 5, 0]]), logp_TW=np.log([[0.4, 0.3, 0.2, 0.1]]), vocab_size=6)
    cut = told.cut(4, 2)
    assert cut.ids_TW.tolist() == [[1, 0]]
    assert np.exp(cut.logp_TW) == pytest.approx(np.array([[0.75, 0.25]]))
    assert cut.vocab_size == 4


def test_an_engine_is_told_which_tokens_it_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", monkeypatch)
    model = model_folder(tmp_path / "model")
    spec = dataclasses.replace(GENERATE, engine="vllm")
    written = []
    for count in (None, 30):
        writer = VllmWriter(model, "float32", spec, frozenset({2}), threads=1, num_tokens=count)
        try:
            written.append(writer.write([[5, 6]], 3)[0])
        finally:
            writer.close()
    assert [text[:-3] for text in written] == [[5, 6]] * 2
    assert written[0][-3] >= 30 > written[1][-3]  # the stand-in draws among those that it may


def test_a_given_cache_with_a_row_that_no_student_has_is_refused_before_anything_is_trained(
    place: Place, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(resolve_model("tiny-random", revision=None, announce=lambda _: None).directory)
    rows = rows_of(PADDED, (20,) * 14)
    rows = [dataclasses.replace(row, tokens_T=row.tokens_T % TOKENS) for row in rows]
    cache = converted(tmp_path, "harness", rows, PADDED, tokenizer_sha256=tokenizer_sha256(tokenizer))
    with pytest.raises(StillwattError, match=r"keeps output row 2\d\d of its teacher in sequence 0, and a student has"):
        place.run(given_spec(cache))
    assert not any(name.startswith("train.") for name in place.journal.stages())


def test_a_teacher_that_reads_more_than_text_fills_a_cache(place: Place, tmp_path: Path) -> None:
    text = {
        **{"vocab_size": PADDED, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "head_dim": 8},
        **{"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0},
    }
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = Gemma3Config(text_config=text, vision_config={**vision, "image_size": 28, "patch_size": 14})
    torch.manual_seed(0)
    spec = study(tmp_path, teacher=TOKENS, students=(TOKENS,), arms=(kd(),))
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "teacher")
    journal = place.run(spec)
    assert journal.status()["evaluate.kd.1.0"] == "ended"
    assert open_cache(inputs_of(place, "logits")[0]).vocab_size == TOKENS
