from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small

from benchmarks.plots import Curve
from studies import Accuracy, load_study, pictures, sentences
from studies.data import DataOptions
from studies.index import book, write_index
from studies.index import study as write_study
from studies.questions import balance, order
from studies.report import Code, Findings, Page, Plot, Section, Table, Text, markdown
from studies.statistics import Estimate
from videorwkv.errors import ConfigError, NonFiniteError, UsageError
from videorwkv.training import loop

PAGE = Page(
    "mine",
    "Study: <mine>",
    "Is a < b?",
    [
        Section(
            "Answer",
            [
                Findings(["a is better than b.", f"c against b: {sentences.NO_DIFFERENCE}."]),
                Table(["variant", "x|y"], [["a*", "1.0"]], "A caption."),
                Plot("line", b"\x89PNG", "A line."),
                Text("Words & more."),
                Code(["videorwkv study mine > x"]),
            ],
        )
    ],
)


def test_a_share_stays_between_0_and_100_per_cent() -> None:
    curve = pictures.curve([1, 2], [Estimate(0.9, 0.7, 1.1, 3), Estimate(0.1, -0.1, 0.3, 3)],
                              share=True)  # fmt: skip
    assert (curve.low, curve.high) == ([70.0, 0.0], [100.0, 30.0])


def test_a_row_has_as_many_cells_as_the_header() -> None:
    with pytest.raises(ConfigError, match=r"\['c'\] has 1 cells, the header 2: \['a', 'b'\]"):
        Table(["a", "b"], [["c"]])


def test_markdown() -> None:
    text = markdown(PAGE)
    assert "| variant | x\\|y |\n|---|---:|\n| a\\* | 1.0 |" in text
    assert "![A line.](mine/line.png)" in text
    assert "```bash\nvideorwkv study mine > x\n```" in text
    assert "- a is better than b." in text


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        (Estimate(-0.021, -0.03, -0.012, 3), "a is worse than b: -2.1 [-3.0, -1.2] points"),
        (Estimate(0.021, 0.012, 0.03, 3), "a is better than b: +2.1 [+1.2, +3.0] points"),
        (Estimate(0.004, -0.01, 0.018, 3), "no significant difference (+0.4 [-1.0, +1.8] points"),
        (Estimate(0.004, -0.01, 0.018, 3), "a difference above 1.8 points is excluded at 95 %"),
        (Estimate(-0.2, -2.5, 2.1, 2), "the interval is too wide for a conclusion"),
        (Estimate(0.1, -math.inf, math.inf, 1), "no significant difference; a single value"),
        (Estimate(0.0, 0.0, 0.0, 3), "no significant difference; all seeds are equal"),
        (Estimate(0.5, 0.4, 0.6, 1), "single seed, seed variance not included"),
    ],
)
def test_a_sentence_says_what_the_interval_says(estimate: Estimate, words: str) -> None:
    assert words in sentences.difference("a", "b", estimate, Accuracy())


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        (Estimate(1.0, 0.98, 1.02, 5), "linear, to within 0.05"),
        (Estimate(1.02, 1.01, 1.03, 5), "linear, to within 0.05"),
        (Estimate(1.0, 0.9, 1.1, 5), "no significant departure from linear"),
        (Estimate(1.9, 1.8, 2.0, 5), "faster than linear"),
        (Estimate(0.8, 0.7, 0.9, 5), "slower than linear"),
        (Estimate(0.0, -0.1, 0.1, 5), "no significant growth"),
        (Estimate(0.4, -0.5, 1.3, 5), "does not decide"),
    ],
)
def test_exponents_in_words(estimate: Estimate, words: str) -> None:
    assert words in sentences.exponent("LCR: time", estimate, "frames")


def test_differences_have_the_digits_of_their_unit() -> None:
    class Latency(Accuracy):
        name, unit, lower_is_better = "latency", "s", True

    small_one = Estimate(0.00123, -0.0004, 0.00286, 3)
    text = sentences.difference("a", "b", small_one, Latency())
    assert "(+0.00123 [-0.0004, +0.00286] s of latency, 3 seeds)" in text
    assert "a difference above 0.00286 s is excluded at 95 %" in text

    class Layers(Latency):
        name, unit = "layers", ""

    text = sentences.difference("a", "b", small_one, Layers())
    assert "a difference above 0.00286 is excluded at 95 %" in text
    assert sentences.signed(Estimate(0.00123, -math.inf, math.inf, 1), "s") == "+0.00123 [unknown]"
    assert sentences.signed(Estimate(0.021, 0.012, 0.03, 3), "share") == "+2.1 [+1.2, +3.0]"


