"""The shape of the package, held by a machine: who imports whom, how large things are, where effects happen.

Every check is a function from sources to complaints. It has to find nothing in the package, and something in a source
made to break it: a check that cannot fail guards nothing.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import peftbench
from peftbench import errors

ROOT = Path(peftbench.__file__).parent

RANKS: Mapping[str, int] = {
    **dict.fromkeys(("errors", "seeding", "file_lock", "_version"), 0),
    **dict.fromkeys(("spec", "shapes", "segments", "matmul", "heap", "record", "progress", "cache", "strict_yaml"), 1),
    **dict.fromkeys(("registry", "store", "metrics", "hub", "mirror", "environment", "near_duplicates"), 2),
    **dict.fromkeys(("tasks", "methods", "models", "compress", "suites"), 3),
    **dict.fromkeys(("training", "evaluation", "cost", "workbench"), 4),
    **dict.fromkeys(("runner", "stages", "answering", "plan", "scoring", "card", "method_card"), 5),
    **dict.fromkeys(("executors", "search", "report", "fetch", "importing"), 6),
    **dict.fromkeys(("testing", "verbs", "catalogue", "show", "show_card", "show_method"), 7),
    **dict.fromkeys(("cli", "__main__"), 8),
}
# The package itself hands out names of every rank on first use; nothing inside imports through it.
ROOT_MODULE = "peftbench"

# Neighbours of one rank that may see each other, and why. A line that is no longer needed fails.
NEIGHBOURS: Mapping[tuple[str, str], str] = {
    ("record", "spec"): "a record holds the spec it answers",
    ("progress", "spec"): "how far a run is, is a strict value like any other",
    ("workbench", "training"): "what stays warm are questions as the training takes them",
    ("runner", "stages"): "one run in two files: the order of the stages, and what each leaves for the record",
    ("stages", "answering"): "the questions of a run are put twice where its method merges, in one way",
    ("show_method", "show_card"): "cards look alike",
    ("__main__", "cli"): "`python -m peftbench` is the command line",
}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}

LONG_FUNCTIONS = {"training.loop.fit": "the loop, in plain sight", "runner.execute": "the whole run, on one screen"}
MANY_PARAMETERS = {
    "cli": "typer reads flags from the signature",
    "models._attention.attend": "as `transformers` calls it",
}
MOST = {"function": 40, "parameters": 6, "class": 200, "file": 400}

DISK, PROCESS, NETWORK = "disk", "process", "network"
# Where effects happen, and why there. A line that is no longer needed fails.
EFFECTS: Mapping[tuple[str, str], str] = {
    ("store", DISK): "the folders of runs",
    ("progress", DISK): "how far a run is, for whoever asks from another terminal",
    ("cache", DISK): "where it lies for a user without a home",
    ("mirror", DISK): "rows and the lock of a mirror",
    ("report._write", DISK): "the report",
    ("report.figures", DISK): "the pictures of the report",
    ("verbs", DISK): "`peftbench new` writes a file",
    ("methods._snapshot", DISK): "copies of weights, so that they take no memory",
    ("training.questions", DISK): "ids that were made once",
    ("models._load", DISK): "a packed model is unpacked into the cache",
    ("training.loop", DISK): "one line a step, so that a run can be watched",
    ("training.checkpoint", DISK): "the state of a training, which goes on from it after a kill",
    ("stages", DISK): "the log of a run; a broken adapter is removed",
    ("runner", DISK): "the folder of the adapter",
    ("executors._process", DISK): "what a worker prints, until it is known to be wanted",
    ("executors._process", PROCESS): "workers are processes",
    ("executors._lost", DISK): "the last words of a worker, in the log of its run",
    ("cli.running", PROCESS): "being asked to end is heard like Ctrl-C",
    ("fetch._mirrored", DISK): "files move into the mirror when all of them are there",
    ("fetch._places", DISK): "notes that the hub's client left beside a model go away",
    ("fetch.packages", DISK): "what is fetched is kept",
    ("fetch.packages", PROCESS): "pip downloads, from the index the user configured",
    ("importing._written", DISK): "a folder of tasks",
    ("cost.meter", DISK): "resets the high-water mark of this process",
    ("testing.capabilities", DISK): "tiny models lie in a folder that goes away",
    ("testing.executors", DISK): "a contract is tried in a folder that goes away",
    ("testing.fresh", DISK): "what another process is told",
    ("testing.fresh", PROCESS): "an adapter has to load in a process that never saw it trained",
    ("testing.keeping", DISK): "an adapter is saved and read back",
    ("testing.methods", DISK): "a contract is tried in a folder that goes away",
    ("testing.reload", DISK): "what the other process answers",
}
WRITING_CALLS = {"write_text", "write_bytes", "mkdir", "unlink", "rmdir", "touch", "rename", "symlink_to", "savefig"}
EFFECT_MODULES = {
    **dict.fromkeys(("shutil", "tempfile"), DISK),
    **dict.fromkeys(("subprocess", "multiprocessing", "signal", "pty", "concurrent"), PROCESS),
    **dict.fromkeys(("socket", "http", "urllib", "requests", "httpx", "ftplib", "smtplib", "webbrowser"), NETWORK),
}


@dataclass(frozen=True)
class Source:
    """A module and its syntax tree; `name` is without `peftbench.`, and empty for the package itself."""

    name: str
    tree: ast.Module
    lines: int

    @property
    def top(self) -> str:
        """The file or folder directly below the package."""
        return self.name.partition(".")[0]


def source(name: str, text: str) -> Source:
    """A module from its text."""
    return Source(name, ast.parse(text), len(text.splitlines()))


def package() -> list[Source]:
    """Every module of the package."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found.append(source(name, path.read_text(encoding="utf-8")))
    return found


