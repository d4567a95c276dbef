"""Scores and costs as CSV, a row for each score."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from peftbench.report.costs import CostLine, Place, cost_lines, mean
from peftbench.report.pscp import pscp_tables, with_pscp
from peftbench.scoring.aggregate import Score
from peftbench.scoring.pscp import Pscp
from peftbench.spec import PUBLISHED, PscpSpec


def csv_text(scores: Iterable[Score], constants: PscpSpec = PUBLISHED) -> str:
    """One row for each score, numbers unrounded: RFC 4180 with a header line.

    Lists (seeds, values, run ids) are joined by spaces; seeds and values are those of runs whose headline is a number,
    and of `finished` runs the `undefined` ones have none. Where the runs of a score were measured at several places the
    columns of costs are empty, since such costs have no mean, and `device` names all places. PSCP belongs to a model
    and a method, whatever the task: it stands in each of their rows.
    """
    rows = list(scores)
    priced = with_pscp(cost_lines(rows), pscp_tables(rows, constants))
    known = {(row.model, row.method, row.place): row.pscp for row in priced}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for score in rows:
        row = {**_score_fields(score), **_cost_fields(score, known)}
        writer.writerow(_csv_cell(row.get(name)) for name in CSV_COLUMNS)
    return buffer.getvalue()


_COST_FIELDS = (
    "trainable_parameters",
    "total_parameters",
    "adapter_bytes",
    "fit_seconds",
    "fit_tokens_per_second",
    "fit_peak_bytes",
    "predict_seconds",
    "predict_tokens_per_second",
    "predict_peak_bytes",
    "merged_predict_seconds",
    "merged_predict_tokens_per_second",
    "forward_flops",
    "base_forward_flops",
    "forward_length",
)
CSV_COLUMNS = (
    *(
        "model",
        "task",
        "split",
        "train_is_test",
        "method",
        "metric",
        "mean",
        "spread",
        "low",
        "high",
        "merged_mean",
        "merged_changed",
        "finished",
        "failed",
        "undefined",
        "seeds",
        "values",
    ),
    *("examples", "unreadable", "cut", "unfit", "device", "processor", "threads", "memory", "matmul", "mode"),
    *_COST_FIELDS,
    *("pscp", "pscp_parameters_factor", "pscp_forward_flops_factor", "pscp_memory_factor"),
    *("model_revision", "task_data", "run_ids"),
)


def _score_fields(score: Score) -> dict[str, object]:
    done = [record for record in score.records if record.score is not None]
    tests = [record.test for record in done if record.test is not None]
    merged = [record for record in done if record.merged is not None]
    spec = score.records[0].spec
    return {
        "model": score.model,
        "task": spec.task.name,
        "split": spec.task.test or "test",
        "train_is_test": bool(spec.task.train_is_test),
        "method": score.method,
        "metric": score.name,
        "mean": score.value,
        "spread": score.spread,
        "low": score.low,
        "high": score.high,
        "merged_mean": mean(record.merged.metrics.get(score.name) for record in merged if record.merged),
        "merged_changed": sum(record.merged.changed for record in merged if record.merged) if merged else None,
        "finished": len(score.records) - score.failed,
        "failed": score.failed,
        "undefined": score.undefined,
        "seeds": " ".join("once" if record.spec.seed is None else str(record.spec.seed) for record in done),
        "values": " ".join(repr(record.score) for record in done),
        **{name: sum(getattr(test, name) for test in tests) for name in ("examples", "unreadable", "cut", "unfit")},
        "model_revision": spec.model.revision,
        "task_data": spec.task.data,
        "run_ids": " ".join(record.run_id for record in score.records),
    }


def _cost_fields(score: Score, known: Mapping[tuple[str, str, Place], Pscp | None]) -> dict[str, object]:
    found = cost_lines([score])
    if len(found) != 1:
        return {"device": "; ".join(row.place.name for row in found)}
    row = found[0]
    place = {name: getattr(row.place, name) for name in ("device", "processor", "threads", "memory", "matmul", "mode")}
    return place | {name: getattr(row, name) for name in _COST_FIELDS} | _pscp_fields(known, row)


def _pscp_fields(known: Mapping[tuple[str, str, Place], Pscp | None], row: CostLine) -> dict[str, object]:
    found = known.get((row.model, row.method, row.place))
    if found is None:
        return {}
    names = ("pscp_parameters_factor", "pscp_forward_flops_factor", "pscp_memory_factor")
    return {"pscp": found.value, **dict(zip(names, found.factors, strict=True))}


def _csv_cell(value: object) -> str:
    """Numbers so that they read back as the same number; text that a spreadsheet does not take for a formula."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return repr(value)
