"""What is asked of a trained variant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from studies.corruptions import Change
from studies.data import merge_options
from studies.design import Measured, Trained


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 accuracy on the test clips.

    Args:
        label: name of the column; made from the rest if empty.
        change: what is done to the frames of each clip (`studies.corruptions`).
        frames: frames of a clip; None: as many as in training.
        data: options of the generated data that differ from the training's, `frames=128` say.
        options: further arguments of `videorwkv.evaluate`, such as ("tube_mask_ratio", 0.5).
    """

    label: str = ""
    change: Change | None = None
    frames: int | None = None
    data: str = ""
    options: tuple[tuple[str, Any], ...] = ()

    unit = "share"
    lower_is_better = False

    @property
    def name(self) -> str:
        if self.label:
            return self.label
        words = [] if self.change is None else [self.change.name]
        words += [f"{self.frames} frames"] if self.frames else []
        words += [self.data] if self.data else []
        words += [f"{key} {value}" for key, value in self.options]
        return ", ".join(["accuracy", *words])

    @property
    def needs_generated(self) -> bool:
        return bool(self.data)

    def model(self, trained: Trained) -> Any:
        """The model that is asked, in evaluation mode."""
        from studies.corruptions import Changed
        from videorwkv.utils.device import pick_device

        model: Any = trained.run.model(pick_device(trained.device))
        return model if self.change is None else Changed(model, self.change).eval()

    def measure(self, trained: Trained) -> Measured:
        from videorwkv.data.load import load_manifest
        from videorwkv.inference.evaluate import evaluate

        run, test = trained.run, trained.test
        if self.data:
            test = load_manifest(merge_options(trained.data, self.data)).split("test")
        sampling = run.recipe.sampling
        if self.frames:
            sampling = replace(sampling, num_frames=self.frames)
        evaluation = evaluate(
            self.model(trained),
            test,
            sampling,
            labels=run.labels,
            views=run.recipe.views,
            batch_size=run.recipe.batch_size,
            workers=run.recipe.workers,
            device=trained.device,
            precision=run.recipe.precision,
            cache=trained.cache,
            clip_timeout=run.recipe.clip_timeout,
            **dict(self.options),
        )
        clips = tuple(
            float(c.scores_K is not None and run.labels[int(c.scores_K.argmax())] == c.label)
            for c in evaluation.clips
        )
        return Measured(evaluation.top1, clips, evaluation.per_class)
