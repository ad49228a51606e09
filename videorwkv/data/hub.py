"""Data sets of the Hugging Face Hub: `hf:owner/name[@revision]` to a folder of clips."""

from __future__ import annotations

from pathlib import Path

from videorwkv.data.formats.tree import Tree
from videorwkv.data.manifest import SPLIT_NAMES
from videorwkv.errors import ManifestError
from videorwkv.utils import hub
from videorwkv.utils.remote import is_address
from videorwkv.video.base import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# Clips, frames of clips, shards, and the lists beside them; no code and no archive.
_SUFFIXES = (*sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES), ".tar", ".csv", ".txt", ".json", ".jsonl")
# A name may have capitals, and patterns tell them apart.
PATTERNS = tuple(f"*{suffix}" for name in _SUFFIXES for suffix in (name, name.upper()))


def is_hub_data(spec: str) -> bool:
    """Whether this names a data set of the Hub; `hf://...` is the address of a file there."""
    return hub.is_hub(spec) and not is_address(spec)


def fetch(spec: str) -> tuple[Path, str]:
    """The folder to read in place of `hf:owner/name[@revision]`, and a note that names the commit.

    Raises:
        UsageError: no such data set or revision, or huggingface_hub is not installed.
        CheckpointError: the Hub can't be reached, and the cache does not have all of it.
        ManifestError: there is nothing in it that could be clips, as in a data set of parquet.
    """
    folder = hub.fetch_data(spec, PATTERNS)
    note = f"{spec} at commit {folder.name}, in {folder}"
    if not folder.is_dir() or not any(Tree(folder).entries(folder)):
        raise ManifestError(
            f"{spec} holds no videos, folders of frames or shards (.tar), which are what is read; "
            "those inside of parquet files are not."
        )
    entries = Tree(folder).entries(folder)
    # As many repositories have it: clips and lists lie in `data`, the rest is a README.
    inner = Tree(folder / "data") if entries.folders == ["data"] and not entries.files else None
    if inner is not None:
        found = inner.entries(inner.root)
        if any(name.lower() in SPLIT_NAMES for name in found.folders) or found.files:
            return inner.root, note
    return folder, note
