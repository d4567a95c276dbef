"""Score against memory, as a picture: inline SVG that follows the colours of its page, or a PNG file.

Drawn with matplotlib's objects, without its global state. The same scores give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from peftbench.report._format import listed, percent, plain, size
from peftbench.report._placement import Box, Label, freest, place
from peftbench.report.costs import CostLine, Place, cost_lines
from peftbench.report.grid import Average, average, is_reference, tasks_in_common
from peftbench.scoring.aggregate import Score

WIDTH, HEIGHT = 400.0, 330.0
_FONT_SIZE = 12.0
_FRAME = (0.09, 0.15, 0.87, 0.765)
_LOG_FROM = 8.0
_MARK = 9.0


@dataclass(frozen=True)
class Point:
    """A method: its mean score over the tasks, the spread of that, and its mean peak memory in training."""

    method: str
    score: Average
    bytes: float

    @property
    def reference(self) -> bool:
        """Whether the method is there to be compared with."""
        return is_reference(self.method)


@dataclass(frozen=True)
class Picture:
    """What one picture shows: one model at one place.

    `untrained` are methods without training, drawn as lines since they have no memory of training; `omitted` names the
    methods without a score on each of the tasks, whose mean would not compare.
    """

    model: str
    place: Place
    tasks: tuple[str, ...]
    points: tuple[Point, ...]
    untrained: tuple[tuple[str, Average], ...]
    omitted: tuple[str, ...]

    @property
    def alternative(self) -> str:
        """The picture in words."""
        points = [f"{point.method} {percent(point.score.value)} % at {size(point.bytes)}" for point in self.points]
        lines = [f"{method} {percent(mean.value)} % without training" for method, mean in self.untrained]
        return plain(
            f"Mean score against peak {self.place.kind} in training with {self.model}: {listed([*points, *lines])}."
        )


@dataclass(frozen=True)
class Palette:
    """The colours of a picture."""

    ink: str
    muted: str
    rule: str
    accent: str
    paper: str


PRINT = Palette(ink="#1b1f24", muted="#5b636d", rule="#e3e5e8", accent="#0067a5", paper="#ffffff")
# Stand-ins that no other part of the picture uses; in the SVG each becomes a variable of the page.
_STAND_INS = Palette(ink="#010203", muted="#020304", rule="#030405", accent="#040506", paper="#050607")


def pictures(scores: Iterable[Score]) -> list[Picture]:
    """One picture for each model and place that has something to show."""
    models: dict[str, list[Score]] = {}
    for score in scores:
        models.setdefault(score.model, []).append(score)
    return [picture for model, rows in sorted(models.items()) for picture in _of_model(model, rows)]


def svg(picture: Picture) -> str:
    """The picture as an SVG element to stand in a page.

    Colours are the page's `--ink`, `--muted`, `--rule`, `--accent` and `--paper`; text is text, in the page's font.
    """
    salt = hashlib.sha256(picture.alternative.encode()).hexdigest()[:12]
    buffer = io.StringIO()
    with _style(salt):
        _drawn(picture, _STAND_INS).savefig(
            buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    return _embedded(buffer.getvalue(), picture.alternative)


def write_png(picture: Picture, path: Path, dots_per_inch: int = 200) -> None:
    """Write the picture to a file, in the colours of a light page."""
    with _style("png"):
        _drawn(picture, PRINT).savefig(path, format="png", dpi=dots_per_inch, metadata={"Software": None})


def _of_model(model: str, scores: Sequence[Score]) -> list[Picture]:
    tasks = tasks_in_common(scores)
    by_method: dict[str, dict[str, Score]] = {}
    for score in scores:
        by_method.setdefault(score.method, {})[score.task] = score
    means = {method: average([own.get(task) for task in tasks]) for method, own in by_method.items()}
    compared = {method: mean for method, mean in means.items() if mean is not None}
    omitted = tuple(sorted(set(means) - set(compared)))
    lines = [line for line in cost_lines(scores) if line.method in compared]
    untrained = tuple((line.method, compared[line.method]) for line in lines if line.fit_seconds is None)
    found = []
    for where in sorted({line.place for line in lines if line.fit_peak_bytes is not None}):
        points = tuple(_points([line for line in lines if line.place == where], compared))
        found.append(Picture(model, where, tasks, points, tuple(dict(untrained).items()), omitted))
    return found


def _points(lines: Iterable[CostLine], means: dict[str, Average]) -> Iterable[Point]:
    for line in lines:
        if line.fit_peak_bytes is not None:
            yield Point(line.method, means[line.method], line.fit_peak_bytes)


def _style(salt: str) -> Any:
    """Matplotlib's defaults, whatever a person has configured, with text kept as text and ids that do not change."""
    from matplotlib import style

    own = {
        "svg.hashsalt": salt,
        "svg.fonttype": "none",
        "font.size": _FONT_SIZE,
        "font.family": ["DejaVu Sans"],
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
    }
    return style.context(["default", own])


