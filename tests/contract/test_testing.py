"""The checks themselves: light to import, quiet, and able to say what went wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from peftbench.errors import UnknownName, UsageError
from peftbench.testing import check_member
from peftbench.testing.check import Probe, examine, explained
from peftbench.testing.fresh import FreshProcess, Job

WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "peft"):
    sys.modules[name] = None
from peftbench.testing import check_task
assert all(check.passed for check in check_task("sst2"))
"""


def test_import_and_task_checks_need_no_torch() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True)


@pytest.mark.parametrize("name", ["sst2", "zero-shot", "eva", "inline"])
def test_member_of_any_family_is_checked(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    checks = check_member(name)
    assert checks
    assert all(check.passed for check in checks)
    assert capfd.readouterr() == ("", "")


def test_member_in_a_file_is_found_without_running_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("1 / 0\nTASK = None\n", encoding="utf-8")
    (check,) = check_member(str(file))
    assert check.name == "loads"
    assert "line 1: ZeroDivisionError" in check.detail


def test_what_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'sst2'"):
        check_member("sst22")
    with pytest.raises(UsageError, match="There is no file"):
        check_member(str(tmp_path / "gone.py"))
    (tmp_path / "empty.py").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="has no TASK"):
        check_member(str(tmp_path / "empty.py"))


def test_nothing_is_tried_after_a_vital_promise_is_broken() -> None:
    def fault(subject: int) -> str | None:
        return "It is odd." if subject % 2 else None

    probes = (
        Probe("made", "", "", fault, applies=lambda subject: subject > 5),
        Probe("even", "It is even.", "Add one.", fault, vital=True),
        Probe("later", "", "", fault),
    )
    assert [(check.name, check.detail, check.fix) for check in examine(3, probes)] == [
        ("even", "It is odd.", "Add one.")
    ]
    assert [(check.name, check.passed) for check in examine(4, probes)] == [("even", True), ("later", True)]


def test_error_without_words_is_still_a_sentence() -> None:
    assert explained(NotImplementedError()) == "NotImplementedError."


def test_fresh_process_tells_its_fault(fresh: FreshProcess, tmp_path: Path) -> None:
    fault = fresh.do(Job(str(tmp_path), "lora", {}, str(tmp_path), str(tmp_path / "out")))
    assert fault.startswith("The folder")
    assert "has no config.json" in fault


def test_server_that_cannot_start_tells_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with FreshProcess() as process:
        fault = process.do(Job("", "", {}, "", ""))
    assert fault == "the fresh process ended: without a word"
