"""The card of a data set, over invented rows whose figures can be counted by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftbench import card as cards
from peftbench import hub, near_duplicates, registry
from peftbench.card import Percentiles, Repeats, TaskCard, task_card
from peftbench.errors import DataProblem, MissingExtra, ModelProblem, UsageError

Rows = Iterable[dict[str, Any]]

RAIN = "the long rain came down on the old town all night and all day until the river rose"
# Eighteen words make sixteen shingles; another last word changes one: 15 of 17 are shared.
SNOW = RAIN.removesuffix("rose") + "froze"


def mirror(root: Path, folder: str, train: Rows, test: Rows) -> str:
    (root / folder).mkdir(parents=True)
    for name, rows in (("train", train), ("validation", test)):
        (root / folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(root)


def review(sentence: str, label: int) -> dict[str, Any]:
    return {"sentence": sentence, "label": label}


@pytest.fixture
def reviews(tmp_path: Path) -> str:
    train = [
        review("a warm film", 1),
        review("a warm film", 0),
        review("A warm film!", 1),
        review(RAIN, 0),
        review(SNOW, 0),
        review("a warm film ", 1),
        review("never shown", -1),
    ]
    test = [
        review("a warm film", 1),
        review(RAIN, 1),
        review("grey and slow", 0),
        review("grey, and slow", 1),
        review(SNOW + " over", 0),
    ]
    return mirror(tmp_path, "sst2", train, test)


def test_rows_answers_and_hidden_ones(reviews: str) -> None:
    card = task_card("sst2", reviews)
    train, test = card.splits["train"], card.splits["test"]
    assert list(card.splits) == ["train", "test"]
    assert (train.rows, train.hidden, train.questions, train.groups) == (7, 1, 6, 6)
    assert (test.rows, test.hidden, test.questions, test.groups) == (5, 0, 5, 5)
    # The most frequent of both splits first: six of eleven are positive.
    assert [list((split.answers or {}).items()) for split in (train, test)] == [
        [("positive", 3), ("negative", 3)],
        [("positive", 3), ("negative", 2)],
    ]
    assert card.data is not None
    assert card.data.startswith("files:")
    assert card.missing == ""


def test_what_a_split_repeats_of_itself(reviews: str) -> None:
    card = task_card("sst2", reviews)
    # Of three times the same film one is the first and one says the opposite; `A warm film!` and the snow are near.
    assert card.splits["train"].repeats == Repeats(exact=2, other_answer=1, near=2)
    # Case and a comma do not count; the rain and the snow that is over share 15 of 18 shingles.
    assert card.splits["test"].repeats == Repeats(exact=0, other_answer=0, near=2)


def test_what_test_has_of_train(reviews: str) -> None:
    overlap = task_card("sst2", reviews).overlap
    assert overlap is not None
    # The film has either answer in train, the rain only the other; what is there word for word is not near as well.
    assert overlap.repeats == Repeats(exact=2, other_answer=1, near=1)
    assert (overlap.groups, overlap.grouped) == (0, 0)
    (pair,) = overlap.pairs
    assert (pair.test, pair.train) == ("test/4", "train/4")
    assert pair.jaccard == 16 / 17


def test_each_question_that_is_near_counts_once(tmp_path: Path) -> None:
    """However many it is like; those that are equal count each, and three are named, the closest first."""
    train = [review(f"{RAIN} and {last}", 1) for last in ("one", "two", "three")]
    test = [review(f"{RAIN} and {last}", 1) for last in ("four", "four", "five", "six", "three!")]
    card = task_card("sst2", mirror(tmp_path, "sst2", train, test))
    assert card.overlap is not None
    assert card.splits["train"].repeats.near == 2
    assert card.splits["test"].repeats == Repeats(exact=1, other_answer=0, near=3)
    assert card.overlap.repeats == Repeats(exact=0, other_answer=0, near=5)
    assert [pair.test for pair in card.overlap.pairs] == ["test/4", "test/0", "test/2"]
    # The last three of train are equally close to the others.
    assert card.overlap.pairs[0].train == "train/2"
    assert card.splits["train"].answers == {"positive": 3}


def test_where_too_many_are_alike_the_card_says_that_there_may_be_more(
    reviews: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert task_card("sst2", reviews).near_complete
    monkeypatch.setattr(near_duplicates, "_WORK", -1)
    card = task_card("sst2", reviews)
    assert not card.near_complete
    assert card.overlap is not None
    assert (card.overlap.repeats.exact, card.overlap.repeats.near) == (2, 0)


def test_rows_of_one_passage_are_a_group_and_not_compared(tmp_path: Path) -> None:
    def asked(passage: str, question: str) -> dict[str, Any]:
        return {"passage": passage, "question": question, "label": 1}

    train = [asked(RAIN, "did it rain"), asked(RAIN, "did it rain today"), asked("owls hunt at dusk", "do owls hunt")]
    test = [asked(RAIN, f"did it rain {how}") for how in ("once", "again")]
    test += [asked(SNOW, "did it rain"), asked("bees sleep", "do bees sleep")]
    card = task_card("boolq", mirror(tmp_path, "boolq", train, test))
    assert (card.splits["train"].groups, card.splits["test"].groups) == (2, 3)
    assert card.splits["train"].repeats.near == 0
    assert card.overlap is not None
    assert (card.overlap.groups, card.overlap.grouped) == (1, 2)
    # The same question about a passage that ends in another word.
    assert [(pair.test, pair.train) for pair in card.overlap.pairs] == [("test/2", "train/0")]


def test_answers_that_are_no_classes_are_not_counted(tmp_path: Path) -> None:
    rows = [{"prompt": f"add {n} to x", "response": f"x + {n}"} for n in range(4)]
    mirrored = [{"instruction": row["prompt"], "input": "", "output": row["response"]} for row in rows]
    card = task_card("codealpacapy", mirror(tmp_path, "codealpaca", mirrored[:3], mirrored[3:]))
    assert card.splits["train"].answers is None


@pytest.mark.parametrize(("classes", "times", "shown"), [(20, 2, 20), (21, 2, 0), (2, 1, 0), (1, 2, 1)])
def test_few_answers_are_classes(classes: int, times: int, shown: int, tmp_path: Path) -> None:
    rows = [
        {
            "Body": f"There are {n} hens.",
            "Question": "How many?",
            "Answer": str(n),
            "Equation": f"( {n}.0 + 0.0 )",
            "Type": "",
        }
        for n in range(classes)
        for _ in range(times)
    ]
    card = task_card("svamp", mirror(tmp_path, "svamp", rows[:-1], rows[-1:]))
    assert len(card.splits["train"].answers or ()) == shown


def test_several_answers_contradict_only_when_none_is_shared(tmp_path: Path) -> None:
    def story(*answers: str) -> dict[str, Any]:
        return {"passage": "Ada met Bo.", "query": "@placeholder met Bo", "entities": ["Ada"], "answers": list(answers)}

    train = [story("Ada", "Ada Brook"), story("Ada Brook", "Mrs Brook"), story("Bo")]
    card = task_card("record", mirror(tmp_path, "record", train, [story("Mrs Brook"), story("the king")]))
    assert card.splits["train"].repeats == Repeats(exact=2, other_answer=1, near=0)
    assert card.overlap is not None
    assert card.overlap.repeats == Repeats(exact=2, other_answer=1, near=0)


def test_lengths_in_characters(reviews: str) -> None:
    train = task_card("sst2", reviews).splits["train"]
    assert train.characters is not None
    instruction = len("Is the sentiment of this film review positive or negative? Answer with one word.\n")
    assert train.characters.questions == 6
    assert train.characters.prompt == Percentiles(
        percent_5=instruction + 11, median=instruction + 11, percent_95=instruction + 83, longest=instruction + 83
    )
    assert train.characters.answer.longest == 8
    assert train.tokens is None


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_percentiles_are_lengths_that_exist(numbers: list[int]) -> None:
    found = cards._percentiles(numbers)
    wanted = np.percentile(numbers, (5, 50, 95, 100), method="inverted_cdf").tolist()
    assert [found.percent_5, found.median, found.percent_95, found.longest] == wanted
    assert set(wanted) <= set(numbers)


def test_a_split_whose_answers_are_all_hidden_has_no_lengths(tmp_path: Path) -> None:
    card = task_card("sst2", mirror(tmp_path, "sst2", [review("a", 1)], [review("b", -1), review("c", -1)]), "tiny")
    test = card.splits["test"]
    assert (test.rows, test.hidden, test.questions) == (2, 2, 0)
    assert test.characters is None
    assert test.tokens is None


def test_tokens_are_those_of_the_model_as_it_is_asked(reviews: str) -> None:
    from transformers import AutoTokenizer

    from peftbench.models._facts import find

    card = task_card("sst2", reviews, "tiny")
    test = card.splits["test"]
    tokenizer = AutoTokenizer.from_pretrained(str(find("tiny").folder))
    instruction = "Is the sentiment of this film review positive or negative? Answer with one word."
    lengths = sorted(
        len(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": f"{instruction}\n{text}"}], add_generation_prompt=True, return_dict=True
            )["input_ids"]
        )
        for text in ("a warm film", RAIN, "grey and slow", "grey, and slow", SNOW + " over")
    )
    assert test.tokens is not None
    assert (test.tokens.prompt.percent_5, test.tokens.prompt.median, test.tokens.prompt.longest) == (
        lengths[0],
        lengths[2],
        lengths[4],
    )
    answers = [len(tokenizer(word, add_special_tokens=False)["input_ids"]) + 1 for word in ("positive", "negative")]
    assert test.tokens.answer.longest == max(answers)
    assert card.model == "tiny"


def test_tokens_of_many_questions_are_those_of_a_sample(reviews: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "_COUNTED", 3)
    train = task_card("sst2", reviews, "tiny").splits["train"]
    assert train.tokens is not None
    assert train.characters is not None
    assert (train.tokens.questions, train.characters.questions) == (3, 6)


def test_the_prompt_is_shown_as_the_model_reads_it(reviews: str) -> None:
    plain, asked = (task_card("sst2", reviews, model).specimens[0] for model in (None, "tiny"))
    assert plain.prompt.endswith("Answer with one word.\na warm and funny evening at the cinema")
    assert asked.prompt == f"<s><|user|>\n{plain.prompt}<|end|>\n<|assistant|>\n"
    assert plain.answer == asked.answer == "positive"


def test_a_card_is_json(reviews: str) -> None:
    card = task_card("sst2", reviews, "tiny")
    assert TaskCard.model_validate_json(card.model_dump_json()) == card
    assert card.citation.startswith("Socher")
    assert (card.headline, card.chance, card.licence) == ("accuracy", 0.51, "research use")
    assert card.metrics == ("accuracy", "macro_f1")


@pytest.mark.parametrize(
    "error", [DataProblem("The hub is off.", "Use a local mirror: --data-root DIR"), MissingExtra("datasets", "hub")]
)
@pytest.mark.parametrize("task", registry.shipped("tasks"))
def test_without_rows_a_card_says_what_is_known(task: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise error

    monkeypatch.setattr(hub, "resolve", fail)
    card = task_card(task)
    assert len(card.specimens) == 2
    assert card.licence
    if task.startswith("toy"):
        assert card.splits["train"].questions >= 500
        assert card.origin.place == "generated by the task"
    else:
        assert (card.splits, card.overlap, card.data) == ({}, None, None)
        assert card.missing == str(error)
        assert card.origin.mirror
    assert [specimen.place for specimen in card.specimens] == ["Invented row 1", "Invented row 2"]


def test_a_data_root_without_the_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match=r"There is no .*sst2"):
        task_card("sst2", str(tmp_path))


OWN = """
from pathlib import Path
import dataclasses
from peftbench.tasks import sst2
from peftbench.tasks._source import Files
HERE = Path(__file__).parent
TASK = dataclasses.replace(sst2.TASK, source=Files(HERE / "a.jsonl", HERE / "b.jsonl"))
"""


def test_a_broken_row_is_an_error_and_no_missing_one(tmp_path: Path) -> None:
    """Rows that are there and cannot be asked are a fault, wherever they come from."""
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "a.jsonl").write_text(json.dumps(review("a", 1)))
    (tmp_path / "b.jsonl").write_text(json.dumps(review("b", 7)))
    with pytest.raises(DataProblem, match="the label 7 is not declared"):
        task_card(str(tmp_path / "mine.py"))
    (tmp_path / "b.jsonl").write_text(json.dumps(review("b", 0)))
    card = task_card(str(tmp_path / "mine.py"))
    assert (card.name, card.origin.place, card.origin.test) == ("mine", "files", str(tmp_path / "b.jsonl"))
    assert card.splits["test"].questions == 1


# What stands in the files of a task without code, and what the card says of it.
LABELLED = """
train: a.jsonl
test: b.jsonl
body: "{text}"
target: "{label}"
labels: {0: no, 1: yes}
"""
ONE = '{"text": "a", "label": 1}\n'
BAD: dict[str, tuple[str, str, str]] = {
    "truth value": (LABELLED, '{"text": "a", "label": true}', "a.jsonl, row 1: the label 'true' is not declared"),
    "float": (LABELLED, '{"text": "a", "label": 1.0}', "a.jsonl, row 1: the label '1.0' is not declared"),
    "list": (LABELLED, '{"text": ["a"], "label": 1}', "a.jsonl, row 1: the column 'text' holds a list"),
    "infinite": (LABELLED, '{"text": 1e999, "label": 1}', "a.jsonl, row 1: the column 'text' holds inf"),
    "no mark": (
        LABELLED.replace("labels: {0: no, 1: yes}", 'answer: {use: number, after: "####"}'),
        ONE,
        "a.jsonl, row 1: the target '1' is no number ",
    ),
    "column of the specimen": (
        LABELLED + "specimen: [{txt: a, label: 1}]\n",
        ONE,
        "Row 1 of the specimen has no column 'text'; it has: label, txt. Did you mean 'txt'?",
    ),
    "label of the specimen": (
        LABELLED + "specimen: [{text: a, label: 0}, {text: a, label: 7}]\n",
        ONE,
        "Row 2 of the specimen: the label '7' is not declared",
    ),
    "id twice": (LABELLED + "id: text\n", ONE + ONE, "a.jsonl, row 2 has the 'text' of row 1: 'a'."),
    "wrong id": (LABELLED + "id: txt\n", ONE, "mine.yaml, id: txt is no column of "),
    "later row": (LABELLED.replace("b.jsonl", "0.5"), 5 * ONE + '{"label": 1}', "a.jsonl, row 6 has no column 'text'"),
}


@pytest.mark.parametrize("case", BAD)
def test_own_rows_that_are_broken_are_a_sentence_with_their_place(case: str, tmp_path: Path) -> None:
    task, rows, words = BAD[case]
    (tmp_path / "mine.yaml").write_text(task)
    (tmp_path / "a.jsonl").write_text(rows)
    (tmp_path / "b.jsonl").write_text('{"text": "b", "label": 0}')
    with pytest.raises(UsageError) as raised:
        task_card(str(tmp_path / "mine.yaml"))
    assert words in str(raised.value)


@pytest.mark.parametrize("value", [b"\xff", timedelta(seconds=1)])
def test_a_column_that_holds_no_text_is_a_sentence(value: object, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist([{"text": value, "label": 1}]), tmp_path / "a.parquet")
    (tmp_path / "mine.yaml").write_text(LABELLED.replace("a.jsonl", "a.parquet"))
    (tmp_path / "b.jsonl").write_text(ONE)
    with pytest.raises(DataProblem, match=r"a.parquet, row 1: the column 'text' holds .*, which is no text"):
        task_card(str(tmp_path / "mine.yaml"))


def test_rows_that_are_all_hidden_have_a_card(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(LABELLED.replace("{0: no, 1: yes}", "{0: no, 1: yes, 2: null}"))
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 2}\n' * 3)
    (tmp_path / "b.jsonl").write_text(ONE)
    card = task_card(str(tmp_path / "mine.yaml"))
    assert (card.splits["train"].hidden, card.splits["train"].questions, card.specimens) == (3, 0, ())


def test_a_task_whose_ask_misses_a_column_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN + "TASK = dataclasses.replace(TASK, specimen=({'sentense': 'a'},))")
    with pytest.raises(DataProblem, match=r"Row 1 of the specimen has no column 'sentence'.*mean 'sentense'"):
        task_card(str(tmp_path / "mine.py"))


def test_a_card_says_where_own_rows_come_from(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"text {number},{number % 2}\n" for number in range(40)))
    (tmp_path / "mine.yaml").write_text(LABELLED.replace("a.jsonl", "a.csv").replace("b.jsonl", "0.25"))
    card = task_card(str(tmp_path / "mine.yaml"))
    origin = card.origin
    assert (origin.place, origin.mirror, origin.read) == (str(tmp_path / "a.csv"), None, None)
    assert (origin.train, origin.test) == ("about 75 % of it", "the other 25 %, told by its text")
    assert [specimen.place for specimen in card.specimens] == [
        f"{tmp_path / 'a.csv'}, row 1 (line 2)",
        f"{tmp_path / 'a.csv'}, row 2 (line 3)",
    ]
    assert not any(specimen.place.startswith("Invented") for specimen in card.specimens)


def test_a_card_says_which_mirror_was_read(reviews: str, tmp_path: Path) -> None:
    wanted = ("nyu-mll/glue, subset sst2", "split train", "split validation", "sst2", str(Path(reviews) / "sst2"))
    origin = task_card("sst2", reviews).origin
    assert (origin.place, origin.train, origin.test, origin.mirror, origin.read) == wanted
    (tmp_path / "other.yaml").write_text("rows_of: sst2\nprompt: sentence\nresponse: label\n")
    assert task_card(str(tmp_path / "other.yaml"), reviews).origin == origin


def test_what_a_model_is_told_first_is_known(reviews: str) -> None:
    assert task_card("sst2", reviews, "tiny").system is None


def test_a_tokenizer_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelProblem, match=r"The tokenizer of .* cannot be read"):
        task_card("copa", None, str(tmp_path))