def test_numbers() -> None:
    assert sentences.number(0.934, "share") == "93.4 %"
    assert sentences.spread(0.934, 0.006, "share") == "93.4 ± 0.6 %"
    assert sentences.spread(0.934, math.nan, "share") == "93.4 %"
    assert sentences.count(1_234_567) == "1.23 M"
    assert sentences.seconds(300) == "5.0 min"


def test_pictures_are_png() -> None:
    unknown = Estimate(0.1, -math.inf, math.inf, 1)
    known = Estimate(1.0, 0.5, 1.5, 3)
    drawn = [
        pictures.forest([("a", known, [0.9, 1.1]), ("b", unknown, [0.1])], "points"),
        pictures.curves(
            {"a": pictures.curve([1, 2], [known, unknown])}, x="x", y="y", level=(0.5, "chance")
        ),
        pictures.curves({"a": Curve([1, 2], [1, 2])}, x="x", y="y", logarithmic=True),
        pictures.bars(["one", "two"], {"a": [known, unknown]}, y="y", level=(0.5, "chance")),
    ]
    for png in drawn:
        assert png.startswith(b"\x89PNG")
        assert len(png) < 100_000


def test_page_has_all_that_it_must(tmp_path: Path) -> None:
    out = tmp_path / "pages"
    index = book([small.study_file(tmp_path)], small.settings(tmp_path), out=out)
    text = (out / "small.md").read_text()
    parts = ("parameters", "MACs a frame", "[95 %]", "Seeds: 0, 1", "--seed 0", "torch", "cpu")
    for wanted in ("Does it run?", "no edges", "videorwkv train motion:", *parts):
        assert wanted in text, wanted
    assert text.count(".png)") == 1
    assert (out / "small" / "difference.png").is_file()
    assert "Does it run?" in index.read_text()
    assert "(small.md)" in index.read_text()
    # A study of its own joins the folder's first page; what comes with the package stands first.
    write_study("balance", small.settings(tmp_path, seeds=1, only=("strength 0",)), out=out)
    headings = re.findall(r"^## .*", (out / "index.md").read_text(), re.M)
    assert headings == ["## [balance, in part](balance-part.md)", "## [small](small.md)"]
    # The finding of the page is that of the book.
    finding = next(line for line in text.splitlines() if line.startswith("- no edges"))
    assert finding in (out / "index.md").read_text()


def test_order_page_tells_motion_from_looks(tmp_path: Path) -> None:
    """Two generated data sets, three measures beside forwards."""
    from dataclasses import replace

    from studies.data import DataOptions
    from studies.index import study

    settings = small.settings(tmp_path, seeds=1)
    settings = replace(settings, data=DataOptions(spec=small.DATA.replace("test=8", "test=16")))
    # The last change of an option counts, and 800 steps are for the study itself.
    source = (Path(study.__code__.co_filename).parent / "questions" / "order.py").read_text()
    reference = small.study_file(tmp_path, source.replace("steps=800", "steps=2"), "order.py")
    text = study(reference, settings, out=tmp_path / "pages").markdown.read_text()
    assert "one movement: backwards" in text
    assert "chance 12.5 %" in text
    assert "chance 50.0 %" in text
    assert "| left-right |" in text
    assert "| left | " in text
    assert text.count("](order/classes-") == 2


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    """In headings, findings, cells and captions, on the page and on the folder's first one."""
    name = "<b> *x* `y` \\z"
    shown = r"&lt;b> \*x\* \`y\` \\z"
    blocks = [Findings([name]), Text(name), Table([name], [[name]], name), Plot("p", b"", name)]
    page = Page("mine", name, name, [Section(name, blocks)])
    text = markdown(page)
    assert text.count(shown) == 10
    assert name not in text
    summary = {"title": name, "question": name, "findings": [name]}
    (tmp_path / "mine.json").write_text(json.dumps(summary))
    (tmp_path / "mine.md").write_text(text)
    index = write_index(tmp_path).read_text()
    assert index.count(shown) == 3
    assert name not in index


def test_files_of_another_kind_are_left_alone(tmp_path: Path) -> None:
    for name, content in (("a", "{}"), ("b", "[1]"), ("c", "no JSON"), ("d", '{"title": "x"}')):
        (tmp_path / f"{name}.json").write_text(content)
        (tmp_path / f"{name}.md").write_text("mine")
    assert write_index(tmp_path).read_text() == "# The study\n"


COUNTS = """
from dataclasses import dataclass
from studies import Accuracy, Measured, Study, Variant

@dataclass(frozen=True)
class Count:
    name = "count"
    unit = ""
    lower_is_better = True
    needs_generated = False

    def measure(self, trained):
        return Measured(3.0 + trained.run.recipe.seed)

STUDY = Study(
    "counts",
    question="Does it run?",
    variants=(Variant("a"), Variant("b", changes=("lr=2e-3",)), VARIANT),
    measures=(Count(),),
    times=False,
)
"""


