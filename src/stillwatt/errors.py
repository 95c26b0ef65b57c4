"""The error tree. Each error names the thing, the place and the next step, and keeps them as fields.

StillwattError                    exit 1
├── UsageError                    exit 2: what was typed or written cannot be meant
│   ├── UnknownNameError          a sensor, key, stage kind or run that does not exist; "did you mean"
│   ├── AmbiguousNameError        a name that means several things
│   ├── ImpossibleFactorError     a factor that cannot be what it says
│   └── ConfigError               a recipe or settings file, with its line
├── MissingInputError             a model, a data set or a file that should be there
│   └── NoSuchInputError          exit 2: a path that was typed leads nowhere
├── SensorError                   an instrument cannot be used or read
│   ├── SensorUnavailableError
│   └── SensorReadError
├── LedgerError                   a run directory or the ledger is not as it should be
│   ├── RunNotFoundError          exit 2
│   ├── RunsDirError              exit 2: a folder that no run can be kept in; an OSError, too
│   └── AmbiguousRunError         exit 2
├── CalibrationError              a meter's log gives no gain for a card; says with figures why
├── ArtifactError                 a cached artefact fails its check
├── PortError                     an address cannot be listened on
├── BudgetError                   a budget is spent before any work could be done, or cannot be kept
├── UnlikeAmountsError            amounts of unlike kinds or boundaries were to be added
├── ReportError                   a report that does not hold what it should, with the place in it
├── GridError                     a live grid service gave no answer that can be used
├── EndpointError                 a teacher behind a network address gave no text that can be used
│   └── RequestRefusedError       it answers, and will not do what this one request asks
├── FileExistsAlreadyError        exit 2: a file would be written over, and nobody asked for that
├── LaunchError               processes over machines cannot be started, or one of them was lost
│   └── LostTouchError            a rank whose peer has gone
├── LostTrainingError             a training went and nobody said so; marks its stage, is never raised
├── MissingExtraError             an optional dependency is not installed; carries the pip line
│   ├── MissingDrawerError        exit 2: the form of figure that was asked for needs it
│   └── MissingEngineError        exit 2: what was to carry the work over machines
└── IncompleteEnergyError         exit 3: a total was asked for while a part is unknown
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

_LEAST_BEGINNING = 3
_MOST_NAMES = 40
"""How many known names an error lists."""


class StillwattError(Exception):
    """Root of every error that Stillwatt raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(StillwattError):
    """What was asked for cannot be meant; nothing was done."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is not known, with the nearest known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, place: str = "", cure: str = "") -> None:
        self.kind, self.name, self.place = kind, name, place
        self.known = tuple(sorted(known))
        self.suggestion = suggest(name, self.known)
        few = ", ".join(self.known[:_MOST_NAMES]) or "none"
        more = f" and {len(self.known) - _MOST_NAMES} more" if len(self.known) > _MOST_NAMES else ""
        hint = f"did you mean {self.suggestion!r}?" if self.suggestion else f"known: {few}{more}"
        where = f"{place}: " if place else ""
        super().__init__(f"{where}unknown {kind} {name!r}; {hint}" + (f"; {cure}" if cure else ""))


class AmbiguousNameError(UsageError):
    """A name that means several things."""

    def __init__(self, kind: str, name: str, meanings: Sequence[str]) -> None:
        self.kind, self.name, self.meanings = kind, name, tuple(meanings)
        super().__init__(f"{kind} {name!r} means several: {', '.join(meanings)}; write one of these codes")


class ImpossibleFactorError(UsageError):
    """A factor that cannot be what it says; it is not used."""

    def __init__(self, factor: str, message: str) -> None:
        self.factor = factor
        super().__init__(f"factor {factor}: {message}")


class ConfigError(UsageError):
    """A settings file that cannot be used, with the place in it."""

    def __init__(self, path: str, message: str, *, line: int | None = None) -> None:
        self.path, self.line = path, line
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {message}")


class MissingInputError(StillwattError):
    """A model, data set or file that should be there is not; says which path and how to get it."""

    def __init__(self, what: str, path: str, cure: str) -> None:
        self.what, self.path, self.cure = what, path, cure
        super().__init__(f"{what} not found at {path}; {cure}")


class NoSuchInputError(MissingInputError):
    """A file or folder that was named on the command line is not there."""

    exit_code = 2


class SensorError(StillwattError):
    """An instrument cannot be used."""

    def __init__(self, driver: str, detail: str, cure: str = "") -> None:
        self.driver, self.detail, self.cure = driver, detail, cure
        super().__init__(f"sensor {driver!r}: {detail}" + (f"; {cure}" if cure else ""))


class SensorUnavailableError(SensorError):
    """The instrument is not there or not readable."""


class SensorReadError(SensorError):
    """One reading failed; the sampling process writes a gap and goes on."""


class LedgerError(StillwattError):
    """A run directory or the ledger is not as it should be."""


class RunNotFoundError(LedgerError):
    """No run by that id, prefix or name."""

    exit_code = 2

    def __init__(self, wanted: str, runs_dir: str, known: Iterable[str] = ()) -> None:
        self.wanted, self.runs_dir = wanted, runs_dir
        near = suggest(wanted, known)
        hint = f"did you mean {near!r}?" if near else "`stillwatt ledger list` shows what is there"
        super().__init__(f"no run {wanted!r} in {runs_dir}; {hint}")


class RunsDirError(LedgerError, OSError):
    """A folder that no run can be kept in; nothing was measured, and nothing was run."""

    exit_code = 2

    def __init__(self, place: str, cause: OSError) -> None:
        self.place = place
        cure = "name a folder that can be written, as `runs_dir`, or `--runs` on the command line"
        super().__init__(f"no run can be kept in {place}: {cause.strerror or cause}; nothing was run; {cure}")
        self.errno = cause.errno


class AmbiguousRunError(LedgerError):
    """A prefix that fits several runs."""

    exit_code = 2

    def __init__(self, wanted: str, matches: Sequence[str]) -> None:
        self.wanted, self.matches = wanted, tuple(matches)
        super().__init__(f"{wanted!r} fits {len(matches)} runs: {', '.join(matches)}; give more of the id")


class CalibrationError(StillwattError):
    """A meter's log is too weak, or of the wrong thing, to calibrate a card by; nothing was written."""

    def __init__(self, path: str, part: str, reasons: Sequence[str], cure: str = "") -> None:
        self.path, self.part, self.reasons, self.cure = path, part, tuple(reasons), cure
        super().__init__(f"{path} does not calibrate {part}: {'; '.join(reasons)}" + (f"; {cure}" if cure else ""))


