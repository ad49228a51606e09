from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from disk import text

from videorwkv.data.dataset import Sample, make_dataset
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest
from videorwkv.data.shards.write import write_shards
from videorwkv.errors import ManifestError, UsageError
from videorwkv.models import LCRConfig
from videorwkv.video.base import Sampling


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    content = cv2.imencode(".jpg", rng.integers(0, 255, (40, 50, 3), np.uint8))[1]
    path.write_bytes(content.tobytes())


def samples(manifest: Manifest) -> list[Sample]:
    model = LCRConfig(image_size=32, patch_size=8, width=16, head_width=8, depth=1)
    dataset = make_dataset(model, manifest, Sampling(num_frames=1))
    found = [dataset[index] for index in range(len(dataset))]
    assert all(isinstance(sample, Sample) for sample in found), found
    return found  # type: ignore[return-value]


def test_folders_of_splits(tmp_path: Path) -> None:
    for place in ("train/n01/a.JPEG", "train/n02/b.JPEG", "val/n01/c.JPEG", "train/n01/note.txt"):
        picture(tmp_path / "set" / place)
    manifest = load_manifest(f"imagenet:{tmp_path / 'set'}")
    assert [(manifest.relative_path(row), row.label, row.split) for row in manifest.rows] == [
        ("train/n01/a.JPEG", "n01", "train"),
        ("train/n02/b.JPEG", "n02", "train"),
        ("val/n01/c.JPEG", "n01", "validation"),
    ]
    assert manifest.flips == {"n01": "n01", "n02": "n02"}
    assert "1 entry passed over: n01/note.txt" in manifest.summary()
    found = samples(manifest)
    assert found[0].inputs.frames_BTHWC.shape == (1, 32, 32, 3)
    write_shards(manifest, tmp_path / "shards")
    packed = load_manifest(tmp_path / "shards")
    assert (packed.name, packed.flips) == ("imagenet", manifest.flips)
    assert {row.path.rpartition("/")[2] for row in packed.rows} == {"000000.jpeg", "000001.jpeg"}
    for one, other in zip(found, samples(packed), strict=True):
        assert torch.equal(one.inputs.frames_BTHWC, other.inputs.frames_BTHWC)


def test_classes_alone_are_split(tmp_path: Path) -> None:
    for label in ("car", "train"):
        for number in range(5):
            picture(tmp_path / label / f"{number}.png")
    manifest = load_manifest(f"imagenet:{tmp_path}")
    assert manifest.labels == ("car", "train")
    assert {row.split for row in manifest.rows} == {"train", "validation"}


def test_kaggle(tmp_path: Path) -> None:
    place = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    for name in ("train/n01/n01_1.JPEG", "val/v1.JPEG", "test/t1.JPEG"):
        picture(place / name)
    with pytest.raises(UsageError, match=r"LOC_val_solution\.csv: no such file"):
        load_manifest(f"imagenet:{tmp_path}")
    solution = "ImageId,PredictionString\nv1,n02 1 2 3 4 \nv2,n01 1 2 3 4 n01 5 6 7 8\n"
    text(tmp_path / "LOC_val_solution.csv", solution)
    manifest = load_manifest(f"imagenet:{tmp_path}")
    assert [(Path(r.path).name, r.label, r.split) for r in manifest.rows] == [
        ("n01_1.JPEG", "n01", "train"),
        ("v1.JPEG", "n02", "validation"),
    ]
    assert [Path(row.path).name for row in manifest.missing] == ["v2.JPEG"]


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "car").mkdir()
    with pytest.raises(ManifestError, match=r"no picture in a folder of its class.*It has car/"):
        load_manifest(f"imagenet:{tmp_path}")
