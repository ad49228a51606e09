"""`from_pretrained`, `save_pretrained` and `push_to_hub` of a model.

They have the arguments of huggingface_hub's `ModelHubMixin`. It is not a base class, for then that
library would be imported with every model, and needed. What is read and written is a run's folder,
which stands in a room above this one: videorwkv/run/hub.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videorwkv.utils.late import late
from videorwkv.video.base import Sampling

if TYPE_CHECKING:
    from typing_extensions import Self


class Shared:
    """What a model has of a model that can be shared.

    `origin` is the run that `from_pretrained` read, with labels, sampling, views and what was
    chosen for its weights, which `predict`, `evaluate`, `stream` and `export` then use; None
    otherwise. What was chosen is left aside once the weights are others.
    """

    origin: Any = None

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """The trained model of a run, in evaluation mode on the CPU.

        Args:
            source: a run's folder (also `RUN/last`), or `owner/name` of a repository on the Hub
                (`pip install 'videorwkv[hub]'`), also as `hf:owner/name@revision`. A folder comes
                first.
            revision: branch, tag or commit of the repository; None: main.
            token, cache_dir, force_download, local_files_only: of huggingface_hub.

        Raises:
            UsageError: no such folder or repository.
            CheckpointError: it is no run, its weights do not fit, or the Hub can't be reached.
        """
        model: Self = late("hub").load_model(
            source,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        return model

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        labels: Sequence[str] | None = None,
        sampling: Sampling | None = None,
        flips: Mapping[str, str] | None = None,
        **facts: str,
    ) -> Path:
        """Write config.json, model.safetensors and a model card: a run's folder, and what
        `from_pretrained`, the commands and transformers read.

        Args:
            folder: is made; files of these names in it are replaced.
            labels: K class names, in the order of the logits; else those that the model was loaded
                with, or class numbers.
            sampling: which frames it wants; else likewise, or `num_frames` frames, spread evenly.
            flips: label -> label after a horizontal flip; else likewise, or none.
            facts: what the card says besides: `repo`, `licence`, `data_licence`, `description`
                (videorwkv.run.card.Facts).

        Returns:
            The folder.

        Raises:
            UsageError: another number of labels than classes, a copy from `for_inference`, or a
                folder that can't be made or that holds a run of `videorwkv train`.
            CheckpointError: the disk is full.
        """
        written: Path = late("hub").save_model(
            self, Path(folder), labels=labels, sampling=sampling, flips=flips, facts=facts
        )
        return written

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        branch: str | None = None,
        create_pr: bool = False,
        commit_message: str = "",
        **saved: Any,
    ) -> str:
        """`save_pretrained` to a repository of the Hub (`pip install 'videorwkv[hub]'`).

        Args:
            repo_id: `owner/name`; it is made if there is none.
            private: whether a new one is private; None: as the owner's account has it.
            token: of the account; None: that of `hf auth login`, or HF_TOKEN.
            branch: to push to, made if there is none; None: main.
            create_pr: propose it as a pull request.
            commit_message: of the commit.
            saved: arguments of `save_pretrained`.

        Returns:
            The address of the commit, or of the pull request.

        Raises:
            UsageError: as `save_pretrained`; no such account, or no right to write.
            CheckpointError: the Hub can't be reached.
        """
        address: str = late("hub").push_model(
            self,
            repo_id,
            private=private,
            token=token,
            revision=branch,
            create_pr=create_pr,
            message=commit_message,
            **saved,
        )
        return address