SOURCES = package()
Check = Callable[[Iterable[Source]], list[str]]


def added(check: Check, name: str, text: str) -> list[str]:
    """What a check says of one more module, made to break it."""
    before = check(SOURCES)
    return [complaint for complaint in check([*SOURCES, source(name, text)]) if complaint not in before]


# ---- imports point down --------------------------------------------------------------------------------------------


def imported(module: Source) -> Iterator[str]:
    """Names inside the package that a module imports, lazily or not, for types or not."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (_inside(alias.name) for alias in node.names if _is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "." * node.level + (node.module or "")
        elif isinstance(node, ast.ImportFrom) and node.module == ROOT_MODULE:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
            yield _inside(node.module or "")


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == ROOT_MODULE


def _inside(name: str) -> str:
    return name.partition(".")[2]


def upward_imports(sources: Iterable[Source]) -> list[str]:
    """Imports that do not point down, and neighbours that are allowed for nothing."""
    complaints: list[str] = []
    used: set[tuple[str, str]] = set()
    for module in sources:
        if not module.name:
            continue
        for name in imported(module):
            target = name.partition(".")[0]
            if target == module.top:
                continue
            if (module.top, target) in NEIGHBOURS and RANKS.get(module.top) == RANKS.get(target):
                used.add((module.top, target))
            elif module.top not in RANKS or target not in RANKS:
                complaints.append(f"{module.name} imports {name}: one of them has no rank")
            elif RANKS[target] >= RANKS[module.top]:
                complaints.append(f"{module.name} (rank {RANKS[module.top]}) imports {name} (rank {RANKS[target]})")
    return complaints + [f"{pair} is allowed and not needed" for pair in NEIGHBOURS if pair not in used]


def without_rank(sources: Iterable[Source]) -> list[str]:
    """Modules that nobody has given a place."""
    return sorted({f"{module.top} has no rank" for module in sources if module.name and module.top not in RANKS})


def test_every_module_has_a_rank() -> None:
    assert without_rank(SOURCES) == []
    assert without_rank([source("newcomer.inner", "")]) == ["newcomer has no rank"]


def test_imports_point_down() -> None:
    assert upward_imports(SOURCES) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("spec", "from peftbench.store import Store"),
        ("spec", "import peftbench.store"),
        ("spec", "from peftbench import store"),
        ("spec", "def lazily():\n    from peftbench.store import Store"),
        ("spec", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from peftbench.store import Store"),
        ("tasks.sst2", "from peftbench.models._facts import find"),
        ("methods.lora", "from peftbench.tasks._task import Task"),
        ("spec", "from peftbench.record import Record"),
        ("stages", "from peftbench.runner import execute"),
        ("training.loop", "from peftbench.workbench import Workbench"),
        ("tasks.sst2", "from ..store import Store"),
        ("tasks.sst2", "from peftbench import Store"),
        ("tasks.sst2", "from peftbench.newcomer import x"),
    ],
)
def test_an_import_that_points_up_is_found(name: str, text: str) -> None:
    assert len(added(upward_imports, name, text)) == 1


def test_an_allowance_that_nobody_needs_is_found() -> None:
    assert len(upward_imports([])) == len(NEIGHBOURS)


# ---- names ---------------------------------------------------------------------------------------------------------


def vague_names(sources: Iterable[Source]) -> list[str]:
    """Modules named after no concept."""
    words = ((module.name, part.strip("_")) for module in sources for part in module.name.split("."))
    return [name for name, word in words if word in FORBIDDEN_NAMES]


def test_modules_are_named_after_a_concept() -> None:
    assert vague_names(SOURCES) == []
    assert vague_names([source(name, "") for name in ("utils", "models._helpers", "common.x", "spec")]) == [
        "utils",
        "models._helpers",
        "common.x",
    ]


# ---- sizes ---------------------------------------------------------------------------------------------------------

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _length(node: Function | ast.ClassDef) -> int:
    """Lines from `def` to the end, the docstring not counted."""
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


def _parameters(node: Function) -> int:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([name for name in names if name not in {"self", "cls"}])


def too_large(sources: Iterable[Source]) -> list[str]:
    """Functions, parameter lists, classes and files over the budget, and exemptions that are not needed."""
    complaints: list[str] = []
    used: set[str] = set()
    for module in sources:
        if module.lines > MOST["file"]:
            complaints.append(f"{module.name}: {module.lines} lines")
        for node in ast.walk(module.tree):
            place = f"{module.name}.{getattr(node, 'name', '')}"
            if isinstance(node, ast.ClassDef) and _length(node) > MOST["class"]:
                complaints.append(f"class {place}: {_length(node)} lines")
            if isinstance(node, Function):
                if _length(node) > MOST["function"] and place not in LONG_FUNCTIONS:
                    complaints.append(f"{place}: {_length(node)} lines")
                if _parameters(node) > MOST["parameters"] and not {module.top, place} & {*MANY_PARAMETERS}:
                    complaints.append(f"{place}: {_parameters(node)} parameters")
                used.add(place)
    return complaints + [f"{place} is exempt and not there" for place in LONG_FUNCTIONS if place not in used]


def test_sizes() -> None:
    assert too_large(SOURCES) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def f():\n" + "    x = 1\n" * 40, "spec.f: 41 lines"),
        ("class A:\n    async def f(self):\n" + "        x = 1\n" * 40, "spec.f: 41 lines"),
        ("def f(a, b, c, /, d, e, *, g, h=1): ...", "spec.f: 7 parameters"),
        ("class A:\n" + "    x = 1\n" * 200, "class spec.A: 201 lines"),
        ("x = 1\n" * 401, "spec: 401 lines"),
    ],
)
def test_what_is_too_large_is_found(text: str, complaint: str) -> None:
    assert added(too_large, "spec", text) == [complaint]


def test_docstrings_and_self_do_not_count() -> None:
    documented = 'def f():\n    """A.\n' + "    b\n" * 50 + '    """\n' + "    x = 1\n" * 39
    method = "class A:\n    def f(self, a, b, c, d, e, f): ..."
    assert added(too_large, "spec", documented) + added(too_large, "spec", method) == []
    assert too_large([]) == [f"{place} is exempt and not there" for place in LONG_FUNCTIONS]


# ---- docstrings ----------------------------------------------------------------------------------------------------


def undocumented(sources: Iterable[Source]) -> list[str]:
    """Public modules, classes and functions without a docstring; what a protocol only names needs none."""
    complaints: list[str] = []
    for module in sources:
        if ast.get_docstring(module.tree) is None:
            complaints.append(module.name)
        complaints += [f"{module.name}.{place}" for place in _undocumented_in(module.tree.body, "")]
    return complaints


def _undocumented_in(body: Iterable[ast.stmt], before: str) -> Iterator[str]:
    for node in body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None and not _only_named(node):
            yield before + node.name
        if isinstance(node, ast.ClassDef):
            yield from _undocumented_in(node.body, f"{node.name}.")


def _only_named(node: Function | ast.ClassDef) -> bool:
    first = node.body[0]
    return isinstance(node, Function) and isinstance(first, ast.Expr) and ast.unparse(first) == "..."


def test_everything_public_says_what_it_is() -> None:
    assert undocumented(SOURCES) == []
    text = '"""M."""\ndef f(): return 1\nclass A:\n    """A."""\n    def g(self): return 1\n    def h(self): ...\n'
    assert undocumented([source("x", text), source("y", "def _f(): return 1")]) == ["x.f", "x.A.g", "y"]


# ---- effects at the edge -------------------------------------------------------------------------------------------


def effects(module: Source) -> Iterator[tuple[str, int]]:
    """The kinds of effect a module can have, with their lines."""
    for node in ast.walk(module.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if (kind := EFFECT_MODULES.get(name.partition(".")[0])) is not None:
                yield kind, node.lineno  # type: ignore[attr-defined]  # both kinds of import have a line
        if isinstance(node, ast.Call) and _writes(node):
            yield DISK, node.lineno


def _writes(call: ast.Call) -> bool:
    function = call.func
    if isinstance(function, ast.Name) and function.id == "open":
        return True
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr == "open":
        given = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        return any(not isinstance(mode, ast.Constant) or set(str(mode.value)) & set("wax+") for mode in given)
    return function.attr in WRITING_CALLS


def misplaced_effects(sources: Iterable[Source]) -> list[str]:
    """Effects where none are expected, and places that are allowed one and have none."""
    found = [(module.name, kind, line) for module in sources for kind, line in effects(module)]
    complaints = [f"{name}, line {line}: {kind}" for name, kind, line in found if (name, kind) not in EFFECTS]
    there = {(name, kind) for name, kind, _ in found}
    return complaints + [f"{place} is allowed and not needed" for place in EFFECTS if place not in there]


def test_effects_happen_at_the_edge() -> None:
    assert misplaced_effects(SOURCES) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("open('x')", DISK),
        ("path.open('w')", DISK),
        ("path.open(mode='ab')", DISK),
        ("path.open(mode)", DISK),
        ("path.write_text('x')", DISK),
        ("path.parent.mkdir()", DISK),
        ("import shutil", DISK),
        ("def f():\n    import subprocess", PROCESS),
        ("from concurrent.futures import Executor", PROCESS),
        ("import socket", NETWORK),
        ("from urllib.request import urlopen", NETWORK),
    ],
)
def test_an_effect_in_the_middle_is_found(text: str, kind: str) -> None:
    (complaint,) = added(misplaced_effects, "scoring.aggregate", text)
    assert complaint.startswith("scoring.aggregate")
    assert complaint.endswith(kind)


def test_reading_is_no_effect() -> None:
    text = "path.open()\npath.open('rb')\npath.read_text()\npath.open(mode='r')\nimport json\n"
    assert added(misplaced_effects, "scoring.aggregate", text) == []


# ---- what is said, and how -----------------------------------------------------------------------------------------


def prints(sources: Iterable[Source]) -> list[str]:
    """Calls of `print` outside the command line."""
    return [
        f"{module.name}, line {node.lineno}"
        for module in sources
        if module.top != "cli"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def test_only_the_command_line_prints() -> None:
    assert prints(SOURCES) == []
    assert prints([source("plan", "\nif x:\n    print('y')"), source("cli", "print('y')")]) == ["plan, line 3"]


# These two make their fix themselves.
OWN_FIX = {"MissingExtra", "UnknownName"}
OURS = {
    name for name, item in vars(errors).items() if isinstance(item, type) and issubclass(item, errors.PeftbenchError)
}


def without_fix(sources: Iterable[Source]) -> list[str]:
    """Errors made with a message alone: every one has to say what to do."""
    complaints = []
    for module in sources:
        for node in ast.walk(module.tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in (OURS | {"problem"}) - OWN_FIX
            ):
                fixes = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "fix")]
                if not fixes or (isinstance(fixes[0], ast.Constant) and not fixes[0].value):
                    complaints.append(f"{module.name}, line {node.lineno}: {node.func.id}")
    return complaints


def test_every_error_says_what_to_do() -> None:
    assert without_fix(SOURCES) == []
    lines = ("('It is so.')", "('So.', '')", "('So.', 'Do.')", "('So.', fix='')", "('So.', fix=how)")
    text = "\n".join(f"raise DataProblem{line}" for line in lines)
    assert [line.rpartition(" line ")[2] for line in without_fix([source("x", text)])] == [
        "1: DataProblem",
        "2: DataProblem",
        "4: DataProblem",
    ]


def test_every_error_is_raised_somewhere() -> None:
    called = {
        node.func.id
        for module in SOURCES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert OURS - called == {"PeftbenchError"}


def broad_handlers(sources: Iterable[Source]) -> list[str]:
    """Places where any fault whatever is caught."""
    found = []
    for module in sources:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler):
                caught = {each.id for each in ast.walk(node.type) if isinstance(each, ast.Name)} if node.type else set()
                if node.type is None or caught & {"Exception", "BaseException"}:
                    found.append(module.name)
    return sorted(found)


BROAD: Mapping[str, str] = {
    "runner": "the one place where any fault becomes an outcome",
    "registry": "a file of somebody else's may raise anything; it becomes a sentence with the line",
    "methods._configured": "a configuration of somebody else's may raise anything; it becomes a wrong value",
    "methods._tuner": "a tuner of somebody else's may raise anything; it becomes a sentence with the line",
    "stages": "FLOPs of a method of somebody else that cannot be counted are absent, and the log says why",
    "models._choosing": "a module of somebody else may raise anything over a row of texts; then it gets padded ones",
    "models._reading": "libraries raise anything over a broken file, bare `Exception` too; it becomes a sentence",
    "training.checkpoint": "libraries raise anything over a damaged state; then the training starts anew",
    "evaluation.judge": "a reader or metric of somebody else may raise anything; it becomes a sentence with the answer",
}


def test_any_fault_is_caught_only_where_it_becomes_something() -> None:
    outside = {name for name in broad_handlers(SOURCES) if not name.startswith("testing")}
    assert outside == set(BROAD)
    caught = ("except Exception", "except", "except OSError", "except (ValueError, OSError)", "except BaseException")
    text = "\n".join(f"try:\n    f()\n{line}:\n    pass" for line in caught)
    assert broad_handlers([source("x", text)]) == ["x", "x", "x"]


# ---- the torch-free half -------------------------------------------------------------------------------------------

BLOCKED = (
    *("torch", "transformers", "peft", "datasets", "accelerate", "safetensors", "tokenizers", "huggingface_hub"),
    *("pyarrow", "pandas"),
)
BLOCKER = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocker())
"""
LIGHT = """
import importlib, pkgutil
import peftbench, peftbench.report, peftbench.scoring, peftbench.metrics
from peftbench import registry

for name in "cli plan spec record store registry verbs catalogue show card show_card method_card show_method".split():
    importlib.import_module(f"peftbench.{name}")
for name in ("suites._read", "tasks._yaml", "fetch.packages"):
    importlib.import_module(f"peftbench.{name}")
for name in "_folder _adapter_files _configured _settings _trained _training_params _tuner".split():
    importlib.import_module(f"peftbench.methods.{name}")
for package in (peftbench.report, peftbench.scoring, peftbench.metrics):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
for family in ("tasks", "methods", "executors"):
    for name in registry.names(family):
        registry.load(family, name)
peftbench.method_card.method_card("lora", "tiny")
loaded = sorted({name.partition(".")[0] for name in sys.modules} & set(BLOCKED))
assert not loaded, loaded
"""


def light(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process that cannot import what is heavy."""
    text = f"{BLOCKER}\nBLOCKED = {BLOCKED!r}\n{script}"
    return subprocess.run([sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, check=False)


def test_half_of_the_package_works_without_torch() -> None:
    done = light(LIGHT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "script", ["import torch", "import peftbench.runner", "from peftbench import execute", "import peft.utils"]
)
def test_what_needs_torch_is_stopped_by_the_blocker(script: str) -> None:
    done = light(script)
    assert done.returncode == 1
    assert "is blocked" in done.stderr


def test_the_package_was_found() -> None:
    assert len(SOURCES) > 40
    assert {"", "spec", "tasks", "tasks.sst2", "training.loop", "report"} <= {module.name for module in SOURCES}