def _drawn(picture: Picture, colours: Palette) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # 72 dots an inch, so that a unit of the SVG, a point of text and a pixel of the layout are one thing.
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, facecolor=colours.paper)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes(_FRAME)
    unit = _draw_axes(axes, picture, colours)
    for point in picture.points:
        _draw_point(axes, point, unit, colours)
    for _, mean in picture.untrained:
        axes.axhline(100 * mean.value, color=colours.muted, linewidth=1, dashes=(4, 3), zorder=1)
    _draw_labels(axes, picture, unit, colours, canvas.get_renderer())
    return figure


def _draw_axes(axes: Any, picture: Picture, colours: Palette) -> float:
    """Frame, grid and titles. Returns the bytes of one unit of the horizontal axis."""
    from matplotlib.ticker import MaxNLocator

    memory = [point.bytes for point in picture.points]
    name, unit = ("GiB", 1024.0**3) if max(memory) >= 1024**3 else ("MiB", 1024.0**2)
    axes.set_facecolor(colours.paper)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(colours.muted)
    axes.tick_params(axis="both", length=0, pad=6, labelcolor=colours.muted, labelsize=_FONT_SIZE)
    axes.tick_params(axis="x", which="major", length=4, color=colours.muted)
    axes.grid(visible=True, axis="y", color=colours.rule, linewidth=1)
    axes.set_axisbelow(True)
    axes.set_ylim(*_score_range(picture))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    _scale_memory(axes, [value / unit for value in memory])
    axes.set_xlabel(f"peak {picture.place.kind} in training ({name})", color=colours.muted, labelpad=6)
    title = "score (%)" if len(picture.tasks) == 1 else f"mean score over {len(picture.tasks)} tasks (%)"
    # Above the axis, where it is read without turning the head.
    axes.text(0.004, 0.985, title, color=colours.muted, va="top", transform=axes.figure.transFigure)
    return unit


def _score_range(picture: Picture) -> tuple[float, float]:
    means = [point.score for point in picture.points] + [mean for _, mean in picture.untrained]
    low = min(100 * (mean.value - (mean.spread or 0)) for mean in means)
    high = max(100 * (mean.value + (mean.spread or 0)) for mean in means)
    # At least ten points high, so that noise does not look like a mountain.
    margin = max(0.14 * (high - low), (10 - (high - low)) / 2)
    # A score of nothing rests on the axis instead of floating above negative percentages.
    return (max(low - margin, -0.05 * (high + margin)) if low >= 0 else low - margin), high + margin


