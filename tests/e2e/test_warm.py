"""A command forked from the warm server is the command: it leaves what one leaves that starts from nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from e2e import warm
from e2e.command import environment, peftbench, snapshot

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


def test_a_shell_asks_the_same_server(tmp_path: Path) -> None:
    with warm.shell_function(tmp_path) as definition:
        script = f"{definition}\npeftbench run --tasks toy_mod; echo $?; peftbench --version; peftbench check; echo $?"
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
    assert done.stdout.split()[:1] == ["2"]
    assert "models is missing" in done.stderr
    assert done.stdout.split()[-1] == str(peftbench("check", variables=COLD).code)
