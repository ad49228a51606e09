"""Which patches a model leaves out when it is used: what `evaluate`, `predict`, `stream` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from videorwkv.errors import UsageError

if TYPE_CHECKING:
    import torch

    from videorwkv.models import LCR, Inputs
    from videorwkv.runtime import ExportedModel


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Shares of the patches to leave out of every frame, each in [0, 1); one of the two at most.

    Args:
        tube_mask_ratio: chosen by chance, the same in all frames of a clip.
        motion_mask_ratio: those that have changed least of late.

    Raises:
        UsageError: a share outside its range, or both.
    """

    tube_mask_ratio: float = 0.0
    motion_mask_ratio: float = 0.0

    def __post_init__(self) -> None:
        for name, ratio in self.ratios.items():
            if not 0 <= ratio < 1:
                raise UsageError(
                    f"{name} is {ratio}; it must lie in [0, 1): the share of the patches to leave "
                    "out, such as 0.5."
                )
        if self.tube_mask_ratio and self.motion_mask_ratio:
            raise UsageError(
                f"tube_mask_ratio ({self.tube_mask_ratio}) and motion_mask_ratio "
                f"({self.motion_mask_ratio}) exclude each other; give one of them."
            )

    @property
    def ratios(self) -> dict[str, float]:
        """Both shares by name."""
        return {
            "tube_mask_ratio": self.tube_mask_ratio,
            "motion_mask_ratio": self.motion_mask_ratio,
        }

    def fitted(self, model: LCR | ExportedModel) -> Masks:
        """What this model will do: an exported file keeps to the share that it was exported with.

        Raises:
            UsageError: the model can't be used with such a mask, or an exported file was made for
                something else.
        """
        import torch

        from videorwkv.runtime import ExportedModel

        if not isinstance(model, ExportedModel):
            if self.tube_mask_ratio or self.motion_mask_ratio:
                model.init_state(
                    tube_mask_ratio=self.tube_mask_ratio,
                    motion_mask_ratio=self.motion_mask_ratio,
                    generator=torch.Generator().manual_seed(0),
                )
            return self
        own_ratio: float = model.metadata["tube_mask_ratio"]
        if self.motion_mask_ratio:
            raise UsageError(
                f"{model.path}: motion_mask_ratio is {self.motion_mask_ratio}, but an exported "
                "file can't choose patches frame by frame. Give the run's folder, or export with "
                "--tube-mask."
            )
        if self.tube_mask_ratio not in (0.0, own_ratio):
            raise UsageError(
                f"{model.path}: tube_mask_ratio is {self.tube_mask_ratio}, but the file was "
                f"exported with {own_ratio}, which is built in. Leave it out, or export again: "
                f"videorwkv export RUN --tube-mask {self.tube_mask_ratio}"
            )
        return Masks(tube_mask_ratio=own_ratio)

    def start(self, model: LCR | ExportedModel, inputs: Inputs, generator: torch.Generator) -> Any:
        """The state before the first frame of `inputs`; None where nothing is left out.

        Args:
            model: as `fitted` has seen it.
            inputs: clips, frames [B, T, H, W, 3].
            generator: source of the tube masks.
        """
        if not (self.tube_mask_ratio or self.motion_mask_ratio):
            return None
        # An exported file's state knows no motion.
        masked: dict[str, Any] = {name: ratio for name, ratio in self.ratios.items() if ratio}
        batch, _, height, width = inputs.frames_BTHWC.shape[:4]
        return model.init_state(
            batch,
            image_size=(height, width),
            generator=generator,
            **masked,
        )


NO_MASKS = Masks()
