"""Power over time, with the stages behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillwatt.report.format import MISSING, duration_text, significant
from stillwatt.report.tables import Column, Row, Table
from stillwatt.report.vega import KIND_TITLES, TICKS, Spec, by_colour, kind_scale, spec, tips, x

_HEIGHT_PX = 190
_LOST = ("failed", "recovered")
_LETTER_PX = 6.2
"""Width of a letter of the stage labels, about."""


def trace_panels(data: Mapping[str, Any]) -> Iterator[tuple[str, Spec]]:
    """One panel for each part in each session."""
    sessions = list(dict.fromkeys(trace["session"] for trace in data["traces"]))
    for trace in data["traces"]:
        if trace["t_s"]:
            place = f", session {sessions.index(trace['session']) + 1} of {len(sessions)}" if len(sessions) > 1 else ""
            yield f"{trace['part']}{place}", _panel(trace, _bands(data, trace["session"]))


def trace_scale(data: Mapping[str, Any]) -> Spec:
    """The colours of all stages that are drawn."""
    sessions = dict.fromkeys(trace["session"] for trace in data["traces"])
    return kind_scale([band["kind"] for session in sessions for band in _bands(data, session)])


def _bands(data: Mapping[str, Any], session: str) -> list[dict[str, Any]]:
    """The outermost stages of a session, as stretches of its time."""
    return [
        {
            "stage": span["name"],
            **_words(span["name"], is_lost=span["status"] in _LOST),
            "kind": KIND_TITLES["experimentation" if span["status"] in _LOST else span["kind"]],
            "start": span["start_s"],
            "end": span["end_s"],
            "length": duration_text(span["end_s"] - span["start_s"]),
        }
        for span in data["spans"]
        if span["session"] == session and not span["is_nested"] and span["end_s"] > span["start_s"]
    ]


def _words(name: str, *, is_lost: bool) -> dict[str, str]:
    """A stage's name for a stretch that has room for it, and its kind for one that has not.

    >>> _words("train.kd.0.5", is_lost=False), _words("evaluate.kd.0.5", is_lost=True)["long"]
    ({'long': 'train kd 0.5', 'short': 'train'}, 'lost: evaluate kd 0.5')
    >>> _words("teacher_logits", is_lost=False), _words("python train.py", is_lost=False)["short"]
    ({'long': 'teacher logits', 'short': 'teacher logits'}, 'python train.py')
    """
    verb, _, rest = name.partition(".")
    if verb in ("train", "evaluate", "judge", "serve") and rest:
        arm, _, share = rest.partition(".")
        words = {"long": f"{verb} {arm} {share}".strip(), "short": verb}
    else:
        words = dict.fromkeys(("long", "short"), name.replace("_", " "))
    return {"long": f"lost: {words['long']}", "short": "lost"} if is_lost else words


def _panel(trace: Mapping[str, Any], bands: Sequence[Mapping[str, Any]]) -> Spec:
    last_s = max([trace["t_s"][-1], *(band["end"] for band in bands)])
    top_w = max(trace["high_w"]) * 1.18 or 1.0
    points = [
        {
            "t": t,
            "mean": mean,
            "low": low,
            "high": high,
            "text": f"{significant(mean)} W ({significant(low)} to {significant(high)})",
            "at": duration_text(t),
        }
        for t, mean, low, high in zip(trace["t_s"], trace["mean_w"], trace["low_w"], trace["high_w"], strict=True)
    ]
    time = x(
        "t", "time since the start (s)", scale={"domain": [0, last_s], "nice": False}, axis={"grid": False, **TICKS}
    )
    watts = x("mean", "power (W)", scale={"domain": [0, top_w], "nice": False})
    return spec(
        points,
        [
            *_stage_layers(bands, last_s, top_w),
            {
                "mark": {"type": "area", "opacity": 0.35, "color": "currentColor"},
                "encoding": {"x": time, "y": {**watts, "field": "low"}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.2, "color": "currentColor"},
                "encoding": {"x": time, "y": watts, "tooltip": tips(("time", "at"), ("power", "text"))},
            },
        ],
        height=_HEIGHT_PX,
    )


def _stage_layers(bands: Sequence[Mapping[str, Any]], last_s: float, top_w: float) -> list[Spec]:
    if not bands:
        return []
    color = by_colour("kind", kind_scale([band["kind"] for band in bands]))
    room = f"(datum.end - datum.start) / {last_s!r} * width > {_LETTER_PX} * length(datum.{{}}) + 4"
    shown = f"{room.format('long')} ? datum.long : {room.format('short')} ? datum.short : ''"
    return [
        {
            "data": {"values": [dict(band) for band in bands]},
            "mark": {"type": "rect", "opacity": 0.5, "strokeWidth": 0},
            "encoding": {
                "x": x("start", "time since the start (s)"),
                "x2": {"field": "end"},
                "color": color,
                "tooltip": tips(("stage", "stage"), ("kind", "kind"), ("time", "length")),
            },
        },
        {
            "data": {"values": [dict(band) | {"middle": (band["start"] + band["end"]) / 2} for band in bands]},
            "transform": [{"calculate": shown, "as": "shown"}],
            "mark": {"type": "text", "baseline": "top", "fontSize": 11, "dy": 4},
            "encoding": {"x": x("middle", ""), "y": {"datum": top_w}, "text": {"field": "shown"}},
        },
    ]


def trace_table(data: Mapping[str, Any]) -> Table:
    """Mean and highest power of each part in each outermost stage, from the drawn points."""
    parts = list(dict.fromkeys(trace["part"] for trace in data["traces"]))
    rows = []
    for span in data["spans"]:
        if span["is_nested"]:
            continue
        cells = [_power_text(data, part, span) for part in parts]
        start, length = duration_text(span["start_s"]), duration_text(span["end_s"] - span["start_s"])
        rows.append(Row(cells=(span["name"], start, length, *cells)))
    columns = (
        Column(title="stage"),
        Column(title="from", is_number=True),
        Column(title="for", is_number=True),
        *(Column(title=f"{part}: mean, highest", is_number=True) for part in parts),
    )
    return Table(title="Power by stage", columns=columns, rows=tuple(rows), note="Read off the drawn points.")


def _power_text(data: Mapping[str, Any], part: str, span: Mapping[str, Any]) -> str:
    means, highs = [], []
    for trace in data["traces"]:
        if trace["part"] == part and trace["session"] == span["session"]:
            for t, mean, high in zip(trace["t_s"], trace["mean_w"], trace["high_w"], strict=True):
                if span["start_s"] <= t < span["end_s"]:
                    means.append(mean)
                    highs.append(high)
    if not means:
        return MISSING
    return f"{significant(sum(means) / len(means))} W, {significant(max(highs))} W"
