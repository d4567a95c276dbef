"""An adapter that a run left says of itself what the method says that saved it."""

from __future__ import annotations

from pathlib import Path
from types import FunctionType

import pytest
import torch
from safetensors.torch import save_file

from peftbench.errors import MethodProblem
from peftbench.methods._method import Method
from peftbench.methods._trained import OfRun, Trained, _numbers

# What is not asked of an adapter that is evaluated as it is.
OF_TRAINING = {
    *("begin", "optimizer", "learning_rate_factor", "penalty", "after_step", "learning_rate", "looks_first"),
    *("training_state", "resume"),
}
OF_SIZES = {"trainable_parameters", "sizes", "with_size", "resized", "size"}
# The method was built with its settings.
OF_SETTINGS = {"unsound"}
NOT_WRITTEN = {"save", "load", "merge", "merges", "folded", "variants", "version", "settings"}
OF_TABLES = {"family", "reference", "identity_at_start", "wraps"}
# Copied from the method when its folder is read.
COPIED = {"causal", "quantised_base", "quantization"}


def test_all_that_counts_in_evaluation_is_the_methods() -> None:
    public = {name for name in vars(Method) if not name.startswith("_")}
    own = {name for cls in (OfRun, Trained) for name, value in vars(cls).items() if not name.startswith("_")}
    assert public - own - OF_SETTINGS - OF_TRAINING - OF_SIZES - NOT_WRITTEN - OF_TABLES - COPIED == {"kept"}
    asked = {name for name, value in vars(OfRun).items() if isinstance(value, FunctionType | property)}
    assert {"without_sites", "sites", "site_count", "shots", "caution", "in_use", "changes", "unfit"} <= asked


@pytest.mark.parametrize("harm", ["short", "long", "header"])
def test_a_file_that_is_not_whole_is_told_before_anything_runs(harm: str, tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    save_file({"one": torch.zeros(3, 5), "two": torch.zeros(2)}, file)
    assert _numbers(file) == 17
    whole = file.read_bytes()
    header = (10**6).to_bytes(8, "little") + whole[8:]
    file.write_bytes({"short": whole[:-4], "long": whole + b"1234", "header": header}[harm])
    with pytest.raises(MethodProblem, match="is damaged"):
        _numbers(file)
