"""H: what does the model look at, and does its answer depend on it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.plots import Curve
from studies import pictures, sentences
from studies.attribution import (
    LEAST,
    MOST,
    NOTHING,
    ORDERS,
    RANDOM,
    LeavingOut,
    check,
    condition,
    look,
    occlude,
)
from studies.compare import table
from studies.design import Measured, Study, Trained, Variant
from studies.map_pictures import make_clip, write_film, write_strip
from studies.measures import Accuracy
from studies.report import Findings, Plot, Section, Table, Text
from studies.results import Done, Outcomes, Results, cell, difference, unpack
from studies.statistics import clips_interval
from videorwkv.data.manifest import Manifest
from videorwkv.errors import ConfigError, UsageError
from videorwkv.run.run import Run
from videorwkv.utils.files import slug

# Bytes of pictures on a page, which is read in a browser and kept in a repository.
ROOM = 3_500_000


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Pictures of some test clips, a strip and a film each, for the training with seed 0.

    Args:
        clips: how many: the first of each class, in the order of the data.
        paths: those whose path ends so, instead: `Maps(paths=("wave_07.mp4",))`.
    """

    clips: int = 3
    paths: tuple[str, ...] = ()

    name = "clips drawn"
    unit = ""
    lower_is_better = False
    needs_generated = False

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise ConfigError(f"Maps: clips ({self.clips}) must be at least 1.")

    def measure(self, trained: Trained) -> Measured:
        if trained.run.recipe.seed != 0:
            return Measured(0.0)
        found = self.draw(
            trained.run, trained.test, trained.folder, device=trained.device, cache=trained.cache
        )
        files = {name: f"{trained.folder.name}/{path.name}" for name, path in found.items()}
        return Measured(float(len(files) // 2), files=files)

    def draw(
        self,
        run: Run,
        clips: Manifest,
        folder: Path,
        *,
        device: str = "auto",
        cache: str | None = None,
    ) -> dict[str, Path]:
        """Write the pictures of clips that any run looks at.

        Example:
            Maps(clips=6).draw(load_run("runs/mine"), load_manifest("my_videos"), Path("maps"))

        Args:
            run: a trained run.
            clips: to choose from.
            folder: for clip-1.png, clip-1.gif and so on; it is made.
            device: `auto`, or a device by name.
            cache: folder of decoded frames.

        Returns:
            path below the data's root, with " png" or " gif" -> the picture. A clip that can't be
            read has none.

        Raises:
            UsageError: no clip with such a path, or a model that reads out `[CLS]`.
        """
        import torch

        from videorwkv.data.dataset import make_dataset
        from videorwkv.data.loader import collate
        from videorwkv.utils.device import pick_device

        where = pick_device(device)
        known = clips.with_labels(run.labels)
        model = run.model(where)
        dataset = make_dataset(model.config, known, run.recipe.sampling, cache=cache)
        files: dict[str, Path] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for index in self.choose(known):
            batch = collate([dataset[(0, index)]])
            if batch.inputs is None:
                continue
            with torch.inference_mode():
                inputs = batch.inputs.to(where)
                looked = look(model, inputs)
                occlusion_BTL = occlude(model, inputs, looked.said())
            row, stem = known.rows[index], f"clip-{len(files) // 2 + 1}"
            frames_THWC, edges_THW = (x[0].numpy() for x in batch.inputs)
            patch, name = model.config.patch_size, known.relative_path(row)
            clip = make_clip(
                looked, occlusion_BTL, 0, frames_THWC, edges_THW, patch, run.labels, row.label, name
            )
            files |= {f"{name} {kind}": folder / f"{stem}.{kind}" for kind in ("png", "gif")}
            write_strip(folder / f"{stem}.png", clip)
            write_film(folder / f"{stem}.gif", clip)
        return files

    def choose(self, test: Manifest) -> list[int]:
        """Places of the rows to draw; `UsageError` if no path ends as wanted."""
        rows = test.rows
        if self.paths:
            found = [i for i, row in enumerate(rows) if row.path.endswith(self.paths)]
            if not found:
                raise UsageError(
                    f"Maps: no test clip's path ends with {' or '.join(self.paths)}; one of the "
                    f"{len(rows)} is {rows[0].path}."
                )
            return found
        first: dict[str | None, int] = {}
        for index, row in enumerate(rows):
            first.setdefault(row.label, index)
        chosen = list(first.values())[: self.clips]
        others = (index for index in range(len(rows)) if index not in chosen)
        return sorted([*chosen, *others][: self.clips])


MAPS, LEFT_OUT = Maps(), LeavingOut()
_THOSE = {
    MOST: "matter most",
    LEAST: "matter least",
    "most evidence": "have most evidence",
    "least evidence": "have least evidence",
}


def present(results: Results) -> Sequence[Section]:
    measure = next(m for m in results.measures if isinstance(m, LeavingOut))
    drawn = next((m for m in results.measures if isinstance(m, Maps)), None)
    sections = []
    found: list[str] = []
    for variant in results.variants:
        outcomes = unpack(results, variant.name, measure.name)
        lead = "" if len(results.variants) == 1 else f"{variant.name}: "
        found += [lead + sentence for sentence in _findings(measure, outcomes)]
        sections.append(
            Section(
                f"{lead}dropped tokens" if lead else "Dropped tokens",
                [_plot(measure, outcomes, variant.name), _table(measure, outcomes)],
            )
        )
    blocks: list[Plot | Text] = []
    if drawn is not None and results.plan.settings.show_frames:
        blocks = _pictures(results, drawn)
    pages = [Section("What it looks at", blocks)] if blocks else []
    return [
        Section("Answer", [Findings(found)]),
        *pages,
        *sections,
        Section("As trained", [table(results, results.measures[0])]),
    ]


def _findings(measure: LeavingOut, outcomes: dict[str, Outcomes]) -> list[str]:
    """Important tokens against random ones at each share, the other orders at the largest."""

    def against_random(order: str, share: float) -> str:
        tokens = f"the {100 * share:g} % of the tokens that {_THOSE[order]}"
        return sentences.difference(
            f"Dropping {tokens}",
            "dropping as many random ones",
            difference(outcomes[condition(order, share)], outcomes[condition(RANDOM, share)]),
            measure,
            "accuracy",
        )

    last = measure.shares[-1]
    return [
        *(against_random(MOST, share) for share in measure.shares),
        *(against_random(order, last) for order in ORDERS if order not in (MOST, RANDOM)),
    ]


def _plot(measure: LeavingOut, outcomes: dict[str, Outcomes], variant: str) -> Plot:
    shares = [0.0, *(100 * share for share in measure.shares)]
    lines = {}
    for order in ORDERS:
        names = [NOTHING, *(condition(order, share) for share in measure.shares)]
        # Five bands would hide one another.
        values = [100 * clips_interval(outcomes[name]).value for name in names]
        lines[order] = Curve(shares, values)
    png = pictures.curves(lines, x="tokens dropped in every frame, %", y="accuracy, %")
    caption = "Accuracy without some of the tokens, mean over seeds; for intervals see the table."
    return Plot(f"left-out-{slug(variant)}", png, caption)


def _table(measure: LeavingOut, outcomes: dict[str, Outcomes]) -> Table:
    rows = [["nothing", *[cell(outcomes[NOTHING])] * len(ORDERS)]]
    for share in measure.shares:
        row = [f"{100 * share:g} %"]
        for order in ORDERS:
            text = cell(outcomes[condition(order, share)])
            if order != RANDOM:
                random = outcomes[condition(RANDOM, share)]
                against = difference(outcomes[condition(order, share)], random)
                text += f" ({sentences.signed(against, 'share')})"
            row.append(text)
        rows.append(row)
    return Table(
        ["dropped", *ORDERS],
        rows,
        "Accuracy in %, mean [95 % interval] (difference to random, in points, paired by seed and "
        f"clip). Random: the mean of {measure.draws} draws a clip.",
    )


def _pictures(results: Results, measure: Maps) -> list[Plot | Text]:
    """Strips and films of the first fold, as many as a page bears."""
    blocks: list[Plot | Text] = []
    room = ROOM
    for done in _drawn(results, measure):
        files = done.measured[measure.name].files
        names = list(dict.fromkeys(name.rpartition(" ")[0] for name in files))
        for number, name in enumerate(names, start=1):
            strip, film = (
                done.file(measure.name, f"{name} {kind}").read_bytes() for kind in ("png", "gif")
            )
            room -= len(strip) + len(film)
            if room < 0:
                blocks.append(
                    Text(f"More do not fit on a page; they are in {done.folder.name} of the runs.")
                )
                return blocks
            plot = f"{slug(done.training.variant)}-{number}"
            caption = f"{name}, frame by frame."
            blocks += [Plot(plot, strip, caption), Plot(plot, film, f"{name}, as a film.")]
    return blocks


def _drawn(results: Results, measure: Maps) -> list[Done]:
    found = [d for d in results.done if d.measured[measure.name].files]
    return [done for done in found if done.training.fold == found[0].training.fold]


STUDY = Study(
    "maps",
    question="What does the model look at, and does its answer depend on it?",
    variants=(Variant("default"),),
    measures=(Accuracy(), MAPS, LEFT_OUT),
    reading=(
        "Gate, forget signal, change of memory and evidence are of the last layer, a value for "
        "each token. Gate: the size of what the CrossRWKV gate adds. Forget signal: the share of "
        "its memory that the token keeps, the mean over channels. Change of memory: the size of "
        "c(t) - c(t-1). Evidence: what the token adds to the logit of the named class beyond what "
        "it adds to the mean of all classes; red speaks for the class, blue against it. The "
        "classifier is linear in the mean of the tokens, so evidence is exact: it adds up to the "
        "logit but for a constant of the class. Occlusion: what that logit, less the mean of all, "
        "loses after each frame when the token is dropped in all frames (its square of tokens, "
        "where a frame has more than 64); red: it loses. Each row has one scale for the whole "
        "clip, the bar at its end. The tokens that matter most are those whose occlusion costs "
        "most after the last frame. If the maps say where the answer comes from, accuracy must "
        "fall faster when these are dropped together than when as many random ones are, and more "
        "slowly without those that matter least. Evidence need not do that: the scan hands what "
        "one token saw to the others of its frame, and the evidence stands where it was written "
        "down, not where it was seen. Both are of the class that the model names, right or wrong; "
        "the true class chooses nothing."
    ),
    present=present,
    check=lambda plan: check(plan.trainings[0].recipe.model),
    times=False,
)