def test_page_of_a_file_of_ones_own(tmp_path: Path) -> None:
    for variant, same in (
        ("Variant('c')", "Every variant had the same steps"),
        ("Variant('c', changes=('steps=3',), against='c')", "Each variant and what it is compared"),
        ("Variant('c', changes=('steps=3',))", "But for c: each variant and what it is compared"),
    ):
        reference = small.study_file(tmp_path, COUNTS.replace("VARIANT", variant), "own name.py")
        text = write_study(reference, small.settings(tmp_path), out=tmp_path).markdown.read_text()
        assert f"videorwkv study '{reference}' motion:" in text
        assert same in text
        assert "in ," not in text


@pytest.mark.parametrize("name", ["order", "maps", "length", "edges", "balance", "masking"])
def test_page_of_trainings_that_all_diverged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*arguments: object, **options: object) -> None:
        raise NonFiniteError("Step 1: the loss is nan")

    monkeypatch.setattr(loop, "train", diverge)
    monkeypatch.setattr("studies.runner._kept", lambda path, make: {})
    first = load_study(name).variants[0].name
    written = write_study(name, small.settings(tmp_path, only=(first,)), out=tmp_path / "pages")
    assert written.page.findings == [
        "Every training ended in NaN or infinity, so nothing can be compared; lower the lr."
    ]
    text = written.markdown.read_text()
    assert "Step 1: the loss is nan" in text
    assert f"{first}: 2 trainings ended in NaN or infinity; all their clips" in text


def test_page_of_a_variant_that_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one that did not, in pages of their own."""
    train = loop.train

    def diverging(recipe: Any, *arguments: Any, **options: Any) -> Any:
        if recipe.steps == 800 or recipe.model.learn_edge_strength:
            raise NonFiniteError("Step 1: the loss is nan")
        return train(recipe, *arguments, **options)

    monkeypatch.setattr(loop, "train", diverging)
    settings = small.settings(tmp_path, seeds=1)
    text = write_study("order", settings, out=tmp_path / "pages").markdown.read_text()
    assert "No training of it has weights." in text
    assert "order of two movements: a training ended in NaN or infinity" in text
    settings = replace(settings, only=("learned per layer",))
    text = write_study("balance", settings, out=tmp_path / "pages").markdown.read_text()
    assert "learned per layer: a training ended in NaN or infinity" in text
    assert "The learned strength" not in text


def test_what_own_clips_show_backwards_is_not_known(tmp_path: Path) -> None:
    import tiny

    for label, level in (("left", 0), ("light", 120)):
        for i in range(4):
            tiny.write_clip(tmp_path / "clips" / label / f"{i}.mp4", level=level)
    data = DataOptions(spec=str(tmp_path / "clips"), validation_share=0.5)
    settings = small.settings(tmp_path, data=data, recipe="motion_demo", seeds=1)
    text = write_study("order", settings, out=tmp_path / "pages").markdown.read_text()
    assert "| class | forwards | backwards | shuffled | frozen |\n" in text
    assert "Skipped, because they need the generated data: order of two movements." in text


def test_balance_page_names_what_was_learned(tmp_path: Path) -> None:
    settings = small.settings(tmp_path, seeds=2, only=("strength 0", "learned per layer"))
    text = write_study("balance", settings, out=tmp_path / "pages").markdown.read_text()
    assert "The best fixed one was strength" in text
    assert re.search(r"The learned strength was (?:1|1\.0\d|0\.99\d?) \[", text)
    assert "| layer 1 | 1 ± " in text
    assert "(balance-part/strength.png)" in text


def test_balance_needs_edges(tmp_path: Path) -> None:
    changes = (*small.CHANGES, "model.edges=none", "model.key_value_source=frame")
    settings = small.settings(tmp_path, seeds=1, changes=changes, only=("strength 0",))
    with pytest.raises(UsageError, match=r"model\.edges=none .*--set model\.edges=canny"):
        write_study("balance", settings, out=tmp_path / "pages")


def test_one_seed_gives_no_interval() -> None:
    text = balance._chosen([1.021])
    assert "was 1.02 in the mean over layers (one seed, which gives no interval)" in text
    assert "was 1 [0.873, 1.13] in the mean" in balance._chosen([1.01, 0.99])
    unknown = Estimate(0.5, -math.inf, math.inf, 1)
    assert "shuffled 50.0 %, chance" in order._beside_chance("a", unknown, 0.5)
