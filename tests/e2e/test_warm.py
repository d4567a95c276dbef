"""A command forked from the warm server is the command: it leaves what one leaves that starts from nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from e2e import warm
from e2e.command import environment, peftbench, snapshot
from e2e.warm import Warm
from peftbench import __version__

# The libraries look at it, so that the server is not asked.
COLD = {"HF_HUB_DISABLE_TELEMETRY": "1"}
SMALL = ("--models", "tiny", "--methods", "zero_shot", "--seeds", "1", "evaluate.limit=4", "--threads", "1")


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--tasks", "toy_mood", *SMALL),
        ("run", "--tasks", "toy_mod", *SMALL),
        ("run", "--nonsense"),
        ("check", "--help"),
        ("exec", "nowhere", "-"),
    ],
    ids=" ".join,
)
def test_a_warm_command_is_the_command(words: tuple[str, ...], tmp_path: Path) -> None:
    server = warm.server()
    import peft  # noqa: F401 - which writes a variable of its own

    assert server.looked_at == warm.looked_at(environment()), "both would be cold"
    left = []
    for name, variables in (("warm", {}), ("cold", COLD)):
        folder = tmp_path / name
        folder.mkdir()
        done = peftbench(*words, folder=folder, given="x\n", variables=variables)
        left.append((done.code, done.out, done.err.replace(name, "here"), sorted(snapshot(folder))))
    assert left[0] == left[1]


def test_a_shell_asks_the_same_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def do(words: list[str], folder: Path, variables: dict[str, str], given: str) -> tuple[int, str, str]:
        asked.append(words[0])
        return Warm.do(warm.server(), words, folder, variables, given)

    monkeypatch.setattr(warm.server(), "do", do)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder, warm.shell_function(Path(folder)) as definition:
        script = f"{definition}\npeftbench run --tasks toy_mod; echo $?; peftbench --version; peftbench check; echo $?"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment({"PATH": path}),
            capture_output=True,
            text=True,
            check=False,
        )
    assert asked == ["run", "check"]
    assert "models is missing" in done.stderr
    assert done.stdout.split() == ["2", __version__, str(peftbench("check", variables=COLD).code)]


def test_a_page_that_fails_leaves_nobody_waiting() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), tempfile.TemporaryDirectory() as folder, warm.shell_function(Path(folder)):
        raise ZeroDivisionError
    assert threading.active_count() == before
