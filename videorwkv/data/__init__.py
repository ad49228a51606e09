"""Data sets -> batches."""

from __future__ import annotations

from videorwkv.data.cache import FrameCache as FrameCache
from videorwkv.data.dataset import BadClip as BadClip
from videorwkv.data.dataset import ClipDataset as ClipDataset
from videorwkv.data.dataset import Sample as Sample
from videorwkv.data.flips import read_flip_table as read_flip_table
from videorwkv.data.folds import folds as folds
from videorwkv.data.load import load_manifest as load_manifest
from videorwkv.data.loader import CLIP_TIMEOUT as CLIP_TIMEOUT
from videorwkv.data.loader import Batch as Batch
from videorwkv.data.loader import Loader as Loader
from videorwkv.data.loader import make_loader as make_loader
from videorwkv.data.manifest import Manifest as Manifest
from videorwkv.data.manifest import Row as Row
from videorwkv.data.transforms import Augmentation as Augmentation
