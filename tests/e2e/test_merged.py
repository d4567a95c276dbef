"""What was trained, folded into the base: asked the same questions, timed the same way, and the base comes back."""

from __future__ import annotations

from pathlib import Path

from e2e.command import peftbench
from peftbench.record import Record
from peftbench.store import Store

ASK = ("--tasks", "toy_mood", "--models", "tiny", "--seeds", "1", "--threads", "1")
SMALL = ("train.max_steps=20", "evaluate.limit=24")
WRONG = '''"""Folds nothing into the base."""
from dataclasses import dataclass
from peftbench.methods._peft import peft_model
from peftbench.methods.lora import Lora

@dataclass(frozen=True)
class Wrong(Lora):
    def merge(self, module, base):
        HOW

METHOD = Wrong
'''


def run(store: Path, methods: str, *more: str) -> dict[str, Record]:
    """The records of some methods, by name."""
    done = peftbench("run", "--methods", methods, *ASK, *SMALL, *more, "--store", store)
    assert done.code in (0, 1), done.err
    return {record.spec.method.name: record for record in Store(store).records()}


def test_score_and_speed_of_both_are_in_the_record(tmp_path: Path) -> None:
    found = run(tmp_path / "s", "lora,svft,prompt_tuning,zero_shot")
    for name in ("lora", "svft"):
        record = found[name]
        assert record.merged is not None
        assert record.test is not None
        assert (record.merged.metrics, record.merged.changed) == (record.test.metrics, 0)
        assert record.merged.predict_seconds > 0
        assert record.merged.predict_tokens_per_second > 0
    assert found["prompt_tuning"].merged is found["zero_shot"].merged is None
    alone = run(tmp_path / "alone", "zero_shot")["zero_shot"]
    stores = ((tmp_path / "s", found["zero_shot"]), (tmp_path / "alone", alone))
    first, second = (list(Store(store).predictions(record.run_id)) for store, record in stores)
    assert first == second, "what was merged is still in the base"
    report = (tmp_path / "s" / "report" / "scores.md").read_text()
    assert "new tokens/s, merged" in report
    assert "folded into the base, the same in every answer" in report


def test_it_can_be_left_out(tmp_path: Path) -> None:
    record = run(tmp_path, "lora", "evaluate.merged=false")["lora"]
    assert record.merged is None
    assert record.spec.evaluate.merged is None
    assert "merged" not in (tmp_path / "report" / "scores.md").read_text().lower()


def test_a_merge_that_loses_what_was_learned_is_told(tmp_path: Path) -> None:
    mine = tmp_path / "wrong.py"
    mine.write_text(WRONG.replace("HOW", "return peft_model(module).unload()"))
    record = run(tmp_path / "s", str(mine), "train.learning_rate=0.02", "train.checkpoint=last")["wrong"]
    assert record.merged is not None
    assert record.merged.changed > 0
    said = f"changed in some answers (wrong {record.merged.changed} of 24)"
    assert said in (tmp_path / "s" / "report" / "scores.md").read_text()


def test_a_merge_that_fails_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "wrong.py"
    mine.write_text(WRONG.replace("HOW", "raise ValueError('cannot')"))
    found = run(tmp_path / "s", f"{mine},lora")
    record = found["wrong"]
    assert record.failure is None
    assert record.score == found["lora"].score
    assert record.merged is None
    assert record.unmeasured == ("merged answers: ValueError: wrong.py, line 9: cannot",)
    assert list(Store(tmp_path / "s").folder(record.run_id).adapter.glob("*.safetensors"))
    assert found["lora"].unmeasured == ()
    assert "done; without merged answers: ValueError" in (tmp_path / "s" / "report" / "index.html").read_text()
