"""Calls the command line as a person does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e import warm

# What no method does in its own way is seen with one of each kind; the contract is held by every one of them.
OF_EACH_KIND = (
    "adalora",
    "bitfit",
    "bottleneck",
    "full",
    "ia3",
    "lora",
    "p_tuning",
    "prefix_tuning",
    "prompt_tuning",
    "shadow",
    "svft",
    "zero_shot",
)


@dataclass(frozen=True)
class Result:
    """What a command left: exit code and both outputs."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line an error of ours consists of."""
        lines = [line for line in self.err.splitlines() if line.startswith("peftbench: ")]
        assert len(lines) == 1, self.err
        return lines[0]


def environment(variables: Mapping[str, str] = {}) -> dict[str, str]:
    """One thread, no network, no colour, unless told otherwise."""
    usual = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    return {**os.environ, **usual, **variables}


def impatient() -> dict[str, str]:
    """For processes whose hub is not going to come back: they do not wait for it."""
    folder = str(Path(__file__).parent / "impatient")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))}


def peftbench(
    *arguments: str | Path, folder: Path | None = None, given: str | None = None, variables: Mapping[str, str] = {}
) -> Result:
    """Run a command to its end; `given` is what stands in its standard input."""
    settings, words = environment(variables), [*map(str, arguments)]
    if words and words[0] in warm.VERBS and warm.server().looked_at == warm.looked_at(settings):
        return Result(*warm.server().do(words, folder or Path.cwd(), settings, given or ""))
    command = [sys.executable, "-m", "peftbench", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=settings, check=False, input=given)
    return Result(done.returncode, done.stdout, done.stderr)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