class ArtifactError(StillwattError):
    """A cached artefact fails its check; it is set aside, never used."""

    def __init__(self, path: str, detail: str, cure: str = "it will be made again on the next run") -> None:
        self.path, self.detail, self.cure = path, detail, cure
        super().__init__(f"artefact {path}: {detail}; {cure}")


class PortError(StillwattError):
    """An address cannot be listened on."""

    def __init__(self, host: str, port: int, cause: str) -> None:
        self.host, self.port, self.cause = host, port, cause
        super().__init__(f"cannot listen on {host} port {port}: {cause}")


class BudgetError(StillwattError):
    """A budget that nothing can be done within, or that cannot be held to."""

    def __init__(
        self, budget: str, detail: str, whose: str, *, cure: str = "raise it, or limit tokens or time"
    ) -> None:
        self.budget, self.detail, self.whose = budget, detail, whose
        super().__init__(f"{whose}: the budget of {budget} cannot be kept: {detail}; {cure}")


class UnlikeAmountsError(StillwattError):
    """Amounts that may not be added were to be added."""

    def __init__(self, what: str, kinds: Sequence[str]) -> None:
        self.what, self.kinds = what, tuple(kinds)
        super().__init__(f"{what}: {' and '.join(kinds)} are never added; keep them side by side")


