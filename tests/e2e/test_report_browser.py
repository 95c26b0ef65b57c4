"""The page in a real browser, from a file: it draws, stays silent, asks for nothing, and fits a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from export_reports import rich
from figure_studies import HOSTILE, study
from lifecycle_pages import hostile
from run_records import measured_command, quickstart
from stillwatt.analysis.study import summarise
from stillwatt.records import RunRecord
from stillwatt.report.comparison_html import comparison_html
from stillwatt.report.data import report_dict
from stillwatt.report.html import report_html
from stillwatt.report.lifecycle_page import lifecycle_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as play:
        started = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@dataclass(slots=True)
class Opened:
    """A page that was opened from a file, and all it said and asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def ask(self, script: str) -> Any:
        """What the page answers."""
        return self.page.evaluate(script)


def open_report(browser: Browser, folder: Path, run: RunRecord, **context: Any) -> Opened:
    return open_page(browser, folder, report_html(report_dict(run, summarise(run, reuse=(10,)))), **context)


def open_page(browser: Browser, folder: Path, text: str, **context: Any) -> Opened:
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    opened = Opened(page=browser.new_page(**context))
    opened.page.on("console", lambda message: opened.said.append(message.text))
    opened.page.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.page.on("request", lambda request: opened.asked.append(request.url))
    opened.page.goto(path.as_uri())
    opened.page.wait_for_selector("html[data-drawn]", state="attached")
    return opened


def marks_by_figure(opened: Opened) -> dict[str, int]:
    """Drawn marks in each figure, axes not counted."""
    found: dict[str, int] = opened.ask(
        """Object.fromEntries([...document.querySelectorAll('[data-figure]')].map(place => [place.dataset.figure,
             place.querySelectorAll('svg .role-mark path, svg .role-mark line, svg .role-mark text').length]))"""
    )
    return found


def test_the_page_draws_every_figure_in_silence(browser: Browser, tmp_path: Path) -> None:
    opened = open_report(browser, tmp_path, quickstart(), viewport={"width": 1200, "height": 900})
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith(("file:", "data:"))] == []
    marks = marks_by_figure(opened)
    assert set(marks) == {
        "stages-0",
        "arms-0",
        "frontier-0",
        "frontier-1",
        "frontier-2",
        "reuse-0",
        "tornado-0",
        "trace-0",
        "trace-1",
    }
    assert marks.pop("tornado-0") == 13
    assert all(count >= 14 for count in marks.values()), marks
    assert marks["stages-0"] == 30
    text = opened.page.inner_text("body")
    for words in (
        "Not shown to be worth it",
        "Where the joules went",
        "When it pays",
        "What is not counted",
        "modelled",
    ):
        assert words in text
    opened.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_either_light(browser: Browser, tmp_path: Path, scheme: str) -> None:
    opened = open_report(browser, tmp_path, quickstart(), viewport={"width": 390, "height": 844}, color_scheme=scheme)
    assert opened.ask("document.documentElement.scrollWidth") == 390
    assert opened.ask("[...document.querySelectorAll('svg.marks')].every(s => s.getBoundingClientRect().right <= 390)")
    paper, ink = opened.ask(
        """[getComputedStyle(document.body).backgroundColor,
            getComputedStyle(document.querySelector('svg .role-axis-label text')).fill]"""
    )
    assert (luminance(paper) > 0.5) == (scheme == "light")
    assert (luminance(ink) < 0.5) == (scheme == "light")
    opened.page.close()


def test_tables_of_text_fit_a_phone_and_wide_ones_have_a_shade(browser: Browser, tmp_path: Path) -> None:
    opened = open_report(browser, tmp_path, quickstart(), viewport={"width": 390, "height": 844})
    opened.ask("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tables = opened.ask(
        """[...document.querySelectorAll('.scroll')].map((place) => [place.querySelector('table').className,
             place.scrollWidth - place.clientWidth, getComputedStyle(place).backgroundImage])"""
    )
    assert {name for name, over, _ in tables if over > 0} <= {"", "many"}
    assert any(over > 0 for _, over, _ in tables)
    assert all("gradient" in image for _, _, image in tables)
    opened.page.close()


