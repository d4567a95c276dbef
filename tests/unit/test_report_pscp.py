"""PSCP in reports: which tasks, runs and memory go into it, what is said of it, and that nothing is made up."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from browser.sample_store import CPU, GPU, done, failed, rich_records, spec, store_of
from e2e.command import peftbench
from peftbench.record import Cost, Environment, Peak, Record
from peftbench.report import write_report
from peftbench.report.csv_rows import csv_text
from peftbench.report.pscp import PscpTable, pscp_tables
from peftbench.report.tables import markdown, terminal
from peftbench.scoring.aggregate import scores
from peftbench.scoring.pscp import Costs, pscp
from peftbench.spec import PUBLISHED, PscpSpec

GIGA = 10**9


def ran(
    task: str = "sst2",
    method: str = "lora",
    score: float = 0.8,
    *,
    seed: int = 1,
    environment: Environment = CPU,
    parameters: int = 5 * 10**7,
    **changes: Any,
) -> Record:
    """A finished run with costs that can be reckoned with by hand; `peaks` gives GB of training by definition."""
    own = "host_resident" if environment == CPU else "cuda_allocated"
    given = changes.pop("peaks", {"host_resident": 10} if environment == CPU else {own: 5, "cuda_reserved": 10})
    cost = Cost(
        trainable_parameters=parameters,
        total_parameters=135_000_000,
        adapter_bytes=None,
        fit_seconds=1.0,
        fit_tokens_per_second=1.0,
        predict_seconds=1.0,
        predict_tokens_per_second=1.0,
        peaks=(
            Peak(phase="predict", definition="host_resident", bytes=99 * GIGA),
            *(Peak(phase="fit", definition=name, bytes=giga * GIGA) for name, giga in given.items()),
        ),
        **{"forward_flops": 3 * 10**12, "base_forward_flops": 2 * 10**12, "forward_length": 512, **changes},
    )
    return done(spec(task, "m", method, seed), score, cost, environment)


def tables(records: list[Record], constants: PscpSpec = PUBLISHED) -> list[PscpTable]:
    return pscp_tables(scores(records), constants)


def only(records: list[Record], constants: PscpSpec = PUBLISHED) -> PscpTable:
    (table,) = tables(records, constants)
    return table


def printed(records: list[Record], width: int = 120) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for table in terminal(scores(records)):
        console.print(table)
    return console.export_text()


def csv_rows(records: list[Record]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(scores(records)))))


class TestValues:
    def test_by_hand(self) -> None:
        """Means over seeds, then over tasks, in per cent; costs are means over all of these runs."""
        records = [ran(score=0.7, seed=1), ran(score=0.9, seed=2, parameters=15 * 10**7)]
        records += [ran("rte", score=0.6, peaks={"host_resident": 40}), ran("rte", score=0.6, seed=2)]
        ((method, found),) = only(records).found
        assert method == "lora"
        expected = pscp(70, Costs(75 * 10**6, 10**12, 17.5 * GIGA), PUBLISHED)
        assert found.performance == pytest.approx(70)
        assert found.factors == pytest.approx(expected.factors)
        assert found.value == pytest.approx(70 / 1.15 / 1.1 / (1 + 17.5 / 94))

    def test_the_constants_asked_for_are_used_and_told(self) -> None:
        own = PscpSpec(parameters=5e7, forward_flops=1e12, memory_bytes=10e9, beta_memory=2)
        table = only([ran(score=0.8)], own)
        assert table.found[0][1].value == pytest.approx(80 / 2 / 2 / 4)
        for words in ("50.0M trained parameters", "1 TFLOPs", "10 GB", "betas 1, 1 and 2", "512 tokens"):
            assert words in table.definition
        assert "all betas 1." in only([ran()]).definition

    def test_tasks_that_every_compared_method_has(self) -> None:
        records = [ran(task, score=score) for task, score in (("rte", 0.5), ("sst2", 0.9), ("copa", 0.7))]
        # Full fine-tuning lacks one of the two, and ia3 the third: the reference narrows nothing.
        records += [ran(task, "ia3", score=0.6) for task in ("rte", "sst2")] + [ran("sst2", "full")]
        records += [
            failed(spec("copa", "m", "ia3")),
            failed(spec("rte", "m", "full")),
            done(spec("rte", "m", "zero_shot")),
        ]
        table = only(records)
        assert table.tasks == ("rte", "sst2")
        assert {method: found.performance for method, found in table.found} == pytest.approx({"ia3": 60, "lora": 70})
        assert "PSCP (host memory) over rte and sst2:" in table.bite
        assert "No PSCP (host memory) for full: no score on rte." in table.bite
        assert "zero_shot" not in table.bite

    def test_costs_of_other_tasks_stay_out(self) -> None:
        records = [ran("rte"), ran("copa", peaks={"host_resident": 90}), ran("rte", "ia3")]
        (_, ia3), (_, lora) = only(records).found
        assert lora.memory == ia3.memory

    def test_a_reference_alone_is_compared_with_itself(self) -> None:
        assert [method for method, _ in only([ran(method="full")]).found] == ["full"]

    def test_no_task_in_common(self) -> None:
        table = only([ran("rte"), ran("sst2", "ia3")])
        assert table.bite == "No PSCP (host memory) for ia3 and lora: not one task has a score of every method."

    def test_a_method_that_never_ended_well_narrows_nothing(self) -> None:
        assert only([ran(), failed(spec("sst2", "m", "ia3"))]).tasks == ("sst2",)

    def test_what_does_not_train_has_none(self) -> None:
        assert tables([done(spec(method="zero_shot"))]) == []
        assert "PSCP" not in printed([done(spec(method="zero_shot"))])


class TestPlaces:
    def test_costs_of_places_are_never_mixed(self) -> None:
        records = [ran(seed=1), ran(seed=2, environment=GPU, peaks={"cuda_allocated": 50, "cuda_reserved": 94})]
        gpu, cpu = tables(records)
        assert (cpu.name, gpu.name) == ("PSCP (host memory)", "PSCP")
        assert cpu.found[0][1].memory == pytest.approx(1 / (1 + 10 / 94))
        assert gpu.found[0][1].memory == 0.5
        assert "here host memory" in cpu.definition
        assert "here the bytes that the allocator had reserved" in gpu.definition

    def test_memory_that_was_not_read_is_not_replaced_by_another(self) -> None:
        table = only([ran(environment=GPU, peaks={"cuda_allocated": 5, "host_resident": 9})])
        assert table.bite == "No PSCP for lora: peak memory not measured."
        assert only([ran(peaks={})]).found == []

    def test_runs_elsewhere_only(self) -> None:
        """Method ia3 was tried on both tasks on a GPU, lora here on one of them: costs come from here alone."""
        records = [ran("rte"), ran("sst2", environment=GPU), ran("rte", "ia3", environment=GPU)]
        gpu, cpu = tables(records)
        assert [method for method, _ in cpu.found] == ["lora"]
        assert cpu.tasks == ("rte", "sst2")
        assert gpu.tasks == ("rte",)
        assert "No PSCP for lora: none of these tasks was run here." in gpu.bite


class TestWords:
    def test_factors_and_the_order(self) -> None:
        records = [ran(score=0.8), ran(method="ia3", score=0.6, parameters=0, forward_flops=2 * 10**12)]
        follows = only(records).bite
        assert "model of 135M parameters" in follows
        assert "0.91 to 1.00 for trained parameters, 0.91 to 1.00 for forward FLOPs and 0.90 for memory" in follows
        assert follows.endswith("PSCP follows the score.")
        records[1] = ran(method="ia3", score=0.79, parameters=0, forward_flops=2 * 10**12)
        assert "PSCP changes the order: ia3 comes before lora, which scores higher." in only(records).bite
        assert not re.search("order|follows", only(records[:1]).bite)

    def test_a_reference_stands_behind_the_range_of_those_it_is_compared_with(self) -> None:
        records = [ran(), ran(method="ia3", parameters=0), ran(method="full", parameters=5 * 10**8)]
        assert "0.91 to 1.00 (full 0.50) for trained parameters" in only(records).bite

    def test_lengths_that_differ_are_all_named(self) -> None:
        table = only([ran(), ran(method="prompt_tuning", forward_length=492)])
        assert "a forward pass over 492 or 512 tokens" in table.definition

    def test_many_tasks_are_counted(self) -> None:
        records = [ran(f"task_{number:02}") for number in range(12)]
        assert "over all 12 tasks:" in only(records).bite
        records += [ran(f"task_{number:02}", "ia3") for number in range(10)]
        assert "over 10 of 12 tasks:" in only(records).bite

    def test_a_name_of_others_is_made_harmless(self) -> None:
        table = only([ran("t\x1b[31m", "a\nb")])
        assert "\x1b" not in table.bite
        assert "\n" not in table.bite


class TestOldRecords:
    """Records without FLOPs: absent with the reason, and never 0."""

    OLD: ClassVar[dict[str, Any]] = {"forward_flops": None, "base_forward_flops": None, "forward_length": None}

    def test_all_of_them(self) -> None:
        records = [ran(**self.OLD), ran(method="full", **self.OLD)]
        words = "No PSCP (host memory) for lora and full: forward FLOPs not counted."
        assert only(records).bite == words
        text = printed(records)
        assert words in text
        assert not re.search(r"training\s+PSCP", text)
        assert "PSCP |" not in markdown(scores(records))
        assert {row["pscp"] for row in csv_rows(records)} == {""}
        assert {row["forward_flops"] for row in csv_rows(records)} == {""}

    def test_one_of_two_methods(self) -> None:
        records = [ran(), ran(method="ia3", **self.OLD), ran("rte", **self.OLD), ran("rte", "ia3", **self.OLD)]
        table = only(records)
        # Runs that were counted speak for those of the same method that were not.
        assert [method for method, _ in table.found] == ["lora"]
        assert table.found[0][1].forward_flops == pytest.approx(1 / 1.1)
        assert "No PSCP (host memory) for ia3: forward FLOPs not counted." in table.bite
        assert re.search(r"ia3 .* –$", printed(records), re.MULTILINE)

    def test_half_a_count_is_none(self) -> None:
        assert only([ran(forward_flops=None)]).found == []


class TestTables:
    def test_the_column_stands_beside_costs_and_says_which_memory(self) -> None:
        assert re.search(r"peak\s+training\s+PSCP", printed([ran()]))
        assert re.search(r"params\s+memory\s+time\s+\(host memory\)", printed([ran()]))
        gpu = [ran(environment=GPU)]
        assert re.search(r"peak\s+training\s+PSCP", printed(gpu))
        assert "(host memory)" not in printed(gpu)
        assert "PSCP (host memory) |" in markdown(scores([ran()]))
        assert " PSCP |" in markdown(scores(gpu))

    def test_extra_flops_are_those_of_the_base_in_percent(self) -> None:
        text = markdown(scores([ran(), ran(method="ia3", forward_flops=2 * 10**12)]))
        assert "extra FLOPs, forward" in text
        assert re.search(r"\| lora .*\+50\.0 %", text)
        assert re.search(r"\| ia3 .*\| +0 % \|", text)

    def test_csv_has_the_parts(self) -> None:
        for row in csv_rows(rich_records(environments={"Qwen2.5-1.5B-Instruct": GPU})):
            absent = row["method"] == "zero_shot" or (row["method"], row["model"][:4]) == ("full", "Qwen")
            assert (row["pscp"] == "") == absent
        (row,) = csv_rows([ran(score=0.8)])
        names = ("pscp_parameters_factor", "pscp_forward_flops_factor", "pscp_memory_factor")
        one, two, three = (float(row[name]) for name in names)
        assert float(row["pscp"]) == pytest.approx(80 * one * two * three)
        assert (float(row["forward_flops"]), float(row["base_forward_flops"])) == (3e12, 2e12)
        assert float(row["forward_length"]) == 512

    def test_the_page_has_a_section_for_it(self, tmp_path: Path) -> None:
        both = [ran(), ran("sst2", "ia3", environment=GPU)]
        text = write_report(store_of(tmp_path, both)).html.read_text(encoding="utf-8")
        section = text.partition('<section id="pscp"')[2].partition("</section>")[0]
        assert section.count("<table") == section.count("<h3>") == 2
        assert 'href="#pscp"' in text
        for words in (
            "<strong>59.8</strong></td><td>80.0</td><td>0.91</td><td>0.91</td><td>0.90</td>",
            "(host memory)",
        ):
            assert words in section
        assert '<th scope="col">extra FLOPs' in text
        untrained = write_report(store_of(tmp_path / "no", [done(spec(method="zero_shot"))])).html.read_text()
        assert "pscp" not in untrained.partition("<body>")[2]

    @pytest.mark.parametrize("width", [60, 80, 120])
    def test_it_fits_the_terminal(self, width: int) -> None:
        text = printed(rich_records(), width)
        assert max(len(line.rstrip()) for line in text.splitlines()) <= width
        assert text.count("PSCP takes a factor") == 1


def test_a_report_takes_constants_and_says_them(tmp_path: Path) -> None:
    store_of(tmp_path, [ran(score=0.8)])
    usual = peftbench("report", "--store", tmp_path)
    dear = peftbench("report", "pscp.memory_bytes=10e9", "pscp.beta_memory=2", "--store", tmp_path)
    assert "all betas 1." in " ".join(usual.out.split())
    assert "10 GB of peak memory in training, here host memory of the process; betas 1, 1 and 2." in " ".join(
        dear.out.split()
    )
    (row,) = csv.DictReader(io.StringIO((tmp_path / "report" / "scores.csv").read_text()))
    assert float(row["pscp_memory_factor"]) == 0.25
    page = (tmp_path / "report" / "index.html").read_text()
    assert "betas 1, 1 and 2" in page
    refused = peftbench("report", tmp_path)
    assert refused.code == 2
    assert "The store is named with --store." in refused.sentence
