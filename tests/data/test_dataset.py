from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import tiny
import torch

from videorwkv.data.dataset import BadClip, ClipDataset, Sample, make_dataset
from videorwkv.data.load import load_manifest
from videorwkv.data.loader import collate
from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import ConfigError
from videorwkv.models import LCRConfig
from videorwkv.preprocess.edges import EdgeOptions, edge_map
from videorwkv.preprocess.inputs import FrameFit, preprocess
from videorwkv.video import to_image
from videorwkv.video.base import Sampling
from videorwkv.video.source import open_video
from videorwkv.video.writer import write_video


def get(dataset: ClipDataset, epoch: int, index: int) -> Sample:
    sample = dataset[epoch, index]
    assert isinstance(sample, Sample)
    return sample


def equal(one: Sample, other: Sample) -> bool:
    same = all(torch.equal(a, b) for a, b in zip(one.inputs, other.inputs, strict=True))
    return same and one.label == other.label


def mirrored(manifest: Manifest) -> Manifest:
    left, right = "going left, slowly", "going right, slowly"
    flips = {label: label for label in manifest.labels} | {left: right, right: left}
    return replace(manifest, flips=flips)


SAMPLING = Sampling(num_frames=4)


def test_evaluation_reads_what_a_prediction_reads(class_folder: Path) -> None:
    """The same pixels and edges as opening, sampling and preprocessing the file by hand."""
    manifest = load_manifest(class_folder)
    sample = get(ClipDataset(manifest, sampling=SAMPLING, size=32), 0, 5)
    with open_video(manifest.rows[5].path) as video:
        clip = video.sample(4)
    wanted = preprocess(clip, size=32, edges="canny", edge_options=EdgeOptions())
    assert torch.equal(sample.inputs.frames_BTHWC, wanted.frames_BTHWC[0])
    assert torch.equal(sample.inputs.edges_BTHW, wanted.edges_BTHW[0])
    assert sample.inputs.edges_BTHW.any()
    assert sample.label == manifest.label_index(manifest.rows[5].label)
    assert sample.index == 5


def test_training_is_a_function_of_seed_epoch_and_index(class_folder: Path) -> None:
    manifest = load_manifest(class_folder)
    made = [
        ClipDataset(manifest, sampling=SAMPLING, size=32, augmentation=Augmentation(), seed=s)
        for s in (0, 0, 1)
    ]
    assert equal(get(made[0], 2, 3), get(made[1], 2, 3))
    assert not equal(get(made[0], 2, 3), get(made[0], 3, 3))
    assert not equal(get(made[0], 2, 3), get(made[2], 2, 3))


def test_repeats_show_other_windows(class_folder: Path) -> None:
    manifest = load_manifest(class_folder)
    dataset = ClipDataset(
        manifest, sampling=SAMPLING, size=32, augmentation=Augmentation.off(), repeats=2
    )
    assert len(dataset) == 24
    first, second = get(dataset, 0, 1), get(dataset, 0, 13)
    assert first.index == second.index == 1
    assert not equal(first, second)


def test_edges_are_made_of_what_the_model_sees(class_folder: Path) -> None:
    manifest = load_manifest(class_folder)
    augmentation = replace(Augmentation(), erase_probability=0.0)
    dataset = ClipDataset(manifest, sampling=SAMPLING, size=32, augmentation=augmentation)
    inputs = get(dataset, 1, 2).inputs
    assert np.array_equal(inputs.edges_BTHW.numpy(), edge_map(inputs.frames_BTHWC.numpy()))


def test_erased_box_has_no_edges(class_folder: Path) -> None:
    manifest = load_manifest(class_folder)
    augmentation = replace(Augmentation.off(), erase_probability=1.0, erase_area=(0.3, 0.3))
    kept = replace(augmentation, erase_probability=0.0)
    made = [
        get(ClipDataset(manifest, sampling=SAMPLING, size=32, augmentation=a), 0, 0).inputs
        for a in (augmentation, kept)
    ]
    edges_THW, whole_THW = made[0].edges_BTHW, made[1].edges_BTHW
    changed_HW = (made[0].frames_BTHWC != made[1].frames_BTHWC).any(-1).any(0)
    rows, columns = (changed_HW.any(dim).nonzero().flatten() for dim in (1, 0))
    box = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    assert whole_THW[box].any()
    whole_THW[box] = 0
    assert whole_THW.any()
    assert torch.equal(edges_THW, whole_THW)


