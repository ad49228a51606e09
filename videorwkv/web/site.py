"""A run -> a folder that any static host serves: `export_site`.

index.html, *.js, style.css    the page, from `page/`
model.onnx, model.onnx.json    the exported step and what it takes to run it
ort/                           ONNX Runtime for the browser (`runtime.py`)
site.json                      what the folder was made of; written last
_headers                       what a host such as Netlify or Cloudflare Pages sends with each file
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videorwkv.errors import CheckpointError, UsageError, did_you_mean
from videorwkv.exporting.about import chosen_for
from videorwkv.exporting.describe import description_path, naming, read_description
from videorwkv.exporting.exporter import Exported, export
from videorwkv.inference.exported import ExportedRun
from videorwkv.inference.recogniser import load_run
from videorwkv.models import LCR
from videorwkv.run.run import Run
from videorwkv.utils.files import make_folder, write_atomic
from videorwkv.web.runtime import VERSION, runtime_files

FORMAT = 1
PAGE = Path(__file__).with_name("page")
SITE, MODEL, RUNTIME = "site.json", "model.onnx", "ort"
# What the page runs: bfloat16 is unknown to browsers, and 8 bits are no faster there.
PRECISIONS = ("float32", "float16")
# Edges that the page can make (page/edges.js): `scattered` needs NumPy's random numbers.
EDGES = ("canny", "sobel", "laplacian", "none")
# With these a browser lets WebAssembly use threads.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


@dataclass(frozen=True)
class Site:
    """A folder that was written.

    Args:
        folder: with its index.html.
        exported: the model in it.
        size: bytes of all its files.
    """

    folder: Path
    exported: Exported
    size: int


def export_site(
    model: LCR | Run | str | Path,
    out: str | Path | None = None,
    *,
    precision: str = "float32",
    image_size: int | None = None,
    clip: str | Path | None = None,
    runtime: str | Path | None = None,
    **options: Any,
) -> Site:
    """Write a page that runs a model in a visitor's browser, on a camera or a file of theirs.

    Args:
        model: a run, its folder, or a model.
        out: the folder, made if it is missing; files of the same names are replaced, others stay.
            The folder `web` in the run's if None.
        precision: `float32`, or `float16` for half the download; both compute in float32.
        image_size: side of the frames in pixels; the model's if None.
        clip: a video to verify the model on as well.
        runtime: the archive of ONNX Runtime that `npm pack` has made; npm fetches it if None.
        options: `labels` and `sampling` of `export`, for a model without a run.

    Raises:
        UsageError: a wrong option, no npm, or a model that a browser can't be given.
        DataError: npm can't fetch ONNX Runtime.
        CheckpointError: the model differs from the run, or a file can't be written.
    """
    run = load_run(model) if isinstance(model, str | Path) else model
    if isinstance(run, ExportedRun):
        raise UsageError(f"{model} is an exported file; give the run that it came from.")
    if precision not in PRECISIONS:
        raise UsageError(
            f"export --to web: precision {precision!r} does not run in browsers. "
            f"{did_you_mean(precision, PRECISIONS)}"
        )
    config = run.recipe.model if isinstance(run, Run) else run.config
    if config.edges not in EDGES:
        raise UsageError(
            f"export --to web: the page can't make edges of the kind {config.edges!r}; it can make "
            f"{', '.join(EDGES)}. Train with one of these: --set model.edges=canny"
        )
    folder = _folder(run, out)
    files = runtime_files(runtime)  # before minutes of work
    make_folder(folder / RUNTIME)
    exported = export(
        run,
        folder / MODEL,
        precision=precision,
        batch_size=1,
        image_size=image_size,
        clip=clip,
        webgpu=True,
        **options,
    )
    written = [exported.path, exported.description]
    for name, source in files.items():
        written.append(_copy(source, folder / RUNTIME / name))
    for source in _assets():
        target = RUNTIME if source.name == "LICENSE.txt" else "."
        written.append(_copy(source, folder / target / source.name))
    written.append(_write(folder / "_headers", _headers()))
    title = run.outputs.resolve().name if isinstance(run, Run) else "videorwkv"
    about = {
        "format": FORMAT,
        "title": title,
        "model": MODEL,
        "runtime": VERSION,
        "page": _digest(),
    }
    written.append(_write(folder / SITE, json.dumps(about, ensure_ascii=False, indent=2) + "\n"))
    return Site(folder, exported, sum(path.stat().st_size for path in written))


def is_site(folder: str | Path) -> bool:
    """Whether `export_site` wrote this folder."""
    return Path(folder, SITE).is_file()


def is_current(folder: str | Path, run: Run) -> bool:
    """Whether a site is what this version would write of a run.

    Raises:
        CheckpointError: the site is broken.
    """
    site = read_description(Path(folder, SITE))
    model = read_description(description_path(Path(folder, MODEL)))
    whole = Path(folder, MODEL).is_file() and run.weights.is_file()
    if site is None or model is None or not whole:
        return False
    if site.get("page") != _digest() or model.get("weights_sha256") != run.weights_sha256():
        return False
    chosen, stream = chosen_for(run), model.get("stream") or {}
    same = all(model.get(name) == chosen[name] for name in ("thresholds", "timeline"))
    return same and all(stream.get(name) == value for name, value in naming(chosen).items())


def default_folder(run: Run) -> Path:
    """Where a run's site lies if nobody chose another place."""
    name = "web" if run.which in ("best", "model") else f"web-{run.which}"
    return run.outputs / name


def _folder(run: Run | LCR, out: str | Path | None) -> Path:
    if out is not None:
        return Path(out)
    if not isinstance(run, Run):
        raise UsageError("export_site: a model without a run needs `out`, a folder.")
    return default_folder(run)


def _assets() -> list[Path]:
    """The page's files, as they are."""
    return sorted(path for path in PAGE.iterdir() if path.is_file())


def _digest() -> str:
    """Of the page and its runtime: another one asks for another export."""
    digest = hashlib.sha256(VERSION.encode())
    for path in _assets():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _headers() -> str:
    lines = "".join(f"  {name}: {value}\n" for name, value in HEADERS.items())
    return f"/*\n{lines}"


def _copy(source: Path, target: Path) -> Path:
    return _write(target, source.read_bytes())


def _write(path: Path, content: bytes | str) -> Path:
    try:
        write_atomic(path, content)
    except CheckpointError as error:
        raise CheckpointError(f"{error} The site in {path.parent} is incomplete.") from error
    return path
