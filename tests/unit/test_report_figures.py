"""The picture: what is drawn, in which colours, and that labels keep off one another."""

from __future__ import annotations

import random
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from browser.sample_store import GPU, MIB, costs, done, failed, rich_records, spec
from peftbench.record import Cost, Peak
from peftbench.report._placement import Box, Label, place
from peftbench.report.figures import Picture, pictures, svg, write_png
from peftbench.scoring.aggregate import scores


def cost_with_peak(mebibytes: float) -> Cost:
    peak = Peak(phase="fit", definition="host_resident", bytes=int(mebibytes * MIB))
    return costs(spec()).model_copy(update={"peaks": (peak,)})


def one_task(**methods: tuple[float, float]) -> Picture:
    records = [done(spec(method=name), score, cost_with_peak(memory)) for name, (score, memory) in methods.items()]
    (picture,) = pictures(scores(records))
    return picture


def texts(drawing: str) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")]


def test_one_picture_for_each_model_and_place() -> None:
    found = pictures(scores(rich_records(environments={"Qwen2.5-1.5B-Instruct": GPU})))
    assert [(picture.model, picture.place.kind) for picture in found] == [
        ("Qwen2.5-1.5B-Instruct", "GPU memory"),
        ("SmolLM2-360M-Instruct", "host memory"),
    ]
    assert [point.method for point in found[1].points] == ["ia3", "lora", "prompt_tuning", "full"]
    assert [name for name, _ in found[1].untrained] == ["zero_shot"]


def test_a_method_without_a_score_on_some_task_is_named_and_not_drawn() -> None:
    picture = pictures(scores(rich_records()))[0]
    assert picture.omitted == ("full",)
    assert "full" not in texts(svg(picture))


def test_nothing_to_draw() -> None:
    assert pictures([]) == []
    assert pictures(scores([failed(spec())])) == []
    assert pictures(scores([done(spec(method="zero_shot"))])) == []


def test_every_colour_is_one_of_the_page() -> None:
    logarithmic = one_task(lora=(0.5, 150), ia3=(0.6, 90_000))
    for picture in (*pictures(scores(rich_records())), logarithmic):
        for path in ET.fromstring(svg(picture)).iter("{http://www.w3.org/2000/svg}path"):
            assert "var(--" in path.get("style", "")
    outside = re.sub(r"var\([^)]*\)", "", svg(logarithmic))
    assert not re.search(r"#[0-9a-f]{6}\b", outside)


def test_the_drawing_is_xml_with_text_variables_and_no_stranger() -> None:
    drawing = svg(pictures(scores(rich_records()))[1])
    assert {"lora", "prompt_tuning", "peak host memory in training (GiB)", "mean score over 5 tasks (%)"} <= set(
        texts(drawing)
    )
    assert set(re.findall(r"var\(--(\w+),", drawing)) >= {"ink", "muted", "rule", "accent", "paper"}
    outside = re.sub(r"var\([^)]*\)", "", drawing)
    assert not re.search(r"#[0-9a-f]{6}\b", outside)
    assert "DejaVu" not in drawing
    assert "<style" not in drawing
    assert "<g id" not in drawing


def test_the_same_scores_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (pictures(scores(rich_records()))[0] for _ in range(2))
    assert svg(first) == svg(second)
    write_png(first, tmp_path / "a.png")
    write_png(second, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_ids_of_two_drawings_do_not_meet() -> None:
    first, second = (set(re.findall(r'id="([^"]+)"', svg(picture))) for picture in pictures(scores(rich_records())))
    assert first
    assert not first & second


def test_a_wide_range_of_memory_is_drawn_on_a_logarithmic_axis() -> None:
    near = texts(svg(one_task(lora=(0.5, 400), ia3=(0.6, 800))))
    far = texts(svg(one_task(lora=(0.5, 150), ia3=(0.6, 90_000))))
    assert "600" in near
    assert {"0.2", "1", "10", "50"} <= set(far)


def test_a_label_that_had_to_go_far_is_led_to_its_point() -> None:
    together = one_task(**{f"method_number_{number}": (0.5, 400) for number in range(14)})
    alone = one_task(lora=(0.5, 400))
    assert {f"method_number_{number}" for number in range(14)} <= set(texts(svg(together)))
    assert "stroke-width: 0.7;" in svg(together)
    assert "stroke-width: 0.7;" not in svg(alone)


def test_a_label_beside_another_point_is_led_to_its_own() -> None:
    """The second of two points that overlap has room on the side of the first alone."""
    near = one_task(lora=(0.5, 400), ia3=(0.5, 401), bitfit=(0.5, 800))
    apart = one_task(lora=(0.5, 400), ia3=(0.5, 600), bitfit=(0.5, 800))
    assert "stroke-width: 0.7;" in svg(near)
    assert "stroke-width: 0.7;" not in svg(apart)


def test_hostile_names_are_text() -> None:
    drawing = svg(one_task(**{"<script>$x^2$": (0.5, 400), '"&\x00': (0.4, 500)}))
    assert "<script" not in drawing
    assert {"<script>$x^2$", '"&�'} <= set(texts(drawing))


def test_the_words_for_those_who_do_not_see_it() -> None:
    assert one_task(lora=(0.5, 400)).alternative.endswith(": lora 50.0 % at 400 MiB.")


@pytest.mark.parametrize("seed", range(20))
def test_labels_overlap_neither_marks_nor_each_other(seed: int) -> None:
    draw = random.Random(seed)
    frame = Box(200, 150, 400, 300)
    marks = [Box(draw.uniform(20, 380), draw.uniform(20, 280), 10, 10) for _ in range(9)]
    labels = [Label(mark, draw.uniform(20, 90), 12) for mark in marks]
    boxes = place(labels, [], frame)
    assert all(box.inside(frame) for box in boxes)
    for index, box in enumerate(boxes):
        assert not any(box.overlap(other) for other in boxes[index + 1 :])
        assert not any(box.overlap(mark) for mark in marks)


def test_points_on_one_spot_have_labels_apart() -> None:
    mark = Box(200, 150, 10, 10)
    boxes = place([Label(mark, 60, 12)] * 8, [], Box(200, 150, 400, 300))
    assert not any(one.overlap(other) for index, one in enumerate(boxes) for other in boxes[index + 1 :])


def test_a_label_wider_than_the_frame_still_gets_a_place() -> None:
    (box,) = place([Label(Box(50, 50, 10, 10), 300, 12)], [], Box(50, 50, 100, 100))
    assert box.width == 300
