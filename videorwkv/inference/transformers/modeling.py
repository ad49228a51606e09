"""`LCRForVideoClassification`: an LCR with the face of a transformers model.

B batch, T frames, H and W height and width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from videorwkv.errors import UsageError
from videorwkv.inference.transformers.configuration import VideoRWKVConfig
from videorwkv.models import LCR, Inputs, LCRState, build_model
from videorwkv.models.scores import loss as classification_loss
from videorwkv.run.run import read_run

PREFIX = "lcr."


@dataclass
class LCROutput(ModelOutput):
    """What the model gives.

    Args:
        loss: cross-entropy, or binary cross-entropy where clips have several labels, if labels were
            given.
        logits: after the last frame, float32 [B, K].
        state: of the recurrence after the last frame, if it was asked for; pass it on with the next
            frames of the same videos.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    state: LCRState | None = None


class LCRForVideoClassification(PreTrainedModel):
    """An LCR for `AutoModelForVideoClassification`, `pipeline` and `Trainer`.

    Its checkpoints hold the tensors by the names that `videorwkv.LCR` gives them, and are runs.
    """

    config_class = VideoRWKVConfig
    base_model_prefix = "lcr"
    main_input_name = "pixel_values"
    input_modalities = ("video",)
    _no_split_modules = ("CrossRWKVLayer",)

    def __init__(self, config: VideoRWKVConfig) -> None:
        super().__init__(config)
        self.lcr = build_model(config.lcr)
        # On the meta device nothing has a value yet, that of a constant neither.
        self._is_unfilled = self.lcr.head.weight.is_meta
        self.post_init()

    @classmethod
    def from_run(cls, run: str | Path) -> LCRForVideoClassification:
        """The model of a run as it is: its folder, `RUN/last`, or `hf:owner/name`.

        Raises:
            UsageError, CheckpointError: as `videorwkv.load_run`.
        """
        found = read_run(run)
        recipe = found.recipe
        config = VideoRWKVConfig.of(
            recipe.model, found.labels, sampling=recipe.sampling, flips=found.flips
        )
        model = cls(config)
        model.lcr.load_state_dict(found.model().state_dict())
        return model.eval()

    def forward(
        self,
        pixel_values: Tensor,
        edge_values: Tensor | None = None,
        labels: Tensor | None = None,
        state: LCRState | None = None,
        use_cache: bool = False,
        return_dict: bool = True,
    ) -> LCROutput | tuple[Any, ...]:
        """Logits of clips, or of the next frames of streams.

        Args:
            pixel_values: RGB frames, uint8 [B, T, 3, H, W], as `LCRVideoProcessor` gives them.
            edge_values: their edge maps, uint8 [B, T, H, W], likewise; may be left out where the
                model uses none.
            labels: class of each clip, int64 [B]; 1 and 0 for each class, [B, K], where clips have
                several labels.
            state: what came before; None: nothing.
            use_cache: whether to give the state after the last frame.
            return_dict: an `LCROutput`, or a tuple of what is not None.

        Raises:
            UsageError: inputs of another type or shape.
        """
        if pixel_values.ndim != 5 or pixel_values.shape[2] != 3:
            raise UsageError(
                f"pixel_values: got {list(pixel_values.shape)}; wanted [B, T, 3, H, W], as "
                "LCRVideoProcessor gives them."
            )
        frames_BTHWC = pixel_values.permute(0, 1, 3, 4, 2).contiguous()
        if edge_values is None:
            if self.config.lcr.edges != "none":
                raise UsageError(
                    f"edge_values are missing: the model uses edges ({self.config.lcr.edges}). "
                    "LCRVideoProcessor gives them along with pixel_values."
                )
            edge_values = torch.zeros_like(frames_BTHWC[..., 0])
        logits_BTK, following = self.lcr.scan(Inputs(frames_BTHWC, edge_values), state)
        logits = logits_BTK[:, -1]
        loss = None
        if labels is not None:
            several = self.config.lcr.multilabel
            loss = classification_loss(
                logits, labels.to(logits.dtype) if several else labels, self.config.lcr
            )
        output = LCROutput(loss=loss, logits=logits, state=following if use_cache else None)
        return output if return_dict else output.to_tuple()

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        state_dict: Mapping[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """As transformers saves a model, with the tensors' names of a run."""
        tensors = self.state_dict() if state_dict is None else state_dict
        named = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
        super().save_pretrained(save_directory, state_dict=named, **kwargs)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Also with the names of a run: `Trainer` continues from such a checkpoint."""
        named = {PREFIX + name.removeprefix(PREFIX): value for name, value in state_dict.items()}
        return super().load_state_dict(named, strict=strict, assign=assign)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fill what no checkpoint has brought: constants, and a classifier for other labels.

        A model that was built on a device is filled; one that was built on the meta device has
        memory as it was found.
        """
        if not isinstance(module, LCR) or not self._is_unfilled:
            return
        with torch.random.fork_rng(devices=[]):
            fresh = build_model(module.config)
        mine, theirs = _tensors(module), _tensors(fresh)
        for name, tensor in mine.items():
            if not getattr(tensor, "_is_hf_initialized", False):
                tensor.copy_(theirs[name])


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, those that no checkpoint holds among them."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
