"""Which parameter-efficient fine-tuning method for your model, data and budget, and how sure is that?

A suite names tasks, models, methods and seeds. `make_plan` multiplies them into runs. An executor has each run done by
the same function. A run leaves a record. Scores are computed from records, a report from scores.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from peftbench._version import __version__

if TYPE_CHECKING:
    from peftbench.errors import PeftbenchError, UsageError
    from peftbench.plan import Plan, make_plan
    from peftbench.record import Cost, Failure, Prediction, Record
    from peftbench.report import write_report
    from peftbench.runner import execute
    from peftbench.scoring.aggregate import Score, scores
    from peftbench.spec import EvalSpec, PscpSpec, Resources, RunSpec, Suite, TrainSpec
    from peftbench.store import Store
    from peftbench.suites._read import build_suite, read_suite
    from peftbench.verbs import Outcome, run

# Where each public name lives; imported on first use, so that `import peftbench` costs nothing.
_HOMES = {
    "Cost": "record",
    "EvalSpec": "spec",
    "Failure": "record",
    "Outcome": "verbs",
    "PeftbenchError": "errors",
    "Plan": "plan",
    "Prediction": "record",
    "PscpSpec": "spec",
    "Record": "record",
    "Resources": "spec",
    "RunSpec": "spec",
    "Score": "scoring.aggregate",
    "Store": "store",
    "Suite": "spec",
    "TrainSpec": "spec",
    "UsageError": "errors",
    "build_suite": "suites._read",
    "execute": "runner",
    "make_plan": "plan",
    "read_suite": "suites._read",
    "run": "verbs",
    "scores": "scoring.aggregate",
    "write_report": "report",
}

__all__ = [
    "Cost",
    "EvalSpec",
    "Failure",
    "Outcome",
    "PeftbenchError",
    "Plan",
    "Prediction",
    "PscpSpec",
    "Record",
    "Resources",
    "RunSpec",
    "Score",
    "Store",
    "Suite",
    "TrainSpec",
    "UsageError",
    "__version__",
    "build_suite",
    "execute",
    "make_plan",
    "read_suite",
    "run",
    "scores",
    "write_report",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'peftbench' has no attribute {name!r}")
    return getattr(import_module(f"peftbench.{_HOMES[name]}"), name)