class ReportError(StillwattError):
    """A report does not hold what it should; says where in it."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(f"{path}: {message}")


class GridError(StillwattError):
    """A live grid service gave no answer that can be used; no key is ever in the text."""

    def __init__(self, source: str, detail: str, cure: str = "") -> None:
        self.source, self.detail, self.cure = source, detail, cure
        super().__init__(f"grid source {source!r}: {detail}" + (f"; {cure}" if cure else ""))


class EndpointError(StillwattError):
    """A teacher behind a network address gave no text that can be used; no key is ever in the text."""

    def __init__(self, url: str, detail: str, cure: str = "") -> None:
        self.url, self.detail, self.cure = url, detail, cure
        super().__init__(f"endpoint {url}: {detail}" + (f"; {cure}" if cure else ""))


class RequestRefusedError(EndpointError):
    """A server will not do what a request asks: its prompt is not to its taste, or the request is wrong as such."""


class FileExistsAlreadyError(UsageError):
    """A file would be written over."""

    def __init__(self, path: str, cure: str) -> None:
        self.path = path
        super().__init__(f"{path} is there already and was left as it is; {cure}")


class LaunchError(StillwattError):
    """Processes over machines cannot be started, or one of them was lost; says which and where, as one sentence."""

    def __init__(self, what: str, detail: str, cure: str, *, last_lines: Sequence[str] = ()) -> None:
        self.what, self.detail, self.cure, self.last_lines = what, detail, cure, tuple(last_lines)
        said = "".join(f"\n  {line}" for line in self.last_lines)
        super().__init__(f"{what} {detail}; {cure}" + (f"\nits last lines:{said}" if said else ""))


class LostTouchError(LaunchError):
    """A rank waits for another one that has gone; which one, their launcher knows."""

    WORDS: ClassVar[str] = "has lost touch with another rank"

    def __init__(self, rank: int, cause: str) -> None:
        self.rank, self.cause = rank, cause
        cure = "what is finished is kept and booked, and the same command goes on from there"
        super().__init__(f"rank {rank}", f"{self.WORDS} ({cause})", cure)


class LostTrainingError(StillwattError):
    """A training ended and no event said so; marks its stage failed when the next one begins."""


class MissingExtraError(StillwattError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"{package} is not installed; run: pip install 'stillwatt[{extra}]'")


class MissingDrawerError(MissingExtraError):
    """A form of figure was asked for that needs a library which is not there; `json` needs none."""

    exit_code = 2


class MissingEngineError(MissingExtraError):
    """What was asked to carry the work over machines is not installed; nothing was done."""

    exit_code = 2


class IncompleteEnergyError(StillwattError):
    """A total was asked for while one of its parts is unknown."""

    exit_code = 3

    def __init__(self, stage: str, absent: Sequence[str]) -> None:
        self.stage, self.absent = stage, tuple(absent)
        super().__init__(
            f"stage {stage!r} has no energy for {', '.join(absent)}; "
            "measure it, supply an estimate, or ask for the partial total"
        )


def suggest(name: str, known: Iterable[str]) -> str | None:
    """The nearest known name, or None where nothing is near; one that begins with what was typed comes first.

    Case does not count, and a name of several words is as near as its nearest word.

    >>> suggest("nmvl", ["nvml", "rapl"])
    'nvml'
    >>> suggest("grid_gwp", ["grid_adpf", "grid_gwp_location"]), suggest("Pairs", ["Pakistan", "aws Paris"])
    ('grid_gwp_location', 'aws Paris')
    """
    import difflib  # only where something was misspelt

    typed = name.casefold()
    names = sorted(known, key=lambda one: (len(one), one))
    if len(typed) >= _LEAST_BEGINNING:
        for one in names:
            if one.casefold().startswith(typed):
                return one
    words: dict[str, str] = {}
    for one in names:
        words.setdefault(one.casefold(), one)
    for one in names:
        for word in one.casefold().split():
            words.setdefault(word, one)
    found = difflib.get_close_matches(typed, words, n=1, cutoff=0.6)
    return words[found[0]] if found else None
