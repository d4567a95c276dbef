"""The oracle itself, against the examples and rules of the protocol text, whose sections the comments name."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import adversarial
from oracles.published_reading import CODE_SCORES, HEADLINE, METRICS, exact_match, headline, published, read
from oracles.published_rows import KIND, LABELS, PublishedRow, explode_apps, explode_record

NO_LABEL = {"stsb": "2.5", "gsm8k": "#### 18", "svamp": "( 8.0 - 3.0 ) = 5", "record": "Mara Lind"}
POSITIVE = dict.fromkeys(("multirc", "boolq", "wic", "wsc"), "true") | {
    **dict.fromkeys(("qnli", "rte"), "not_entailment"),
    "qqp": "duplicate",
    "sst2": "positive",
    "mrpc": "equivalent",
    "cola": "acceptable",
    "copa": "choice2",
    "piqa": "solution2",
    "winogrande": "option2",
}


def scored(dataset: str, *pairs: tuple[str, str]) -> dict[str, float]:
    """The scores of rows given as prediction and label."""
    rows = [PublishedRow(predict, label, "q", (label,)) for predict, label in pairs]
    return published(dataset, rows, fake_code_bleu)


def fake_code_bleu(references: list[str], predictions: list[str]) -> Mapping[str, float]:
    """The share of equal texts, under all five names."""
    same = sum(one == other for one, other in zip(references, predictions, strict=True)) / len(references)
    return dict.fromkeys(CODE_SCORES, same)


def gold(dataset: str) -> str:
    """Some label of a dataset."""
    return LABELS[dataset][-1] if dataset in LABELS else NO_LABEL.get(dataset, "x = None")


def test_there_are_27_datasets_with_the_headline_of_section_1_5() -> None:
    assert len(KIND) == 27
    for dataset, kind in KIND.items():
        order = [name for name in ("macro_f1", "pearsonr", "accuracy", "codebleu", "f1") if name in METRICS[kind]]
        assert HEADLINE[dataset] == order[0]


@pytest.mark.parametrize("dataset", KIND)
def test_a_perfect_file_scores_100_under_the_names_of_the_table(dataset: str) -> None:
    labels = [label.title() for label in LABELS.get(dataset, ())] or [gold(dataset), gold(dataset)]
    if dataset == "stsb":
        labels = ["3.799999952316284", "5.0"]  # D20: labels carry the noise of a float32
    scores = scored(dataset, *[(label, label) for label in labels])
    assert tuple(scores) == METRICS[KIND[dataset]]
    assert headline(dataset, scores) == pytest.approx(100)


@pytest.mark.parametrize(("dataset", "positive"), POSITIVE.items())
def test_the_positive_class_is_entry_1(dataset: str, positive: str) -> None:  # 1.1, D14
    assert {name for name, kind in KIND.items() if kind == "two_classes"} == set(POSITIVE)
    first, second = LABELS[dataset]
    assert second == positive
    assert scored(dataset, (first, first), (second, second), (second, first))["f1"] == pytest.approx(2 / 3)
    assert scored(dataset, (first, first), (first, first))["f1"] == 0.0


def test_one_missed_row_of_ten_takes_all_of_f1() -> None:  # D13
    scores = scored("rte", *[("entailment", "entailment")] * 9, ("not_entailment.", "not_entailment"))
    assert scores == {"f1": 0.0, "exact_match": 0.9}


def test_a_full_stop_makes_a_prediction_wrong() -> None:  # D13
    assert scored("sst2", ("positive.", "positive"), ("positive", "positive"))["f1"] == pytest.approx(2 / 3)
    assert scored("sst2", ("positive.", "positive"))["exact_match"] == 0.0


def test_an_invalid_prediction_becomes_the_wrong_label_either_way() -> None:  # 1.5
    both = scored("sst2", ("?", "negative"), ("positive", "positive"), ("?", "positive"))
    assert both["f1"] == pytest.approx(0.5)  # one true, one false and one missed positive
    assert both["exact_match"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("label", "same_as"), [("entailment", "neutral"), ("neutral", "entailment"), ("contradiction", "neutral")]
)
def test_under_macro_f1_an_invalid_prediction_becomes_label_1_or_0(label: str, same_as: str) -> None:  # 1.5
    right = [(name, name) for name in (*LABELS["mnli"], "neutral")]  # the other two labels must not weigh the same
    assert scored("mnli", *right, ("?", label)) == scored("mnli", *right, (same_as, label))


def test_macro_f1_counts_the_labels_that_occur() -> None:  # 1.5
    assert scored("mmlu", ("A", "A"), ("b", "B"))["macro_f1"] == 1.0
    assert scored("mmlu", ("A", "A"), ("C", "B"))["macro_f1"] == pytest.approx(1 / 3)


def test_texts_are_lowered_stripped_and_cut_after_the_last_thought() -> None:  # 1.3
    assert read(" POSITIVE\n") == "positive"
    assert read("<think>a</think>\n\nnegative</think>\n\nPositive ") == "positive"
    assert read("<think>a</think>\npositive") == "<think>a</think>\npositive"


def test_only_16_characters_are_compared() -> None:  # 1.5, 6.3
    assert len({label[:16] for label in adversarial.LONG_LABELS}) == 1
    assert exact_match([adversarial.LONG_LABELS[0]], [adversarial.LONG_LABELS[1]]) == 1.0
    assert exact_match(["not_entailment"], ["not_entailment.."]) == 0.0
    assert max(len(label) for labels in LABELS.values() for label in labels) == 14


def test_a_similarity_that_is_no_number_counts_as_minus_1() -> None:  # 1.5
    right = [("0.5", "0.5"), ("3", "3.0")]
    assert scored("stsb", *right, ("five", "5.0")) == scored("stsb", *right, ("-1.0", "5.0"))
    assert scored("stsb", *right, ("five", "-1.0"))["pearsonr"] == pytest.approx(1)


def test_both_correlations_are_what_their_names_say() -> None:  # 1.5
    scores = scored("stsb", ("1", "1"), ("2", "2"), ("4", "3"))
    assert scores["spearmanr"] == pytest.approx(1)
    assert scores["pearsonr"] == pytest.approx(3 / math.sqrt(2 * 14 / 3))


def test_a_constant_similarity_has_no_correlation() -> None:
    assert all(math.isnan(value) for value in scored("stsb", ("2", "1"), ("2", "4")).values())


def test_the_last_prediction_of_a_query_stands_for_all_its_rows() -> None:  # 1.5, D12
    answers = ("Mara Lind", "Lind")
    first, other = PublishedRow("Mara Lind", "Mara Lind", 7, answers), PublishedRow("Oslo", "Oslo", 8, ("Oslo",))
    last = PublishedRow("Bergen", "Lind", 7, answers)
    assert published("record", [first, last, other]) == {
        "f1": pytest.approx(1 / 3),
        "exact_match": pytest.approx(1 / 3),
    }
    assert published("record", [last, first, other]) == {"f1": 1.0, "exact_match": 1.0}


@pytest.mark.parametrize(
    ("predict", "f1", "exact"),
    [
        *(
            ("the  MARA-Lind", 0.0, 0.0),
            ("The Mara, Lind!", 1.0, 1.0),
            ("An a Lind", 1.0, 1.0),
            ("Lind", 1.0, 1.0),
            ("an U.S. a", 0.0, 0.0),
        ),
        *(("Mara Lind Oslo", 0.8, 0.0), ("mara mara", 0.5, 0.0), ("Lind Lind", 2 / 3, 0.0), ("", 0.0, 0.0)),
    ],
)
def test_record_answers_are_compared_as_squad_does(predict: str, f1: float, exact: float) -> None:  # 1.5
    scores = published("record", [PublishedRow(predict, "Lind", 0, ("Mara Lind", "Lind"))])
    assert scores == {"f1": pytest.approx(f1), "exact_match": exact}


@pytest.mark.parametrize(
    ("predict", "correct", "unreadable"),
    [
        *(("#### 1,800", 1, 0), ("2 + 2 = 4\n#### 1800%", 1, 0), ("#### 18\n#### 1800.0", 1, 0), ("#### 1.8e3", 1, 0)),
        *(("#### 1800.0000005", 1, 0), ("#### 1800.00001", 0, 0), ("#### nan", 0, 0), ("#### 1800\n#### 18", 0, 0)),
        *(("1800", 0, 1), ("", 0, 1), ("####", 0, 1), ("#### $1800", 0, 1), ("#### 1800 eggs", 0, 1)),
    ],
)
def test_gsm8k_reads_the_number_after_the_last_mark(predict: str, correct: int, unreadable: int) -> None:  # 1.5
    scores = scored("gsm8k", (predict, "900 * 2 = <<900*2=1800>>1,800\n#### 1,800"))
    assert scores == {"accuracy": correct, "format_errors": unreadable}


def test_gsm8k_counts_an_unreadable_label_as_wrong() -> None:  # 1.5
    assert scored("gsm8k", ("#### 5", "5"), ("5", "5"), ("#### 5", "#### 5")) == {
        "accuracy": pytest.approx(1 / 3),
        "format_errors": 2,
    }


def test_one_true_equation_solves_all_of_svamp() -> None:  # D3
    labels = ["( 8.0 - 3.0 ) = 5", "( 290.0 / 2.0 ) = 145", "8.0 = 8"]
    scores = scored("svamp", *[("(1 + 1) = 2", label) for label in labels])
    assert scores == {"accuracy": 1.0, "math_correct": 3, "gold_exact_equation": 0, "format_errors": 0, "total": 3}


@pytest.mark.parametrize(
    ("equation", "holds"),
    [
        *(("(7 // 2) = 3", True), ("(7 % 4) = 3", True), ("(7 / 2) = 3.5", True), ("(2 * 3 - 1) = 5", True)),
        *(("(-1 + +3) = 2", True), ("(2) = 2", True), ("('2') = 2", None)),
        *(("((1+1)) = 2", True), ("( ( 1.0 + 2.0 ) * 3.0 ) = 9", True), ("(1 / 3) = 0.333333", True)),
        *(("(1 + 1) = 3", False), ("(1 / 3) = 0.33333", False), ("(1e400) = inf", False), ("(1) = nan", False)),
        *(("1 + 1 = 2", None), ("(1)+(1) = 2", None), ("= 5", None), ("(1 + 1) =", None), ("(1 + 1)", None)),
        *(("(1 + 1) = 2 = 2", None), ("(1 + 1) == 2", None), ("(2 ** 99999) = 1", None), ("(1 / 0) = 0", None)),
        *(
            ("(x) = 1", None),
            ("(1 + 1) = two", None),
            ("(true) = 1", None),
            ("(abs(1)) = 1", None),
            ("(1 1) = 1", None),
        ),
        *(("(" + "9" * 400 + ") = 1", None), ("(" + "1+" * 20_000 + "1) = 20001", None)),
    ],
)
def test_svamp_equations(equation: str, *, holds: bool | None) -> None:  # 1.5
    scores = scored("svamp", (equation, "( 8.0 - 3.0 ) = 5"))
    assert (scores["accuracy"], scores["format_errors"]) == (float(holds is True), float(holds is None))


@pytest.mark.parametrize(
    ("predict", "same"),
    [("( 8.0 - 3.0 ) = 5", 1), ("(8.0-3.0)=5", 0), (r"( 8.0 - 3.0 )\s = 5", 1), ("( 9.0 - 4.0 ) = 5", 0)],
)
def test_the_broken_pattern_leaves_white_space_in_gold_exact_equation(predict: str, same: int) -> None:  # 6.3
    assert scored("svamp", (predict, "( 8.0 - 3.0 ) = 5"))["gold_exact_equation"] == same


def test_code_is_lowered_and_handed_over_reference_first() -> None:  # 1.5, D21
    seen: list[tuple[list[str], list[str]]] = []

    def watch(references: list[str], predictions: list[str]) -> Mapping[str, float]:
        seen.append((references, predictions))
        return {**fake_code_bleu(references, predictions), "more": 1.0}

    scores = published("apps", [PublishedRow(" X = TRUE", "x = None"), PublishedRow("", "")], watch)
    assert seen == [(["x = none", ""], ["x = true", ""])]
    assert scores == dict.fromkeys(CODE_SCORES, 0.5)


def test_record_is_exploded_by_answer() -> None:  # 1.4
    row: dict[str, Any] = {
        "passage": "It snowed.\n@highlight\nThe road\n@highlight\nis 'shut'\n@highlight\nnow",
        "query": "@placeholder is shut",
        "entities": ["Oslo", "Bergen"],
        "answers": ["Oslo", "Bergen"],
        "idx": {"passage": 3, "query": 9},
    }
    examples = explode_record(row)
    assert {example.inputs for example in examples} == {
        "Query: @placeholder is shut\n\nEntities: Oslo, Bergen\n\nPassage: It snowed. The road. is 'shut' now"
    }
    assert [(e.label, e.key, e.answers) for e in examples] == [(a, 9, ("Oslo", "Bergen")) for a in ("Oslo", "Bergen")]
    assert [(e.label, e.answers) for e in explode_record(row | {"answers": []})] == [("<unk>", ())]


def test_apps_is_exploded_by_solution() -> None:  # 1.4, D24
    row = {
        "problem_id": "4",
        "question": "Add\ud800 up",
        "starter_code": "def f():",
        "solutions": r'["x\n", "y\ud83d\ude00\/"]',
    }
    assert [(e.inputs, e.label) for e in explode_apps(row)] == [("Add up", "x\n"), ("Add up", "y\\/")]
    assert [e.label for e in explode_apps(row | {"solutions": ""})] == [""]
    assert [e.label for e in explode_apps(row | {"solutions": "[]"})] == [""]


@pytest.mark.parametrize("dataset", KIND)
def test_every_fixed_text_can_be_scored(dataset: str) -> None:
    for text in adversarial.fixed_texts(dataset):
        scores = scored(dataset, (text, gold(dataset)), (gold(dataset), gold(dataset)))
        assert tuple(scores) == METRICS[KIND[dataset]]


@settings(deadline=None, max_examples=50)
@given(st.data())
@pytest.mark.parametrize("dataset", ["rte", "wsc", "mnli", "mmlu", "stsb", "record", "gsm8k", "svamp", "apps"])
def test_scores_keep_to_their_range(dataset: str, data: st.DataObject) -> None:
    rows = data.draw(adversarial.rows(dataset))
    scores = published(dataset, rows, fake_code_bleu)
    top = len(rows) if dataset in {"gsm8k", "svamp"} else 1 + 1e-9
    assert all(math.isnan(value) or -1 - 1e-9 <= value <= top for value in scores.values())
    assert not math.isnan(scores[HEADLINE[dataset]]) or dataset == "stsb"


@pytest.mark.parametrize("dataset", ["rte", "record", "apps"])
def test_what_cannot_be_scored_is_refused(dataset: str) -> None:
    with pytest.raises(ValueError, match="no rows"):
        published(dataset, [])
    with pytest.raises(ValueError, match=r"gold label|key|CodeBLEU"):
        published(dataset, [PublishedRow("entailment", "neutral", answers=("neutral",))])


@pytest.mark.shared
def test_the_gold_answers_of_the_real_data_are_right_but_for_one_equation(shared: Path) -> None:
    svamp = [f"{row['Equation']} = {row['Answer']}" for row in real(shared, "svamp", "train", "validation")]
    assert scored("svamp", *[(text, text) for text in svamp])["math_correct"] == 998  # one false, one without brackets
    gsm8k = [(row["answer"], row["answer"]) for row in real(shared, "gsm8k", "validation")]
    assert scored("gsm8k", *gsm8k) == {"accuracy": 1.0, "format_errors": 0}


@pytest.mark.shared
def test_the_real_data_explode_and_score_themselves(shared: Path) -> None:
    record = [example for row in real(shared, "record", "validation") for example in explode_record(row)]
    assert published("record", [example.row(example.label) for example in record]) == {"f1": 1.0, "exact_match": 1.0}
    assert all("@highlight" not in example.inputs for example in record)
    apps = [example for row in real(shared, "apps", "train") for example in explode_apps(row)]
    assert len(apps) > len({example.key for example in apps}) == 75


def real(shared: Path, dataset: str, *splits: str) -> list[dict[str, Any]]:
    """Rows of the real data."""
    files = [shared / "data" / dataset / f"{split}.jsonl.gz" for split in splits]
    return [json.loads(line) for file in files for line in gzip.open(file, "rt", encoding="utf-8")]
