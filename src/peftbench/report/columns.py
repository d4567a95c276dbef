"""The columns of the tables of costs, and what their numbers are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from peftbench.report._format import ABSENT, duration, extra_share, line, share_of, short_count, size, whole
from peftbench.report.costs import CostLine, Place
from peftbench.report.pscp import memory_note


@dataclass(frozen=True)
class CostColumn:
    """A number of a cost line: its name, its unit or meaning, and how it is written."""

    name: str
    note: str
    write: Callable[[CostLine], str]

    @property
    def head(self) -> str:
        """Name and note on one line."""
        return (
            f"{self.name} {self.note}" if self.note.startswith("(") else f"{self.name}, {self.note}".removesuffix(", ")
        )


def _extra_flops(row: CostLine) -> str:
    return extra_share(row.extra_forward_flops, row.base_forward_flops)


_MERGED = CostColumn("new tokens/s", "merged", lambda row: whole(row.merged_predict_tokens_per_second))
_COST_COLUMNS = (
    CostColumn("trainable parameters", "", lambda row: whole(row.trainable_parameters)),
    CostColumn("share", "of the model", lambda row: share_of(row.trainable_parameters, row.total_parameters)),
    CostColumn("adapter", "on disk", lambda row: size(row.adapter_bytes)),
    CostColumn("peak memory", "training", lambda row: size(row.fit_peak_bytes)),
    CostColumn("peak memory", "evaluation", lambda row: size(row.predict_peak_bytes)),
    CostColumn("extra FLOPs", "forward", _extra_flops),
    CostColumn("time", "training", lambda row: duration(row.fit_seconds)),
    CostColumn("time", "evaluation", lambda row: duration(row.predict_seconds)),
    CostColumn("tokens/s", "training", lambda row: whole(row.fit_tokens_per_second)),
    CostColumn("new tokens/s", "evaluation", lambda row: whole(row.predict_tokens_per_second)),
    _MERGED,
    CostColumn("runs", "with costs", lambda row: f"{row.runs} of {row.asked}"),
)
TERMINAL_COLUMNS = (
    CostColumn("trained", "params", lambda row: short_count(row.trainable_parameters)),
    CostColumn("peak", "memory", lambda row: size(row.fit_peak_bytes)),
    CostColumn("training", "time", lambda row: duration(row.fit_seconds)),
)


def cost_columns(rows: Iterable[CostLine]) -> tuple[CostColumn, ...]:
    """The columns that have something to say of some lines."""
    merges = any(row.merged_changed for row in rows)
    return tuple(column for column in _COST_COLUMNS if merges or column is not _MERGED)


def cost_caption(place: Place, rows: Sequence[CostLine], *, merged: bool = True) -> str:
    """What the numbers of one place are, from the lines that are shown, and whether merged adapters are."""
    own = [row for row in rows if row.place == place]
    usual = Counter(row.over for row in own).most_common(1)[0][0]
    several = len({row.model for row in own}) > 1
    others = [
        f"{line(row.method)}{f' of {line(row.model)}' if several else ''}: {row.over}"
        for row in own
        if row.over != usual
    ]
    tasks = f"{usual} ({'; '.join(others)})" if others else usual
    return (
        f"Measured on {place.name}. Means over {tasks} and the seeds of the finished runs; runs of other devices or "
        f"thread counts are not mixed in. Peak memory is {place.definition}.{_merged_note(own) if merged else ''}"
    )


def _merged_note(rows: Sequence[CostLine]) -> str:
    """Whether the adapters that were folded into the base answer as they did beside it."""
    merged = [(row.method, *row.merged_changed) for row in rows if row.merged_changed]
    if not merged:
        return ""
    others = [f"{line(method)} {changed:,} of {every:,}" for method, changed, every in merged if changed]
    said = f"changed in some answers ({'; '.join(others)})" if others else "the same in every answer"
    return f" Merged: with the adapter folded into the base, {said}."


def pscp_column(place: Place, rows: Sequence[CostLine]) -> tuple[CostColumn, ...]:
    """PSCP where a method has one; only that of GPU memory is what was published, and needs no further word."""
    if all(row.pscp is None for row in rows):
        return ()
    return (
        CostColumn("PSCP", memory_note(place), lambda row: ABSENT if row.pscp is None else f"{row.pscp.value:.1f}"),
    )