def luminance(colour: str) -> float:
    parts = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    return sum(parts) / 3 / 255


def test_hostile_names_run_nothing(browser: Browser, tmp_path: Path) -> None:
    name = "</script><img src=x onerror=\"document.title='broken in'\">"
    run = quickstart(name=name)
    stages = tuple(replace(s, name=s.name + name, labels={**s.labels, "seed": name}) for s in run.stages)
    opened = open_report(browser, tmp_path, replace(run, stages=stages))
    assert opened.ask("document.images.length") == 0
    assert opened.ask("document.title").startswith("</script><img")
    assert opened.said == []
    place = opened.page.locator("[data-figure='stages-0'] .mark-rect.role-mark path").first
    place.hover()
    opened.page.wait_for_selector("#vg-tooltip-element.visible")
    assert opened.ask("document.images.length") == 0
    assert name in opened.page.inner_text("#vg-tooltip-element td.value >> nth=0")
    opened.page.mouse.move(1, 1)
    opened.page.wait_for_selector("#vg-tooltip-element:not(.visible)", state="attached")
    opened.page.close()


def test_the_data_behind_the_page_can_be_taken_along(browser: Browser, tmp_path: Path) -> None:
    opened = open_report(browser, tmp_path, measured_command(), accept_downloads=True)
    with opened.page.expect_download() as waiting:
        opened.page.click("#download")
    saved = tmp_path / "data.json"
    waiting.value.save_as(saved)
    from stillwatt.report.data import report_json

    data = report_dict(measured_command(), summarise(measured_command(), reuse=(10,)))
    import json

    assert json.loads(saved.read_text(encoding="utf-8")) == json.loads(report_json(data))
    assert waiting.value.suggested_filename.endswith(".report.json")
    opened.page.close()


