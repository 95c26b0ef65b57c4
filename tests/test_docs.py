"""The documents say what the code does: examples run, names exist, generated pages are current."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stillwatt
from stillwatt.errors import StillwattError

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    info.name for info in pkgutil.walk_packages(stillwatt.__path__, "stillwatt.") if not info.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_generated_pages_are_current() -> None:
    done = subprocess.run([sys.executable, "tools/drift.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_equation_cited_exists() -> None:
    """A docstring that cites an equation cites one that `docs/method.md` numbers."""
    method = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    found = re.findall(r"\\tag\{(\d+)\}|^#+ Eq\. (\d+)\.", method, re.MULTILINE)
    numbered = {int(number) for pair in found for number in pair if number}
    cited: dict[int, str] = {}
    for path in (ROOT / "src").rglob("*.py"):
        for group in re.findall(r"eqs?\. ?(\d+(?:(?:, | and |-)\d+)*)", path.read_text(encoding="utf-8")):
            for number in re.findall(r"\d+", group):
                cited[int(number)] = str(path.relative_to(ROOT))
    assert not {number: place for number, place in cited.items() if number not in numbered}


def test_the_loop_of_ones_own_in_the_how_to_is_billed_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "how-to" / "integrations.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if '"own loop"' in block]
    monkeypatch.chdir(tmp_path)
    exec(code.replace("+ seconds", "+ seconds / 20"), {})
    pytest.importorskip("scipy")
    from stillwatt.workflows.analyse import analyse_runs

    found = analyse_runs(["own loop"])
    teacher = {row.label: row.teacher_j for row in found.rows}
    assert teacher["sft"] == 0.0
    assert (teacher["kd"] or 0.0) > 0.0
    assert all(row.quality is not None for row in found.rows)


def test_every_error_is_in_the_tree_drawing() -> None:
    import stillwatt.errors as errors

    drawn = errors.__doc__ or ""
    missing = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, StillwattError) and name not in drawn
    ]
    assert not missing


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert not broken


def test_public_names_are_all_importable() -> None:
    for name in stillwatt.__all__:
        assert getattr(stillwatt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Runn'"):
        _ = stillwatt.Runn
    assert dir(stillwatt) == sorted(stillwatt.__all__)