def test_flip_swaps_the_label(class_folder: Path) -> None:
    manifest = mirrored(load_manifest(class_folder))
    always = replace(Augmentation.off(), flip_probability=1.0)
    plain = ClipDataset(manifest, sampling=SAMPLING, size=32, augmentation=Augmentation.off())
    dataset = ClipDataset(manifest, sampling=SAMPLING, size=32, augmentation=always)
    names = []
    for index in range(0, 12, 3):
        one, other = get(plain, 0, index), get(dataset, 0, index)
        assert torch.equal(other.inputs.frames_BTHWC, one.inputs.frames_BTHWC.flip(2))
        names.append((manifest.labels[one.label], manifest.labels[other.label]))
    assert names == [
        ("going down, slowly", "going down, slowly"),
        ("going left, slowly", "going right, slowly"),
        ("going right, slowly", "going left, slowly"),
        ("going up, slowly", "going up, slowly"),
    ]


def test_no_flip_without_a_table(class_folder: Path) -> None:
    manifest = load_manifest(class_folder)
    always = replace(Augmentation.off(), flip_probability=1.0)
    made = [
        get(ClipDataset(manifest, sampling=SAMPLING, size=32, augmentation=a), 0, 4)
        for a in (always, Augmentation.off())
    ]
    assert equal(*made)


def test_evaluation_never_flips(class_folder: Path) -> None:
    manifest = load_manifest(class_folder)
    made = [
        get(ClipDataset(m, sampling=SAMPLING, size=32), 0, 4)
        for m in (manifest, mirrored(manifest))
    ]
    assert equal(*made)


def test_bad_clips_are_reported_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "empty.mp4").touch()
    rows = (
        Row(str(tmp_path / "missing.mp4"), "a"),
        Row(str(tmp_path / "text.mp4"), "a"),
        Row(str(tmp_path / "empty.mp4"), "a"),
    )
    manifest = Manifest(name="bad", rows=rows, labels=("a",))
    for augmentation in (None, Augmentation()):
        dataset = ClipDataset(manifest, sampling=SAMPLING, size=32, augmentation=augmentation)
        for index, row in enumerate(rows):
            bad = dataset[0, index]
            assert isinstance(bad, BadClip)
            assert (bad.index, bad.path) == (index, row.path)
            assert Path(row.path).name in bad.reason


def test_views(class_folder: Path, tmp_path: Path) -> None:
    manifest = load_manifest(class_folder)
    with open_video(manifest.rows[0].path) as video:
        square_THWC = video.read_all().frames_THWC
    wide_THWC = np.concatenate([square_THWC, square_THWC[:, ::-1]], axis=2)
    write_video(tmp_path / "wide.mp4", wide_THWC, 10)
    wide = Manifest(name="w", rows=(Row(str(tmp_path / "wide.mp4"), "a"),), labels=("a",))
    for sampling in (Sampling(num_frames=4), Sampling(num_frames=4, fps=5.0)):
        dataset = ClipDataset(wide, sampling=sampling, size=32, views=(2, 3))
        sample = get(dataset, 0, 0)
        frames_VTHWC, edges_VTHW = sample.inputs
        assert frames_VTHWC.shape == (6, 4, 32, 32, 3)
        assert edges_VTHW.shape == (6, 4, 32, 32)
        assert sample.warnings == ()
        assert len({view.numpy().tobytes() for view in frames_VTHWC}) == 6
        assert np.array_equal(
            edge_map(frames_VTHWC.reshape(24, 32, 32, 3).numpy()), edges_VTHW.reshape(24, 32, 32)
        )
        # View 2 * 3 + 1 is the centre of the second temporal view.
        with open_video(wide.rows[0].path) as video:
            second = video.sample(4, fps=sampling.fps, view=1, num_views=2)
        from videorwkv.preprocess.inputs import fit

        assert np.array_equal(frames_VTHWC[4].numpy(), fit(second.frames_THWC, 32))


