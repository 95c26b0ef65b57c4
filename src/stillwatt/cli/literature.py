"""`stillwatt literature`: what published works cover, and one's own figure beside published ones."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stillwatt.cli.factors import factor_options
from stillwatt.cli.options import Number, json_option
from stillwatt.cli.screen import columns, note, say, say_json, say_prose, width
from stillwatt.errors import UsageError

if TYPE_CHECKING:
    from stillwatt.literature.compare import Asked
    from stillwatt.literature.corpus import Corpus
    from stillwatt.workflows.literature import Uncompared

Command = TypeVar("Command", bound=Callable[..., object])
_COLUMNS = 100
_CHOICES = (
    ("stage", "stages", "STAGE", "Only this life-cycle stage, e.g. training; may be given again."),
    ("metric", "metrics", "METRIC", "Only this metric, e.g. energy or water; may be given again."),
    ("method", "methods", "METHOD", "Only figures that came about so, e.g. measured; may be given again."),
    ("evidence", "evidence", "EVIDENCE", "Only what was coded from this, e.g. full_text; may be given again."),
)


def corpus_option(command: Command) -> Command:
    """Published figures of one's own."""
    means = "Your own published figures, CSV; they stand on top of the shipped ones."
    return click.option("--corpus", "corpus_files", metavar="FILE", multiple=True, help=means)(command)


def choice_options(command: Command) -> Command:
    """What to look at, called the same wherever the corpus is looked at."""
    subject = click.option("--subject", metavar="TEXT", default="", help="Part of a subject, title or author.")
    verified = click.option("--verified", "is_verified", is_flag=True, help="Only what was seen where it says.")
    years = click.option("--years", metavar="YEAR[-YEAR]", default="", help="Only these years.")
    command = years(verified(subject(corpus_option(command))))
    for option, name, word, means in reversed(_CHOICES):
        command = click.option(f"--{option}", name, metavar=word, multiple=True, help=means)(command)
    return command


@click.group()
def literature() -> None:
    """Published works on the footprint of AI: what they cover, and your figure beside theirs."""


@literature.command("list")
@choice_options
@click.option("--figures", is_flag=True, help="List figures in place of works.")
@json_option
def list_command(figures: bool, as_json: bool, **choice: Any) -> None:
    """List works with the stages that they quantify, or figures."""
    from stillwatt.report.literature_data import figure_dict, figure_rows, work_dict, work_rows

    corpus = _chosen(choice)
    if as_json:
        listed = (
            {"figures": [figure_dict(one) for one in corpus.figures]}
            if figures
            else {"works": [work_dict(work) for work in corpus.works]}
        )
        say_json({"corpus_hash": corpus.content_hash, **listed})
        return
    for line in columns(figure_rows(corpus.figures) if figures else work_rows(corpus)):
        say(line)
    note(f"{len(corpus.works)} works, {len(corpus.figures)} figures")


@literature.command("show")
@click.argument("name", metavar="WORK|FIGURE")
@corpus_option
@json_option
def show_command(name: str, corpus_files: tuple[str, ...], as_json: bool) -> None:
    """Show one work: its coding by stage, what that rests on, and its figures."""
    from stillwatt.report.literature_data import figure_dict, figure_rows, work_dict, work_lines
    from stillwatt.workflows.literature import find_work, open_corpus

    work, figures = find_work(open_corpus(corpus_files), name)
    if as_json:
        say_json({"work": work_dict(work), "figures": [figure_dict(one) for one in figures]})
        return
    say_prose(f"{work.title} ({work.year})")
    say_prose(f"{work.authors}; {work.source}")
    say_prose(f"{work.kind.value}, coded from {work.evidence.value}" + _checked(work.verified))
    say()
    for line in columns(list(work_lines(work)), most=width()):
        say(line)
    if figures:
        say()
        for line in columns(figure_rows(figures), most=width()):
            say(line)


