"""Tables of scores and costs: what a reader sees, and that every number survives."""

from __future__ import annotations

import csv
import io
import re
import statistics

import pytest
from rich.console import Console

from browser.sample_store import CPU, GPU, costs, done, failed, rich_records, spec
from peftbench.record import Record
from peftbench.report.costs import cost_lines, places
from peftbench.report.csv_rows import csv_text
from peftbench.report.grid import average, grids, tasks_in_common
from peftbench.report.tables import markdown, terminal
from peftbench.scoring.aggregate import Score, scores

BIDI = "\N{RIGHT-TO-LEFT OVERRIDE}"


def printed(rows: list[Score], width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for table in terminal(rows):
        console.print(table)
    return console.export_text()


def three_seeds() -> list[Score]:
    """0.78, 0.80 and 0.82 for lora, one failure for ia3, references, and nothing of lora on rte."""
    records = [done(spec(seed=seed), value) for seed, value in [(1, 0.78), (2, 0.80), (3, 0.82)]]
    records += [done(spec(method="ia3", seed=seed), value) for seed, value in [(1, 0.6), (2, 0.7)]]
    records += [failed(spec(method="ia3", seed=3)), done(spec("rte", method="ia3"), 0.5)]
    records += [done(spec(method=name), 0.5) for name in ("full", "zero_shot")]
    return scores(records)


def cells(text: str) -> dict[str, list[str]]:
    """The first table of a Markdown text: cells by the name of the row."""
    table = text.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert all(set(cell) <= {"-", ":"} for cell in rows.pop(1))
    return {row[0]: row[1:] for row in rows}


class TestGrid:
    def test_references_frame_the_compared_methods(self) -> None:
        (grid,) = grids(three_seeds())
        assert [row.name for row in grid.rows] == ["zero_shot", "ia3", "lora", "full"]
        assert [row.reference for row in grid.rows] == [True, False, False, True]

    def test_a_mean_needs_every_task(self) -> None:
        first, second = spec("sst2"), spec("rte")
        (one, two) = scores([done(first, 0.5), done(second, 0.7)])
        mean = average([one, two])
        assert mean is not None
        assert mean.value == pytest.approx(0.6)
        assert mean.spread is None
        assert average([one, None]) is None
        assert average([one, *scores([failed(first)])]) is None
        assert average([]) is None

    def test_the_spread_of_a_mean_is_that_of_the_seeds_own_means(self) -> None:
        values = {"sst2": (0.4, 0.6), "rte": (0.6, 0.4)}
        records = [done(spec(task, seed=seed), row[seed - 1]) for task, row in values.items() for seed in (1, 2)]
        mean = average(scores(records))
        assert mean is not None
        # Each seed has the mean 0.5, so that the seeds agree, however far they are apart on a task.
        assert mean.value == pytest.approx(0.5)
        assert mean.spread == pytest.approx(0)

    def test_settings_of_a_method_have_one_row_whatever_the_task(self) -> None:
        def ranked(task: str, rank: int) -> Record:
            plain = spec(task)
            method = plain.method.model_copy(update={"settings": {"r": rank}})
            return done(plain.model_copy(update={"method": method}))

        (grid,) = grids(scores([ranked("sst2", 8), ranked("sst2", 16), ranked("rte", 8)]))
        assert [row.name for row in grid.rows] == ["lora r=8", "lora r=16"]
        assert [cell.mean for cell in grid.cells[1]] == ["–", "75.0", "75.0"]

    @pytest.mark.parametrize(
        ("finished", "common", "said"),
        [
            ({"ia3": ["rte", "sst2"], "lora": ["rte", "sst2"]}, ("rte", "sst2"), "The mean is over all tasks."),
            ({"ia3": ["rte", "sst2"], "lora": ["sst2"]}, ("sst2",), "The mean is over sst2, for which every compared"),
            ({"ia3": ["rte"], "lora": ["sst2"]}, (), "There is no mean: not one task has a score of every"),
            # References narrow nothing, unless there is nothing else.
            ({"ia3": ["rte", "sst2"], "full": ["sst2"]}, ("rte", "sst2"), "The mean is over all tasks."),
            ({"zero_shot": ["rte", "sst2"], "full": ["sst2"]}, ("sst2",), "The mean is over sst2, for which"),
        ],
    )
    def test_means_are_over_the_tasks_in_common(
        self, finished: dict[str, list[str]], common: tuple[str, ...], said: str
    ) -> None:
        rows = [done(spec(task, method=method)) for method, tasks in finished.items() for task in tasks]
        # A method without any score is no reason to compare nothing.
        found = scores([*rows, failed(spec("rte", method="bitfit")), failed(spec("sst2", method="bitfit"))])
        assert tasks_in_common(found) == common
        (grid,) = grids(found)
        assert said in grid.caption
        assert (grid.columns[-1].name == "mean") == bool(common)
        if not common:
            return
        lacking = {method for method, tasks in finished.items() if not set(common) <= set(tasks)}
        assert {row.name for row, cells in zip(grid.rows, grid.cells, strict=True) if cells[-1].mean == "–"} == {
            "bitfit",
            *lacking,
        }

    def test_no_two_rows_have_one_name(self) -> None:
        both = [spec().method.model_copy(update={"settings": {"kind": "the same start" + end}}) for end in "ab"]
        rows = scores(done(spec().model_copy(update={"method": method})) for method in both)
        (grid,) = grids(rows)
        assert len({row.name for row in grid.rows}) == 2

    def test_transposing_twice_gives_the_grid(self) -> None:
        (grid,) = grids(three_seeds())
        assert grid.transposed().transposed() == grid


class TestTerminal:
    def test_values_failures_and_absences_are_seen(self) -> None:
        text = printed(three_seeds(), 120)
        assert re.search(r"lora\s+–\s+80\.0 ± 2\.0", text)
        assert "1 failed" in text
        assert "sample standard deviation over n = 3 seeds" in text
        assert "resident set" in text
        assert re.search(r"trained\s+peak\s+training", text)

    @pytest.mark.parametrize("width", [60, 80, 120, 200])
    def test_nothing_is_cut_and_nothing_is_wider_than_the_terminal(self, width: int) -> None:
        text = printed(scores(rich_records()), width)
        assert "…" not in text
        assert max(len(line.rstrip()) for line in text.splitlines()) <= width
        assert text.count("full") >= 2
        assert text.count("accuracy") == 10

    def test_wide_terminals_hold_scores_and_costs_in_one_table(self) -> None:
        text = printed(scores(rich_records()), 152)
        assert text.count("zero_shot") == 2
        assert printed(scores(rich_records()), 80).count("zero_shot") == 4

    def test_a_note_that_holds_for_all_models_is_said_once(self) -> None:
        assert printed(scores(rich_records()), 120).count("PSCP takes a factor") == 1

    def test_control_characters_do_not_reach_the_terminal(self) -> None:
        text = printed(scores([done(spec(model=f"\x1b[31m{BIDI}red"))]), 80)
        assert "\x1b" not in text
        assert BIDI not in text

    def test_no_record_no_table(self) -> None:
        assert terminal([]) == []


class TestMarkdown:
    def test_score_table(self) -> None:
        found = cells(markdown(three_seeds(), {"sst2": 0.51}))
        assert found == {
            "method": ["rte, accuracy", "sst2, accuracy, chance 51.0", "mean, 1 of 2 tasks"],
            "zero_shot": ["–", "50.0", "50.0"],
            "ia3": ["50.0 (n = 1)", "65.0 ± 7.1 (1 failed)", "65.0 ± 7.1"],
            "lora": ["–", "80.0 ± 2.0", "80.0 ± 2.0"],
            "full": ["–", "50.0 (n = 1)", "50.0"],
        }

    def test_hostile_names_stay_text_in_one_cell(self) -> None:
        hostile = [spec(task, model="<script>|`x`", method="a|b\n*c*") for task in ("<b>*x*</b>[a](http://e)", "rte")]
        text = markdown(scores([*map(done, hostile), done(spec("sst2", model="<script>|`x`"))]))
        assert "### &lt;script&gt;\\|\\`x\\`" in text
        assert "| a\\|b \\*c\\* |" in text
        assert "<script" not in text
        assert "<b>" not in text
        shared = markdown(scores([done(hostile[0]), done(spec("rte", model="<script>|`x`", method="a|b\n*c*"))]))
        assert "<b>" not in shared

    def test_nothing_done(self) -> None:
        assert markdown([]) == "No run has a record yet.\n"

    def test_only_failures(self) -> None:
        text = markdown(scores([failed(spec(seed=seed)) for seed in (1, 2)]))
        assert cells(text)["lora"] == ["– (2 failed)"]
        assert "peak memory" not in text


class TestCosts:
    def test_places_are_never_mixed(self) -> None:
        slow = costs(spec()).model_copy(update={"fit_seconds": 100.0})
        fast = slow.model_copy(update={"fit_seconds": 10.0})
        records = [done(spec(seed=1), cost=slow), done(spec(seed=2), cost=slow)]
        records.append(done(spec(seed=3), cost=fast, environment=GPU))
        rows = scores(records)
        assert {line.place.device: line.fit_seconds for line in cost_lines(rows)} == {"cpu": 100.0, GPU.device: 10.0}
        assert [(line.runs, line.asked) for line in cost_lines(rows)] == [(1, 3), (2, 3)]
        assert "do not compare" in markdown(rows)
        assert printed(rows, 80).count("Costs on") == 2
        (row,) = csv.DictReader(io.StringIO(csv_text(rows)))
        assert (row["mean"], row["fit_seconds"], row["trainable_parameters"]) == ("0.75", "", "")
        assert "H100" in row["device"]
        assert "CPU" in row["device"]

    def test_costs_are_of_the_tasks_in_common(self) -> None:
        """Of a task with long passages only one method has costs: they would count against it."""
        rows = [done(spec("sst2", method=method)) for method in ("ia3", "lora", "zero_shot")]
        long = done(spec("boolq", method="lora"))
        assert long.cost is not None
        slow = long.model_copy(update={"cost": long.cost.model_copy(update={"fit_seconds": 1e6})})
        with_long, without = cost_lines(scores([*rows, slow])), cost_lines(scores(rows))
        assert with_long == without
        assert {line.over for line in with_long} == {"sst2"}
        assert "Means over sst2 and the seeds" in printed(scores([*rows, slow]), 200)
        apart = cost_lines(scores([rows[0], slow]))
        assert [line.fit_seconds for line in apart] == [rows[0].cost.fit_seconds if rows[0].cost else None, 1e6]
        assert "Means over sst2 (lora: boolq) and the seeds" in printed(scores([rows[0], slow]), 200)

    def test_a_line_without_some_of_the_tasks_says_so(self) -> None:
        """A reference that failed on one of them, and a method that did one of them elsewhere."""
        both = [done(spec(task, method=method)) for task in ("rte", "sst2") for method in ("ia3", "lora")]
        text = printed(scores([*both, done(spec("sst2", method="full"))]), 200)
        assert "Means over rte and sst2 (full: sst2) and the seeds" in text
        elsewhere = both[1].model_copy(update={"environment": GPU})
        assert both[1].spec.method.name == "lora"
        text = printed(scores([both[0], elsewhere, *both[2:]]), 200)
        assert "Means over rte and sst2 (lora: sst2) and the seeds" in text
        assert "Means over rte and the seeds" in text

    def test_other_threads_are_another_place(self) -> None:
        one = CPU.model_copy(update={"threads": 1})
        rows = scores([done(spec(seed=1)), done(spec(seed=2), environment=one)])
        assert [place.threads for place in places(rows)] == [1, 8]
        assert places(rows)[0].name == "CPU (AMD EPYC 7763, 1 thread)"


class TestCsv:
    def test_every_number_reads_back_as_it_was(self) -> None:
        rows = scores(rich_records())
        found = list(csv.DictReader(io.StringIO(csv_text(rows))))
        assert len(found) == len(rows)
        for row, score in zip(found, rows, strict=True):
            assert (row["model"], row["task"], row["method"]) == (score.model, score.task, score.method)
            numbers = [float(row[name]) if row[name] else None for name in ("mean", "spread", "low", "high")]
            assert numbers == [score.value, score.spread, score.low, score.high]
            assert tuple(float(value) for value in row["values"].split()) == score.parts
            assert int(row["failed"]) == score.failed
            for field in ("fit_seconds", "trainable_parameters", "adapter_bytes", "predict_seconds"):
                present: list[float | None] = [getattr(record.cost, field) for record in score.records if record.cost]
                known = [number for number in present if number is not None]
                expected = statistics.fmean(known) if known else None
                assert (float(row[field]) if row[field] else None) == expected

    def test_a_name_is_no_formula(self) -> None:
        (row,) = csv.DictReader(io.StringIO(csv_text(scores([done(spec(model='=HYPERLINK("x")'))]))))
        assert row["model"] == '\'=HYPERLINK("x")'

    def test_nothing_done_is_a_header(self) -> None:
        assert csv_text([]).count("\n") == 1
