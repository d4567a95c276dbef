"""The docs run: every fenced `bash` and `python` block of README and docs is executed, page by page, in order.

Blocks that call `make` are what CI itself calls; here their targets have to exist. Blocks marked `bash shared` need the
real data beside the project and are run with small numbers. Blocks marked `bash hub` talk to a hub on loopback; of
those marked `bash index`, which would need a package index, the options are checked. A `yaml` or `text` block with the
name of a file is written to that file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e import warm
from e2e.hub_server import serving
from e2e.test_fetch_hub import reviews, tiny

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SMALL = "--tasks copa --methods zero_shot,ia3 --seeds 1 train.limit=16 train.max_steps=2 evaluate.limit=4"
MEASURED = "measured"
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: language, what stands behind it, text."""

    language: str
    marks: tuple[str, ...]
    text: str


def blocks(text: str) -> list[Block]:
    found = [Block(language, tuple(marks.split()), body) for language, marks, body in FENCE.findall(text)]
    return [block for block in found if MEASURED not in block.marks]


def script(page: list[Block]) -> str:
    """The runnable blocks of a page as one shell script."""
    parts = ["set -euo pipefail"]
    for block in page:
        if block.language == "python":
            parts.append(f"python - <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK")
        elif block.language in {"yaml", "text"} and block.marks:
            parts.append(f"cat > {block.marks[0]} <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK")
        elif block.language == "bash" and not _calls_make(block):
            parts.append(_runnable(block))
    return "\n".join(parts)


def _runnable(block: Block) -> str:
    if "index" in block.marks:
        lines = [line for line in block.text.splitlines() if not line.startswith("pip install ")]
        return "\n".join(f"{line} --help" for line in lines) + "\n"
    return _small(block.text) if "shared" in block.marks else block.text


def _calls_make(block: Block) -> bool:
    return any(line.startswith("make ") for line in block.text.splitlines())


def _small(text: str) -> str:
    joined = text.replace("\\\n", " ").replace("../shared", str(SHARED))
    return re.sub(r"^(peftbench run .*)$", rf"\1 {SMALL}", joined, flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path) -> None:
    found = blocks(page.read_text(encoding="utf-8"))
    if any("shared" in block.marks for block in found) and not SHARED.is_dir():
        pytest.skip("the shared data and models are not here")
    runnable = [block for block in found if block.language in {"bash", "python"}]
    unknown = {block.language for block in found} - {"bash", "python", "text", "yaml", "bibtex"}
    assert not unknown, "a block in a language that nothing checks"
    if not runnable:
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    if not any("hub" in block.marks for block in found):
        with tempfile.TemporaryDirectory() as folder, warm.shell_function(Path(folder)) as definition:
            _succeeds(found, tmp_path, settings, definition)
        return
    with serving(tmp_path / "hub") as hub:
        hub.add("dataset", "nyu-mll/glue", reviews("fine"))
        hub.add("model", "HuggingFaceTB/SmolLM2-135M-Instruct", tiny())
        online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": ""}
        _succeeds(found, tmp_path, settings | online)


def _succeeds(page: list[Block], folder: Path, settings: dict[str, str], definition: str = "") -> None:
    done = subprocess.run(
        ["bash", "-c", f"{definition}\n{script(page)}"],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        name
        for page in PAGES
        for block in blocks(page.read_text())
        for name in re.findall(r"^make (\w+)", block.text, re.MULTILINE)
    }
    assert named
    assert named <= targets


def test_nothing_is_left_to_be_filled_in() -> None:
    for page in PAGES:
        assert re.findall(r"\b[A-Z0-9]+_(?:TABLE|MODEL)\b", page.read_text(encoding="utf-8")) == [], page.name


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(
    "text",
    ["```bash\npeftbench show task nowhere\n```\n", "```bash index\npeftbench fetch offline --from-package\n```\n"],
)
def test_a_broken_block_is_found(text: str) -> None:
    """The harness can fail: an unknown task or option ends the script."""
    page = blocks(text)
    done = subprocess.run(["bash", "-c", script(page)], capture_output=True, check=False)
    assert done.returncode != 0


def test_a_block_with_a_name_is_that_file(tmp_path: Path) -> None:
    page = blocks(
        "```yaml\na: 1\n```\n```yaml one.yaml\na: '{x}$y'\n```\n```text two.csv\na\n```\n```bash\nls > found\n```\n"
    )
    subprocess.run(["bash", "-c", script(page)], cwd=tmp_path, check=True)
    assert (tmp_path / "one.yaml").read_text() == "a: '{x}$y'\n"
    assert (tmp_path / "found").read_text().split() == ["found", "one.yaml", "two.csv"]