@pytest.mark.parametrize("frame_fit", ["crop", "stretch"])
@pytest.mark.parametrize("augmentation", [None, Augmentation.off()], ids=["evaluation", "training"])
@pytest.mark.parametrize("cached", [False, True])
def test_the_sides_of_a_wide_frame(
    frame_fit: FrameFit, augmentation: Augmentation | None, cached: bool, tmp_path: Path
) -> None:
    frames_THWC = np.full((6, 64, 128, 3), 100, np.uint8)
    frames_THWC[:, :, :24], frames_THWC[:, :, -24:] = (250, 0, 0), (0, 0, 250)
    write_video(tmp_path / "wide.mp4", frames_THWC, 10)
    wide = Manifest(name="w", rows=(Row(str(tmp_path / "wide.mp4"), "a"),), labels=("a",))
    config = LCRConfig(image_size=32, patch_size=8, frame_fit=frame_fit)
    cache = tmp_path / "cache" if cached else None
    dataset = make_dataset(config, wide, SAMPLING, cache=cache, augmentation=augmentation)
    frames_THWC = get(dataset, 0, 0).inputs.frames_BTHWC.numpy().astype(int)
    assert frames_THWC.shape == (4, 32, 32, 3)
    difference_THW = frames_THWC[..., 0] - frames_THWC[..., 2]
    assert (abs(difference_THW[:, :, 12:20]) < 20).all()
    if frame_fit == "stretch":
        assert (difference_THW[:, :, :4] > 150).all()
        assert (difference_THW[:, :, -4:] < -150).all()
    else:
        assert (abs(difference_THW) < 20).all()


def test_crops_of_a_stretched_frame_are_refused(class_folder: Path) -> None:
    manifest = load_manifest(class_folder)
    config = LCRConfig(frame_fit="stretch")
    assert make_dataset(config, manifest, SAMPLING, views=(2, 1)).views == (2, 1)
    with pytest.raises(ConfigError, match=r"views 2x3.*as in 2x1"):
        make_dataset(config, manifest, SAMPLING, views=(2, 3))


@pytest.mark.parametrize("sampling", [SAMPLING, Sampling(num_frames=4, fps=5.0)])
def test_all_views_come_from_one_pass_over_the_file(
    class_folder: Path, monkeypatch: pytest.MonkeyPatch, sampling: Sampling
) -> None:
    manifest = load_manifest(class_folder)
    with open_video(manifest.rows[0].path) as video:
        times = video.times()
    opened, converted = 0, 0
    real_open, real_image = av.open, to_image.ToImage.__call__

    def counting_open(*arguments: object, **options: object) -> object:
        nonlocal opened
        opened += 1
        return real_open(*arguments, **options)

    def counting_image(self: to_image.ToImage, image: av.VideoFrame, *rest: object) -> object:
        nonlocal converted
        converted += 1
        return real_image(self, image, *rest)

    monkeypatch.setattr(av, "open", counting_open)
    monkeypatch.setattr(to_image.ToImage, "__call__", counting_image)
    opens = []
    for views in ((1, 1), (3, 3)):
        opened = converted = 0
        get(ClipDataset(manifest, sampling=sampling, size=32, views=views), 0, 0)
        chosen = [sampling.indices(times, view=v, num_views=views[0]) for v in range(views[0])]
        assert converted == len(np.unique(chosen))
        opens.append(opened)
    assert opens[0] == opens[1] > 0


