"""The corpus: works and their figures, shipped and one's own, as one immutable whole with a content hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from stillwatt.errors import ConfigError, NoSuchInputError
from stillwatt.literature.cells import Problem
from stillwatt.literature.rows import Table, read_table
from stillwatt.records.literature import PublishedFigure, Work

DATA = Path(__file__).resolve().parent / "data"
_NEXT = "docs/how-to/literature.md says what a row holds"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Works and figures. Their order means nothing: laws hold under any."""

    works: tuple[Work, ...]
    figures: tuple[PublishedFigure, ...]
    index: Mapping[str, Work]
    """Every work that a figure may belong to, by id, whether it was chosen or not."""

    @cached_property
    def content_hash(self) -> str:
        """sha256 over all that works and figures say, in no order."""
        hashes = sorted([work.content_hash for work in self.works] + [one.content_hash for one in self.figures])
        return hashlib.sha256("\n".join(hashes).encode("ascii")).hexdigest()

    def work_of(self, figure: PublishedFigure) -> Work:
        """The work that a figure stands in."""
        return self.index[figure.work]


def make_corpus(works: Iterable[Work], figures: Iterable[PublishedFigure]) -> Corpus:
    """A corpus of works and figures that are already checked; a later work of an id takes the earlier's place."""
    index = {work.id: work for work in works}
    return Corpus(works=tuple(index.values()), figures=tuple(figures), index=index)


@cache
def shipped_corpus() -> Corpus:
    """The corpus that comes with Stillwatt."""
    works = _sound(_read(DATA / "works.csv", {}))
    figures = _sound(_read(DATA / "figures.csv", {work.id: work for work in works.works}))
    return make_corpus(works.works, figures.figures)


def load_corpus(paths: Iterable[str | Path] = (), base: Corpus | None = None) -> Corpus:
    """The shipped corpus with files of one's own on top.

    Raises:
        ConfigError: a file is not as it should be; names the first row and column, and how many more there are.
        NoSuchInputError: there is no such file.
    """
    corpus = shipped_corpus() if base is None else base
    for path in paths:
        table = _sound(_read(Path(path), corpus.index))
        corpus = make_corpus((*corpus.works, *table.works), (*corpus.figures, *table.figures))
    return corpus


def check_file(path: str | Path) -> Table:
    """A file as it stands, with every problem it has.

    Raises:
        NoSuchInputError: there is no such file.
    """
    return _read(Path(path), shipped_corpus().index)


def _read(path: Path, known: Mapping[str, Work]) -> Table:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise NoSuchInputError("table of published figures", str(path), _NEXT) from None
    except UnicodeDecodeError as err:
        problem = Problem(path=str(path), line=1, column="", message=f"is not UTF-8 text (byte {err.start})")
        return Table(problems=(problem,))
    except OSError as err:
        raise ConfigError(str(path), f"cannot be read: {err.strerror}") from err
    return read_table(text.replace("\r\n", "\n"), str(path), known)


def _sound(table: Table) -> Table:
    if table.problems:
        first, *more = table.problems
        others = f"; {len(more)} more, `stillwatt literature check {first.path}` lists them" if more else ""
        where = f"column {first.column}: " if first.column else ""
        raise ConfigError(first.path, f"{where}{first.message}{others}", line=first.line)
    return table
