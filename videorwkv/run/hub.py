"""Models that are shared: a run's folder or a repository of the Hub to a model, and back.

A repository holds config.json (that of a run, with what transformers asks for besides),
model.safetensors, README.md (the model card, run/card.py) and video_preprocessor_config.json.
Nothing else of a run's folder goes out: state.pt is a pickle, and log.jsonl, predictions.csv and
tensorboard/ name the clips of whoever trained.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from videorwkv.errors import ConfigError, UsageError, VideoRWKVError
from videorwkv.models import LCR
from videorwkv.run.card import Facts, accuracies, write_card
from videorwkv.run.environment import versions
from videorwkv.run.recipes import Recipe
from videorwkv.run.run import Run, fetch_run, read_run, write_config
from videorwkv.run.tensors import DESCRIPTION, tensors_bytes
from videorwkv.utils import hub
from videorwkv.utils.files import make_folder, write_atomic
from videorwkv.utils.options import dataclass_from_dict, dataclass_to_dict
from videorwkv.video.base import Sampling

# What a model that no run has trained says of its data; a run's folder has to say something.
UNKNOWN = {"name": "not recorded", "digest": "", "splits": {}}
# What goes out of what a run says of its data: nothing about single clips or their folder.
SHARED_DATA = ("name", "digest", "clips", "splits")


def load_model(source: str | Path | Run, **options: Any) -> LCR:
    """See `videorwkv.models.shared.Shared.from_pretrained`."""
    run = source if isinstance(source, Run) else _open(str(source), **options)
    model = run.model()
    model.origin = run
    return model


def _open(source: str, revision: str | None, **options: Any) -> Run:
    is_named = hub.is_hub(source)
    if not is_named:
        try:
            hub.parse(source)
        except UsageError:
            is_repo = False
        else:
            is_repo = not Path(source).exists() and not Path(source).parent.is_dir()
        if not is_repo:
            if revision is not None:
                raise UsageError(f"{source}: a folder has no revision ({revision}).")
            return read_run(source)
    given = f"{hub.PREFIX}{source.removeprefix(hub.PREFIX)}"
    if revision is not None:
        if "@" in given:
            raise UsageError(f"{given}: the revision is given twice, the other is {revision!r}.")
        given = f"{given}@{revision}"
    try:
        return fetch_run(given, **options)
    except VideoRWKVError as error:
        if is_named:
            raise
        raise type(error)(f"{error} (There is no folder {source!r} here.)") from error


def save_model(
    model: LCR,
    folder: Path,
    *,
    labels: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    flips: Mapping[str, str] | None = None,
    facts: Mapping[str, str],
) -> Path:
    """See `videorwkv.models.shared.Shared.save_pretrained`."""
    if model.is_folded:
        raise UsageError(
            "save_pretrained: this model is a copy from LCR.for_inference, whose weights have been "
            "rearranged; save the model itself."
        )
    stated = dataclass_from_dict(Facts, facts, where="save_pretrained")
    # Its own weights would be taken before those that are written here.
    for name in ("state.pt", "best.safetensors", "last.safetensors"):
        if (folder / name).exists():
            raise UsageError(
                f"{folder} holds a run of its own ({name}). Choose another folder; nothing is "
                "overwritten."
            )
    weights = model.state_dict()
    run = _described(model, folder, labels, sampling, flips)
    return write_repository(run, model, weights, folder, stated)


def _described(
    model: LCR,
    folder: Path,
    labels: Sequence[str] | None,
    sampling: Sampling | None,
    flips: Mapping[str, str] | None,
) -> Run:
    """The run that a model is from, or what is known of one that no run has trained."""
    origin: Run | None = model.origin
    classes = model.config.num_classes
    names = tuple(map(str, range(classes))) if labels is None else tuple(labels)
    if origin is not None and labels is None and len(origin.labels) == classes:
        names = origin.labels
    if len(names) != classes or len(set(names)) != classes:
        raise UsageError(
            f"save_pretrained: {len(names)} labels ({len(set(names))} different ones) for a model "
            f"of {classes} classes; give one for each, in the order of the logits."
        )
    if origin is not None:
        recipe = replace(origin.recipe, model=model.config)
        recipe = replace(recipe, sampling=sampling or recipe.sampling)
        run = replace(origin, recipe=recipe, labels=names, flips=flips or origin.flips)
        if origin.has_weights_of(model):
            return run
        # Trained further since: data, splits and accuracies are those of other weights.
        started = {"source": origin.source or str(origin.folder), "sha256": ""}
        return replace(run, data=UNKNOWN, init=started, folder=folder, source="")
    frames = sampling or Sampling(num_frames=model.config.num_frames)
    recipe = Recipe(model=model.config, sampling=frames, epochs=1)
    return Run(
        folder=folder, which="model", recipe=recipe, labels=names, flips=flips, data=UNKNOWN,
        versions=versions(),
    )  # fmt: skip


def write_repository(
    run: Run, model: LCR, weights: Mapping[str, Tensor], folder: Path, facts: Facts
) -> Path:
    """Write the four files of a repository.

    Args:
        run: what they describe; its accuracies go into the card if its data are known.
        model: its model.
        weights: the tensors to write, by the names of `LCR.state_dict`.
        folder: is made.
        facts: what the user states.
    """
    make_folder(folder)
    data = {key: run.data[key] for key in SHARED_DATA if key in run.data}
    run = replace(run, init=_without_place(run.init), data=data)
    known = accuracies(run) if run.data["digest"] else []
    # Weights first: a folder with the new config.json and the old weights would be another model.
    config = repository_config(run)
    metadata = {DESCRIPTION: json.dumps(config, ensure_ascii=False, sort_keys=True)}
    write_atomic(folder / "model.safetensors", tensors_bytes(weights, metadata))
    write_config(folder, config)
    text = json.dumps(processor_config(run.recipe), indent=2, sort_keys=True) + "\n"
    write_atomic(folder / "video_preprocessor_config.json", text)
    write_atomic(folder / "README.md", write_card(run, model, facts, known))
    return folder


def repository_config(run: Run) -> dict[str, Any]:
    """config.json: that of the run, and the keys by which transformers knows a model."""
    numbered = {str(number): label for number, label in enumerate(run.labels)}
    return {
        **run.to_dict(),
        "model_type": "videorwkv",
        "architectures": ["LCRForVideoClassification"],
        "id2label": numbered,
        "label2id": {label: int(number) for number, label in numbered.items()},
    }


def processor_config(recipe: Recipe) -> dict[str, Any]:
    """video_preprocessor_config.json: the options of an `LCRVideoProcessor` for transformers."""
    model = recipe.model
    return {
        "video_processor_type": "LCRVideoProcessor",
        "num_frames": recipe.sampling.num_frames,
        "fps": recipe.sampling.fps,
        "image_size": model.image_size,
        "frame_fit": model.frame_fit,
        "edges": model.edges,
        "edge_options": dataclass_to_dict(model.edge_options),
    }


def push_model(
    model: LCR,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    message: str = "",
    **saved: Any,
) -> str:
    """See `videorwkv.models.shared.Shared.push_to_hub`."""
    known = {"labels", "sampling", "flips"}
    named = {name: saved.pop(name) for name in known & saved.keys()}
    if "repo" in saved:
        raise ConfigError("push_to_hub: the repository is named once, as repo_id.")
    repo, _ = hub.parse(repo_id)
    with tempfile.TemporaryDirectory(prefix="videorwkv-") as made:
        folder = save_model(model, Path(made), **named, facts={**saved, "repo": repo})
        return hub.push(
            folder,
            repo_id,
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
            message=message,
        )


def _without_place(init: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What a run started from, without the folders of the machine that trained it."""
    if init is None or hub.is_hub(init["source"]):
        return init
    parts = Path(init["source"]).parts
    kept = 2 if parts[-1:] in (("best",), ("last",)) else 1
    return {**init, "source": "/".join(parts[-kept:])}