def test_packed_data_can_be_taken_along_too(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of very many labels: the browser unpacks what the page holds compressed."""
    import json

    from stillwatt.report import html
    from stillwatt.report.comparison import comparison_dict
    from stillwatt.report.data import writable

    monkeypatch.setattr(html, "_MOST_PLAIN", 1_000)
    opened = open_page(browser, tmp_path, comparison_html(study()), accept_downloads=True)
    with opened.page.expect_download() as waiting:
        opened.page.click("#download")
    saved = tmp_path / "data.json"
    waiting.value.save_as(saved)
    assert json.loads(saved.read_text(encoding="utf-8")) == writable(json.loads(json.dumps(comparison_dict(study()))))
    assert opened.said == []
    opened.page.close()


def test_a_figure_that_cannot_be_drawn_says_so(browser: Browser, tmp_path: Path) -> None:
    run = quickstart()
    text = report_html(report_dict(run, summarise(run, reuse=(10,))))
    broken = text.replace('data-figure="arms-0"', 'data-figure="nowhere"').replace(
        '"mark": {"type": "bar",', '"mark": {"type": 7,'
    )
    opened = open_page(browser, tmp_path, broken)
    failed = opened.page.locator(".failed").all_inner_texts()
    assert "This figure could not be drawn (no drawing was made). Its numbers are in the table below." in failed
    assert any(words != failed[-1] for words in failed)
    opened.page.close()


def test_without_scripts_the_words_and_tables_are_there(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    run = quickstart()
    path.write_text(report_html(report_dict(run, summarise(run, reuse=(10,)))), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    text = page.inner_text("body")
    assert "This figure is drawn by a script" in text
    assert "teacher_generate" in text
    context.close()


def test_a_comparison_s_page_draws_every_figure_in_silence(browser: Browser, tmp_path: Path) -> None:
    opened = open_page(browser, tmp_path, comparison_html(study()), viewport={"width": 1200, "height": 900})
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith(("file:", "data:"))] == []
    marks = marks_by_figure(opened)
    assert {name.partition("-")[0] for name in marks} == {"frontier", "students", "bills", "tornado", "sweep"}
    assert all(count >= 12 for count in marks.values()), marks
    assert opened.page.locator(".failed").count() == 0
    text = opened.page.inner_text("body")
    for words in ("When reuse repays the teacher", "Before you rely on this", "What the break-even hangs on"):
        assert words in text
    opened.page.close()


def test_a_number_on_a_cell_does_not_hide_what_the_cell_tells(browser: Browser, tmp_path: Path) -> None:
    opened = open_page(browser, tmp_path, comparison_html(study()), viewport={"width": 1200, "height": 900})
    # its middle, where the number stands
    opened.page.locator("[data-figure='sweep-0'] .mark-rect.role-mark path").first.hover()
    opened.page.wait_for_selector("#vg-tooltip-element.visible")
    told = opened.page.inner_text("#vg-tooltip-element")
    assert "kd-3b-a0.1-t1.0" in told
    assert "temperature T (1)" in told
    opened.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_comparison_fits_a_phone(browser: Browser, tmp_path: Path, scheme: str) -> None:
    text = comparison_html(study())
    opened = open_page(browser, tmp_path, text, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    assert opened.ask("document.documentElement.scrollWidth") == 390
    assert opened.ask("[...document.querySelectorAll('svg.marks')].every(s => s.getBoundingClientRect().right <= 390)")
    opened.page.close()


def test_hostile_labels_run_nothing(browser: Browser, tmp_path: Path) -> None:
    opened = open_page(browser, tmp_path, comparison_html(study(prefix=HOSTILE)))
    assert opened.said == []
    assert opened.ask("document.images.length") == 0
    opened.page.locator("[data-figure='frontier-0'] .mark-symbol.role-mark path").first.hover()
    opened.page.wait_for_selector("#vg-tooltip-element.visible")
    assert opened.ask("document.images.length") == 0
    assert "<img src=x" in opened.page.inner_text("#vg-tooltip-element")
    opened.page.close()


@pytest.mark.parametrize("made", [rich, hostile])
def test_a_life_cycle_page_draws_every_figure_in_silence(browser: Browser, tmp_path: Path, made: Any) -> None:
    opened = open_page(browser, tmp_path, lifecycle_html(made()), viewport={"width": 1200, "height": 900})
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith(("file:", "data:"))] == []
    marks = marks_by_figure(opened)
    assert {name.partition("-")[0] for name in marks} == {"statuses", "stages", "variance"}
    assert marks["statuses-0"] == 160
    assert opened.page.locator(".failed").count() == 0
    assert opened.ask("document.images.length") == 0
    opened.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_life_cycle_page_fits_a_phone_and_paper(browser: Browser, tmp_path: Path, scheme: str) -> None:
    text = lifecycle_html(rich())
    opened = open_page(browser, tmp_path, text, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    assert opened.ask("document.documentElement.scrollWidth") == 390
    assert opened.ask("[...document.querySelectorAll('svg.marks')].every(s => s.getBoundingClientRect().right <= 390)")
    opened.page.set_viewport_size({"width": 688, "height": 900})  # A4 within margins of 14 mm
    opened.page.emulate_media(media="print")
    opened.ask("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert opened.ask("[...document.querySelectorAll('table')].every(t => t.getBoundingClientRect().right <= 689)")
    assert luminance(opened.ask("getComputedStyle(document.body).backgroundColor")) == 1.0
    opened.page.close()


def test_a_life_cycle_page_is_whole_without_scripts(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(lifecycle_html(rich()), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("td[data-cell]").count() == 80
    assert "not counted" in page.inner_text("body")
    context.close()
