"""Values of parameters kept on disk: in memory they would count as memory that the method needs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch

from peftbench.errors import StoreProblem


class Snapshot:
    """The latest copy of some tensors, in a file that is gone when the process is, however it ends."""

    def __init__(self, folder: Path | None = None) -> None:
        """Keep the file in `folder`, or where temporary files go."""
        self._folder = folder or Path(tempfile.gettempdir())
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `__exit__`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the copy up."""
        self._file.close()

    def take(self, values: Mapping[str, torch.Tensor]) -> None:
        """Copy the values, in place of any copied before."""
        self._file.seek(0)
        self._file.truncate()
        try:
            torch.save({name: value.detach() for name, value in values.items()}, self._file)
        except (OSError, RuntimeError) as error:
            # The library turns a full disk into an error of its own.
            size = sum(value.numel() * value.element_size() for value in values.values())
            raise StoreProblem(
                f"A copy of {size / 2**20:,.0f} MiB of weights cannot be written to {self._folder}.",
                "Make room there; TMPDIR names another place for temporary files.",
            ) from error

    def copy_to(self, path: Path) -> None:
        """Write the copy to a file; it goes through no more memory than a block of it."""
        self._file.seek(0)
        with path.open("wb") as file:
            shutil.copyfileobj(self._file, file)

    def copy_from(self, path: Path) -> None:
        """Take what `copy_to` wrote for the copy."""
        self._file.seek(0)
        self._file.truncate()
        with path.open("rb") as file:
            shutil.copyfileobj(file, self._file)

    def put_back(self, values: Mapping[str, torch.Tensor]) -> None:
        """Give tensors the values that were copied under their names."""
        self._file.seek(0)
        kept = torch.load(self._file, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for name, value in values.items():
                value.copy_(kept[name])
