"""Exports on disk: nothing is written over, a card keeps what is its own, losses lie beside."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from rocrate.rocrate import ROCrate

from export_reports import DETAILS, FULL, poor, rich
from stillwatt.config.export_details import KEYS, parse_details
from stillwatt.errors import ConfigError, FileExistsAlreadyError, MissingExtraError, ReportError, UnknownNameError
from stillwatt.workflows.export import NAMES, export

_INDEX = """model-index:
- name: student
  results:
  - task:
      type: text-generation
    dataset:
      name: a set
      type: a-set
    metrics:
    - type: accuracy
      value: 0.5
"""
CARD = f"""---
language: en
license: mit
tags:
- distillation
co2_eq_emissions:
  emissions: 83.5
  source: somebody
{_INDEX}---

# A student

Words | with *marks*.
"""
CHECKED = {
    "cyclonedx": "cyclonedx-python-lib",
    "spdx": "spdx-python-model",
    "rocrate": "prov and rocrate",
    "huggingface": "huggingface_hub",
}


@pytest.mark.parametrize("form", NAMES)
def test_each_format_is_written_with_its_losses(form: str, tmp_path: Path) -> None:
    written = export(rich(), form, tmp_path / "out", FULL)
    assert written.path.exists()
    assert written.validated_by == CHECKED.get(form, "")
    losses = json.loads(written.losses_path.read_text(encoding="utf-8"))
    assert losses["format"] == form
    assert len(losses["losses"]) == len(written.losses) > 0
    assert all(loss["what"] and loss["why"] for loss in losses["losses"])
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("form", [form for form in NAMES if form != "huggingface"])
def test_nothing_is_written_over(form: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(rich(), form, out, FULL)
    with pytest.raises(FileExistsAlreadyError, match="--force"):
        export(rich(), form, out, FULL)
    export(rich(), form, out, FULL, is_forced=True)
    other = tmp_path / "other"
    other.with_name("other.losses.json").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsAlreadyError, match=r"other\.losses\.json"):
        export(rich(), form, other, FULL)
    assert not other.exists()


@pytest.mark.parametrize("form", NAMES)
@pytest.mark.parametrize("is_forced", [True, False])
def test_what_stands_in_the_way_is_named_with_the_next_step(form: str, is_forced: bool, tmp_path: Path) -> None:
    """A folder where a file is to be, or a file where a folder is to be: no --force helps, so none is advised."""
    out = tmp_path / "out"
    is_folder = form == "rocrate"
    if is_folder:
        out.write_text("mine", encoding="utf-8")
    else:
        out.mkdir()
    with pytest.raises(ConfigError, match=r"name a (file|folder)") as caught:
        export(rich(), form, out, FULL, is_forced=is_forced)
    assert str(out) in str(caught.value)
    assert "--force" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_card_keeps_all_but_its_own_section(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(CARD, encoding="utf-8")
    export(rich(), "huggingface", path, FULL)
    export(rich(), "huggingface", path, FULL)
    text = path.read_text(encoding="utf-8")
    card, before = ModelCard(text), ModelCard(CARD)
    assert text.count("stillwatt: begin") == 1
    assert "# A student\n\nWords | with *marks*.\n" in text
    emissions = card.data["co2_eq_emissions"]
    assert emissions["emissions"] > 83.5
    assert emissions["training_type"] == "pre-training"
    assert _others(card) == _others(before)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_card_keeps_front_matter_that_the_library_does_not_know(end: str, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    own = "widget: null\nours:\n  made: by hand\n" + _INDEX.replace("type: a-set", "type: a-set\n      ours: too")
    path.write_bytes(f"---\nlicense: mit\n{own}---\n\n# A student\n".replace("\n", end).encode())
    export(rich(), "huggingface", path, FULL)
    export(rich(), "huggingface", path, FULL)
    text = path.read_bytes().decode()
    front = yaml.safe_load(text.split("---")[1])
    assert front["co2_eq_emissions"]["emissions"] > 0.0
    del front["co2_eq_emissions"]
    assert front == yaml.safe_load(f"license: mit\n{own}")
    assert text.count("stillwatt: begin") == 1
    assert "# A student" in text


def test_a_card_of_an_uncounted_run_keeps_its_figure_and_gets_no_zero(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(CARD.replace("license: mit", "license: mit # as agreed\n# a comment"), encoding="utf-8")
    written = export(poor(), "huggingface", path, DETAILS)
    assert ModelCard(path.read_text(encoding="utf-8")).data["co2_eq_emissions"]["emissions"] == 83.5
    assert any("own is kept" in loss.why for loss in written.losses)
    assert any("comments" in loss.what for loss in written.losses)
    fresh = tmp_path / "fresh.md"
    export(poor(), "huggingface", fresh, DETAILS)
    assert "co2_eq_emissions" not in fresh.read_text(encoding="utf-8")


@pytest.mark.parametrize("front", ["---\n- a list\n---\nx", "---\na: [1\n---\nx"])
def test_a_card_that_cannot_be_read_is_left_alone(front: str, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(front, encoding="utf-8")
    with pytest.raises(ReportError, match="nothing was written"):
        export(rich(), "huggingface", path, DETAILS)
    assert path.read_text(encoding="utf-8") == front


def test_a_crate_is_a_folder_that_can_be_opened(tmp_path: Path) -> None:
    export(rich(), "rocrate", tmp_path / "crate", FULL)
    crate = ROCrate(str(tmp_path / "crate"))
    assert crate.dereference("report.json")["name"] == "Life-cycle report"
    assert json.loads((tmp_path / "crate" / "report.json").read_text(encoding="utf-8")) == rich()


@pytest.mark.parametrize(("form", "library"), [("cyclonedx", "cyclonedx"), ("spdx", "spdx_python_model")])
def test_without_its_library_an_export_says_that_nobody_checked_it(
    form: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hide(monkeypatch, library)
    written = export(rich(), form, tmp_path / "out", DETAILS)
    assert written.path.exists()
    assert "not checked" in written.note
    assert "stillwatt[exports]" in written.note


def test_without_rocrate_the_crate_is_written_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "rocrate")
    written = export(rich(), "rocrate", tmp_path / "crate", DETAILS)
    assert "rocrate is not installed" in written.note


def test_a_card_needs_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "huggingface_hub")
    with pytest.raises(MissingExtraError, match="exports"):
        export(rich(), "huggingface", tmp_path / "README.md", DETAILS)


def test_details() -> None:
    assert parse_details(["model = a=b", "parameters=1e9"]).model == "a=b"
    assert "created_utc" not in KEYS
    for text, what in (
        ("model", "KEY=VALUE"),
        ("parameters=many", "no number"),
        ("parameters=-1", "no number"),
        ("training_flop=inf", "no number"),
    ):
        with pytest.raises(ConfigError, match=what):
            parse_details([text])
    with pytest.raises(UnknownNameError, match="did you mean 'model'"):
        parse_details(["modell=x"])
    with pytest.raises(UnknownNameError, match="onPremise"):
        parse_details(["infrastructure=onpremise"])


def _others(card: Any) -> dict[str, Any]:
    return {key: value for key, value in card.data.to_dict().items() if key != "co2_eq_emissions"}


def _hide(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    real = builtins.__import__

    def hidden(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ImportError(f"no {library}", name=library)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", hidden)
