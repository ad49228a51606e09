"""A: which part earns its place?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from studies.design import FULL_FIVE_SEEDS, Study, Variant
from studies.questions.order import FOR_PAUSES, FOR_TWO, TWO_MOVEMENTS, WITH_PAUSES
from videorwkv.models.presets import PUBLISHED


def _published() -> tuple[str, ...]:
    return tuple(f"model.{name}={value}" for name, value in PUBLISHED.items())


DEFAULT = "default"
PARTS = (
    Variant(DEFAULT),
    Variant(
        "softmax attention",
        changes=("model.mixer=softmax",),
        about="Softmax attention within a frame in place of the CrossRWKV scan.",
    ),
    Variant(
        "no edges",
        changes=("model.edges=none", "model.key_value_source=frame"),
        about="K and V of the frame alone; the forget rate is learned and constant.",
    ),
    Variant(
        "edges as forget signal only",
        changes=("model.key_value_source=frame",),
        about="K and V of the frame alone, the forget gate still of the edges.",
    ),
    Variant(
        "edges as K and V only",
        changes=("model.key_value_source=edges", "model.forget_source=rate"),
        about="The frame asks, its edges alone answer; the forget rate is a learned constant.",
    ),
    Variant(
        "K and V of edges alone",
        changes=("model.key_value_source=edges",),
        about="As published: the frame asks, its edges alone answer and drive the forgetting.",
    ),
    Variant(
        "no memory",
        changes=("model.cell=none",),
        about="Gate only, logits averaged over frames; the stem and the time shift still see "
        "the frame before.",
    ),
    Variant(
        "plain LSTM",
        changes=("model.cell=lstm",),
        about="An LSTM over each token's features, whose gates ask no edges; it brings more "
        "parameters than the channel mixing can give up.",
    ),
    Variant(
        "ConvLSTM",
        changes=("model.cell=convlstm",),
        about="The same, where a token's gates see the past of its 3 x 3 neighbours: a "
        "convolution of each channel, then a product over the channels.",
    ),
    Variant(
        "no look back",
        changes=("model.stem_frames=1", "model.time_shift=false"),
        about="Memory alone has to find motion: stem and K, V see one frame.",
    ),
    Variant(
        "tube masking",
        changes=("model.tube_mask_ratio=0.4",),
        about="40 % of the patches are dropped in training; the default drops none.",
    ),
    Variant(
        "past of the layer below",
        changes=("model.past=below",),
        about="A layer's queries ask the layer below for the frame before, and not themselves, so "
        "that a clip goes through a layer at once.",
    ),
    Variant("forward scan", changes=("model.scan=forward",)),
    Variant("[CLS] read-out", changes=("model.readout=cls",)),
    Variant("no residual", changes=("model.residual=false",)),
    Variant("published", changes=_published(), about="Every option as the paper publishes it."),
)


@dataclass(frozen=True)
class Order:
    """Clips whose class is the order of their movements, and the parts that matter there.

    Args:
        name: before the names of its variants.
        data: options of the generated data.
        changes: of the recipe, for all its variants.
        parts: names of the parts that a full study asks about.
        about: what its default is there for.
    """

    name: str
    data: str
    changes: tuple[str, ...]
    parts: tuple[str, ...]
    about: str

    def variants(self) -> Iterator[Variant]:
        for part in PARTS:
            if part.name == DEFAULT or part.name in self.parts:
                yield replace(
                    part,
                    name=f"{self.name}: {part.name}",
                    data=self.data,
                    changes=(*self.changes, *part.changes),
                    against=f"{self.name}: {DEFAULT}",
                    full_only=True,
                    seeds=3,
                    about=self.about if part.name == DEFAULT else "",
                )


ORDERS = (
    Order(
        "order of two",
        data=TWO_MOVEMENTS,
        changes=FOR_TWO,
        parts=("softmax attention", "no edges", "no memory", "plain LSTM", "published"),
        about="Clips of two movements, whose order is the class.",
    ),
    Order(
        "order with pauses",
        data=WITH_PAUSES,
        changes=FOR_PAUSES,
        parts=("no edges", "no memory", "plain LSTM"),
        about="The same with six still frames between and around, of which the model sees every "
        "other: stem and time shift, which reach back three, never see both movements at once.",
    ),
)


STUDY = Study(
    "ablation",
    question="Which part of the model earns its place?",
    variants=(*PARTS, *(variant for order in ORDERS for variant in order.variants())),
    reading=(
        "A part whose removal or replacement makes the model worse earns its place. One whose "
        "absence shows no difference is not proven useless: the interval says how large an effect "
        "could have been missed. A clip of one movement asks for little memory: its last frames "
        "tell it, and so does a mean over all. Where the order of two movements is the class, the "
        "turn from one to the other tells it, which stem and time shift see; with pauses between "
        "them nothing but a memory can know what came first. What the channel mixing lost or "
        "gained in width keeps the parameters of all variants within 3 % of the default's, but of "
        "those that the notes name."
    ),
    full=FULL_FIVE_SEEDS,
)