@pytest.mark.parametrize(("width", "differ"), [(48, False), (49, False), (50, True)])
def test_crops_of_a_nearly_square_video(
    class_folder: Path, tmp_path: Path, width: int, differ: bool
) -> None:
    with open_video(load_manifest(class_folder).rows[0].path) as video:
        clip_THWC = video.read_all().frames_THWC
    folder = tmp_path / "frames"
    folder.mkdir()
    for t, frame_HWC in enumerate(np.concatenate([clip_THWC, clip_THWC], axis=2)[:, :, :width]):
        cv2.imwrite(str(folder / f"{t:03}.png"), frame_HWC)
    manifest = Manifest(name="w", rows=(Row(str(folder), "a"),), labels=("a",))
    sample = get(ClipDataset(manifest, sampling=SAMPLING, size=48, views=(1, 3)), 0, 0)
    crops = {view.numpy().tobytes() for view in sample.inputs.frames_BTHWC}
    assert (len(crops) == 3) == differ
    assert any("are equal" in text for text in sample.warnings) != differ


def test_views_of_a_short_and_square_video_are_noted(class_folder: Path, tmp_path: Path) -> None:
    manifest = load_manifest(class_folder)
    with open_video(manifest.rows[0].path) as video:
        write_video(tmp_path / "short.mp4", video.read_all().frames_THWC[:3], 10)
    short = Manifest(name="s", rows=(Row(str(tmp_path / "short.mp4"), "a"),), labels=("a",))
    sample = get(ClipDataset(short, sampling=SAMPLING, size=32, views=(4, 3)), 0, 0)
    assert sample.inputs.frames_BTHWC.shape == (12, 4, 32, 32, 3)
    assert len(sample.warnings) == 2
    assert "too short for 4 temporal views" in sample.warnings[0]
    assert "some of its 3 crops are equal" in sample.warnings[1]


def test_equal_views_of_a_long_video_are_a_defect(
    class_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(self: Sampling, times: np.ndarray, **_: object) -> np.ndarray:
        return np.array([0, 5, 10, 15])

    monkeypatch.setattr(Sampling, "indices", blind)
    dataset = ClipDataset(load_manifest(class_folder), sampling=SAMPLING, size=32, views=(2, 1))
    with pytest.raises(AssertionError, match="temporal views are equal"):
        dataset[0, 0]


def test_unknown_label_is_minus_one(class_folder: Path) -> None:
    row = load_manifest(class_folder).rows[0]._replace(label=None)
    manifest = Manifest(name="m", rows=(row,), labels=("a",))
    assert get(ClipDataset(manifest, sampling=SAMPLING, size=32), 0, 0).label == -1


def test_truncated_file_gives_a_warning(shared_dir: Path) -> None:
    files = sorted((shared_dir / "clips" / "odd").glob("corrupted*"))
    if not files:
        pytest.skip("the corrupted clip is not here")
    manifest = Manifest(name="t", rows=(Row(str(files[0]), "a"),), labels=("a",))
    for augmentation in (None, Augmentation()):
        sample = ClipDataset(manifest, sampling=SAMPLING, size=32, augmentation=augmentation)[0, 0]
        if isinstance(sample, Sample):
            assert sample.warnings
        else:
            assert files[0].name in sample.reason


def test_wrong_arguments(class_folder: Path) -> None:
    manifest = load_manifest(class_folder)
    with pytest.raises(ConfigError, match="views"):
        ClipDataset(manifest, sampling=SAMPLING, size=32, views=(0, 1))
    with pytest.raises(ConfigError, match="evaluation"):
        ClipDataset(manifest, sampling=SAMPLING, size=32, views=(2, 1), augmentation=Augmentation())
    with pytest.raises(ConfigError, match="size"):
        ClipDataset(manifest, sampling=SAMPLING, size=0)


def test_it_is_a_data_set_of_torch() -> None:
    dataset = make_dataset(
        tiny.recipe().model, tiny.manifest().split("train"), Sampling(num_frames=3)
    )
    assert isinstance(dataset, torch.utils.data.Dataset)
    sample = dataset[0]
    assert isinstance(sample, Sample)
    assert torch.equal(sample.inputs.frames_BTHWC, dataset[0, 0].inputs.frames_BTHWC)
    assert dataset[-1].index == len(dataset) - 1
    with pytest.raises(IndexError, match="clip 20 of 20"):
        dataset[20]
    batches = torch.utils.data.DataLoader(dataset, batch_size=4, collate_fn=collate)
    assert [len(batch.labels) for batch in batches] == [4] * 5