@literature.command("map")
@choice_options
@click.option("--html", "page", metavar="FILE", help="Write the map as a page that needs nothing else.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@json_option
def map_command(page: str | None, force: bool, as_json: bool, **choice: Any) -> None:
    """Draw the coverage map: works by stage, metrics by stage, and what the codings rest on.

    A file that --html names is left alone without --force, unless it is such a page.
    """
    from stillwatt.literature.corpus import shipped_corpus
    from stillwatt.literature.coverage import coverage_map, map_dict
    from stillwatt.literature.stated import statements
    from stillwatt.report.literature import map_html, map_text
    from stillwatt.workflows.outputs import write_whole

    if page:
        _refuse_taken(page, choice["corpus_files"], is_forced=force)
    words = _words(choice)
    drawn = coverage_map(_chosen(choice))
    if page:
        stated = () if words else statements(shipped_corpus())
        write_whole(Path(page), map_html(drawn, stated, words))
        note(f"wrote {page}")
    if as_json:
        say_json(map_dict(drawn))
    elif not page:
        is_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size((_COLUMNS, 24)).columns if is_terminal else _COLUMNS
        click.echo(map_text(drawn, columns=width, is_terminal=is_terminal), nl=False)


@literature.command("compare")
@click.option("--value", type=Number(min=0.0), help="Your figure.")
@click.option("--low", type=Number(min=0.0), help="Lower end of its interval.")
@click.option("--high", type=Number(min=0.0), help="Upper end of its interval.")
@click.option("--unit", default="", metavar="UNIT", help="Its unit, e.g. kWh.")
@click.option("--per", default="", metavar="WHAT", help="Per what, e.g. request or '1000 requests'; else a total.")
@click.option("--stage", default="", metavar="STAGE", help="Its life-cycle stage.")
@click.option("--metric", default="energy", show_default=True, metavar="METRIC", help="What it is a figure of.")
@click.option("--boundary", default="", metavar="BOUNDARY", help="How far it reaches, e.g. board, node, facility.")
@click.option("--counts", default="", metavar="KIND", help="Of CO2e: location or market; of water: onsite or offsite.")
@click.option("--account", metavar="FILE", help="Take the figures of a life-cycle account or report, JSON, instead.")
@click.option("--region", default="world", show_default=True, metavar="PLACE", help="Where factors are looked for.")
@corpus_option
@factor_options
@json_option
def compare_command(
    account: str | None,
    region: str,
    corpus_files: tuple[str, ...],
    files: tuple[str, ...],
    overrides: tuple[str, ...],
    as_json: bool,
    **figure: Any,
) -> None:
    """Set a figure beside published ones of the same stage, metric and boundary.

    Unlike boundaries are brought together by a named factor where there is one, with its interval, and refused where
    there is none. Under five works nothing is said of a rank.
    """
    from stillwatt.report.literature_data import comparison_dict, comparison_lines, headline, remarks
    from stillwatt.workflows.factors import open_catalog
    from stillwatt.workflows.literature import compare_figure, open_corpus

    asked, uncompared = _asked(account, figure)
    corpus, catalog = open_corpus(corpus_files), open_catalog(files, overrides)
    found = [compare_figure(one, corpus, catalog, region) for one in asked]
    if as_json:
        say_json(
            {
                "corpus_hash": corpus.content_hash,
                "comparisons": [comparison_dict(one) for one in found],
                "uncompared": [asdict(one) for one in uncompared],
            }
        )
        return
    for one in found:
        say(headline(one.asked))
        for line in columns(list(comparison_lines(one))):
            say(f"  {line}")
        for remark in remarks(one):
            say(remark)
        say()
    for cell in uncompared:
        note(f"{cell.cell}: not compared: {cell.reason}")


@literature.command("check")
@click.argument("file", metavar="FILE")
@json_option
@click.pass_context
def check_command(context: click.Context, file: str, as_json: bool) -> None:
    """Check a table of published figures, or of works, and name each fault by row and column."""
    from stillwatt.literature.corpus import check_file

    table = check_file(file)
    if as_json:
        counts = {"works": len(table.works), "figures": len(table.figures)}
        say_json({"file": file, **counts, "problems": [asdict(one) for one in table.problems]})
    else:
        for problem in table.problems:
            say(str(problem))
        faults = f"{len(table.problems)} faults" if table.problems else "no fault"
        say(f"{file}: {len(table.works)} works, {len(table.figures)} figures, {faults}")
    context.exit(1 if table.problems else 0)


def _refuse_taken(page: str, corpus_files: tuple[str, ...], *, is_forced: bool) -> None:
    from stillwatt.report.literature import TITLE
    from stillwatt.workflows.outputs import refuse_taken

    refuse_taken(Path(page), is_forced=is_forced, option="--html", inputs=corpus_files, own=TITLE)


def _chosen(choice: dict[str, Any]) -> Corpus:
    from stillwatt.workflows.literature import make_choice, open_corpus

    words = dict(choice)
    return open_corpus(words.pop("corpus_files"), make_choice(**words))


def _words(choice: dict[str, Any]) -> str:
    """By what was chosen, for the page; empty where all is shown as it is shipped."""
    said = [f"{name.removeprefix('is_')}: {', '.join(map(str, word))}" for name, word in choice.items() if _many(word)]
    said += [f"{name}: {word}" for name, word in choice.items() if isinstance(word, str) and word]
    return "; ".join([*said, *(["verified"] if choice["is_verified"] else [])])


def _many(word: object) -> bool:
    return isinstance(word, tuple) and bool(word)


def _asked(account: str | None, figure: dict[str, Any]) -> tuple[list[Asked], list[Uncompared]]:
    """The figures to be compared: one from the options, or those of an account."""
    from stillwatt.workflows.literature import ask, asked_of_account

    if account is not None:
        if figure["value"] is not None:
            raise UsageError("give --value with its words, or --account, not both")
        return asked_of_account(account)
    if figure["value"] is None or not figure["unit"] or not figure["stage"]:
        raise UsageError("compare needs --value, --unit and --stage, or --account FILE")
    return [ask(**figure)], []


def _checked(is_verified: bool) -> str:
    return "" if is_verified else "; title, authors or address not checked"