def _scale_memory(axes: Any, values: Sequence[float]) -> None:
    """A linear axis, or a logarithmic one where the largest value is many times the smallest."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = min(values), max(values)
    if high > _LOG_FROM * low:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.6, high * 1.6)
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        # Names are wide, and most points are on the left, where memory is saved.
        margin = max(0.18 * (high - low), 0.04 * high)
        axes.set_xlim(low - 2 * margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def _draw_point(axes: Any, point: Point, unit: float, colours: Palette) -> None:
    """References are hollow squares, compared methods filled circles, so that colour alone says nothing."""
    colour = colours.muted if point.reference else colours.accent
    x, y = point.bytes / unit, 100 * point.score.value
    if point.score.spread is not None:
        axes.errorbar(x, y, yerr=100 * point.score.spread, color=colour, linewidth=1.2, zorder=2)
    shape = "s" if point.reference else "o"
    face = colours.paper if point.reference else colour
    axes.plot(
        x, y, marker=shape, markersize=_MARK - 1, color=face, markeredgecolor=colour, markeredgewidth=1.6, zorder=3
    )


def _draw_labels(axes: Any, picture: Picture, unit: float, colours: Palette, renderer: Any) -> None:
    frame = _pixels(axes.get_window_extent(renderer))
    labels = [_label(axes, point, unit, renderer) for point in picture.points]
    taken = [*(label.mark for label in labels), *_bars(axes, picture, unit)]
    for method, mean in picture.untrained:
        text = f"{_name(method)} {percent(mean.value)}"
        box = freest(_along_line(axes, mean, frame, _text_size(axes, text, renderer)), taken)
        _write(axes, text, box, colours.muted)
        taken.append(box)
    marks = [label.mark for label in labels]
    for point, label, box in zip(picture.points, labels, place(labels, taken, frame), strict=True):
        if _ambiguous(box, label.mark, marks):
            _leader(axes, label.mark, box, colours)
        _write(axes, _name(point.method), box, colours.muted if point.reference else colours.ink)


def _along_line(axes: Any, mean: Average, frame: Box, size: tuple[float, float]) -> list[Box]:
    """Where the label of a line may stand: above or below it, from its left end to its right end."""
    width, height = size
    _, y = axes.transData.transform((1.0, 100 * mean.value))
    steps = [frame.x + (share - 0.5) * (frame.width - width - 4) for share in (0, 1, 0.5, 0.25, 0.75)]
    boxes = [Box(x, y + side * (height / 2 + 1), width, height) for side in (1, -1) for x in steps]
    return [box for box in boxes if box.inside(frame)] or boxes


def _label(axes: Any, point: Point, unit: float, renderer: Any) -> Label:
    x, y = axes.transData.transform((point.bytes / unit, 100 * point.score.value))
    return Label(Box(x, y, _MARK + 2, _MARK + 2), *_text_size(axes, _name(point.method), renderer))


def _bars(axes: Any, picture: Picture, unit: float) -> list[Box]:
    """The bars of the spreads and the lines of what is not trained, which no label may cross."""
    found = []
    for point in picture.points:
        reach = 100 * (point.score.spread or 0)
        x, low = axes.transData.transform((point.bytes / unit, 100 * point.score.value - reach))
        _, high = axes.transData.transform((point.bytes / unit, 100 * point.score.value + reach))
        found.append(Box(x, (low + high) / 2, 3, high - low))
    for _, mean in picture.untrained:
        _, y = axes.transData.transform((1.0, 100 * mean.value))
        found.append(Box(WIDTH / 2, y, WIDTH, 1))
    return found


def _ambiguous(box: Box, mark: Box, marks: Sequence[Box]) -> bool:
    """Whether a reader could take a label for that of another point: it is far from its own, or another is as near."""
    own = _distance(box, mark)
    others = [other for other in marks if other is not mark]
    return own > 20 or any(_distance(box, other) <= own + 2 for other in others)


def _distance(box: Box, mark: Box) -> float:
    """From the edge of a label to the middle of a mark, along the longer side."""
    return max(abs(box.x - mark.x) - box.width / 2, abs(box.y - mark.y) - box.height / 2, 0)


def _leader(axes: Any, mark: Box, box: Box, colours: Palette) -> None:
    """A thin line from a point to its label, over the points between."""
    x, y = Box(box.x, box.y, box.width, box.height + 3).nearest(mark)
    ends = [mark.x / WIDTH, x / WIDTH], [mark.y / HEIGHT, y / HEIGHT]
    axes.plot(*ends, color=colours.ink, linewidth=0.7, transform=axes.figure.transFigure, zorder=3.5)


def _write(axes: Any, text: str, box: Box, colour: str) -> None:
    # In shares of the picture, which stay right at every resolution.
    x, y, whole = box.x / WIDTH, box.y / HEIGHT, axes.figure.transFigure
    axes.text(x, y, text, color=colour, ha="center", va="center", transform=whole, zorder=4, parse_math=False)


def _text_size(axes: Any, text: str, renderer: Any) -> tuple[float, float]:
    """Measured in DejaVu Sans, which is wider than the fonts a page is likely to use."""
    probe = axes.text(0, 0, text, parse_math=False)
    extent = probe.get_window_extent(renderer)
    probe.remove()
    return extent.width, extent.height


def _name(method: str) -> str:
    """A name that fits a picture: the settings of a long one are cut."""
    text = " ".join(plain(method).split())
    return text if len(text) <= 32 else text[:31] + "…"


def _pixels(extent: Any) -> Box:
    return Box((extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2, extent.width, extent.height)


def _embedded(text: str, alternative: str) -> str:
    """The drawing without what belongs to a file of its own: prologue, metadata, global style, names of groups."""
    body = text[text.index("<svg") :].partition(">")[2]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body).replace("font-family: 'DejaVu Sans'", "font-family: inherit")
    for name, stand_in in vars(_STAND_INS).items():
        body = body.replace(stand_in, f"var(--{name}, {getattr(PRINT, name)})")
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = (
        f'<svg {spaces} viewBox="0 0 {WIDTH:g} {HEIGHT:g}" '
        f'role="img" aria-label="{escape(alternative)}" stroke-linejoin="round" font-family="sans-serif">'
    )
    return head + body.strip()
