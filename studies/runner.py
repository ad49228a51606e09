"""Trains what a study needs and was not trained before, measures it, and gathers the results.

RUNS/<key>/             a run as `videorwkv train` writes it, shared by all studies
RUNS/<key>/study.json   that it is complete: seconds, parameters, machine
RUNS/<key>/<measure>.json, <measure>/   what a measure gave, and its files
RUNS/<key>.lock         held while a process works in the run
RUNS/probes/, RUNS/times/               what needed no training

A study that is killed goes on where it was: a begun run is resumed from its last checkpoint, and
what is measured is not measured again.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.data import test_clips, training_clips
from studies.design import Measure, Measured, Trained
from studies.plan import Plan, Settings, Training, machine, make_plan, object_key
from studies.results import Done, Results
from videorwkv.errors import NonFiniteError, UsageError
from videorwkv.utils.files import slug, write_atomic
from videorwkv.utils.optional import load

if TYPE_CHECKING:
    from filelock import FileLock

Say = Callable[[str], None]


def run_study(reference: str, settings: Settings, *, say: Say = lambda text: None) -> Results:
    """Everything of a study that is not done yet, and its results.

    Args:
        reference: a study's name, or a Python file that defines one.
        settings: what the user set.
        say: takes a line of progress.

    Raises:
        UsageError, DataError: the study, its options or its data can't be used.
        KeyboardInterrupt: stopped; the same call goes on.
    """
    from studies.load import load_study

    study = load_study(reference)
    plan = make_plan(study, settings)
    load("scipy.stats", "A study")  # not only when the page is written, hours later
    # One run may serve several variants, and any study before this one.
    tasks = {t.key: t for t in plan.trainings if not _is_done(plan, t)}
    keys = {training.key for training in plan.trainings}
    before = sum((settings.runs / key / "study.json").exists() for key in keys)
    say(f"{study.name}: {len(keys)} trainings, {before} of them done before")
    _run_all(reference, settings, tasks, say)
    times = _times(plan, say)
    probes = {
        probe.name: _kept(
            settings.runs / "probes" / f"{slug(probe.name)}-{object_key(probe, _place(settings))}",
            lambda probe=probe: dict(  # type: ignore[misc]
                probe.probe(quick=settings.quick, device=settings.device)
            ),
        )
        for probe in study.probes
    }
    done = tuple(_gather(plan, training) for training in plan.trainings)
    return Results(study, plan, done, probes, times, machine())


def _run_all(reference: str, settings: Settings, tasks: Mapping[str, Training], say: Say) -> None:
    count = 0

    def told(training: Training, seconds: float) -> None:
        nonlocal count
        count += 1
        say(
            f"  {count}/{len(tasks)} {training.variant}, seed {training.seed}"
            + (f", fold {training.fold}" if settings.data.folds else "")
            + f": {seconds:.0f} s"
        )

    waiting = list(tasks)
    if min(settings.jobs, len(tasks)) <= 1:
        while waiting:
            key = _take_next(waiting, settings.runs)
            told(tasks[key], run_task(reference, settings, key))
        return
    import multiprocessing

    running: dict[Future[float], Training] = {}
    with ProcessPoolExecutor(
        min(settings.jobs, len(tasks)),
        # Forking a process that has used torch's threads can hang.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    ) as pool:
        # No more than run at once: on Ctrl-C these save themselves, and none is begun after them.
        while waiting or running:
            while waiting and len(running) < settings.jobs:
                key = _take_next(waiting, settings.runs)
                running[pool.submit(run_task, reference, settings, key)] = tasks[key]
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                told(running.pop(future), future.result())


def _take_next(waiting: list[str], runs: Path) -> str:
    """The first run that no other command works in, or the first of all, if there is none: two
    commands that share their runs would else go in step, one waiting for what the other does."""
    free = (key for key in waiting if not _is_busy(runs / key))
    key = next(free, waiting[0])
    waiting.remove(key)
    return key


def _start_worker() -> None:
    import signal

    import cv2
    import torch

    from videorwkv.utils.workers import end_with_parent

    end_with_parent()
    # Several processes with several threads each are slower than with one: they wait spinning.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    # Heard in training only, which then saves itself; a measure is short and ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_task(reference: str, settings: Settings, key: str) -> float:
    """Train and measure one run of a study; returns the seconds it took.

    It is told by its key, and plans anew: a study of the user's own may define measures that do
    not travel between processes.
    """
    from studies.load import load_study

    plan = make_plan(load_study(reference), settings)
    trainings = [t for t in plan.trainings if t.key == key]
    start = time.perf_counter()
    folder = settings.runs / key
    with _alone(folder):
        if not (folder / "study.json").exists():
            record = _train(plan, trainings[0], folder)
            _write(folder / "study.json", record)
        for training in trainings:
            for measure in plan.measures:
                if not _measure_file(folder, measure, plan, training).exists():
                    _measure(plan, training, folder, measure)
    return time.perf_counter() - start


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time works in a run: two studies that are running may share it."""
    from filelock import Timeout

    from videorwkv.utils.interrupt import Interrupts

    lock = _lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with Interrupts():  # a worker hears Ctrl-C while it waits: nothing would be lost
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_busy(folder: Path) -> bool:
    from filelock import Timeout

    try:
        with _lock(folder).acquire(timeout=0):
            return False
    except Timeout:
        return True


def _lock(folder: Path) -> FileLock:
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_name(folder.name + ".lock"))


def _train(plan: Plan, training: Training, folder: Path) -> dict[str, Any]:
    from videorwkv.models.cost import cost
    from videorwkv.training.loop import train

    manifest = training_clips(plan.manifest(training))
    resumed = (folder / "state.pt").exists()
    if not resumed:
        # Weights whose checkpoint was not written any more: nothing that could be gone on from.
        shutil.rmtree(folder, ignore_errors=True)
    first: list[int] = []
    wall, cpu = time.perf_counter(), time.process_time()
    failure = ""
    steps = 0
    try:
        result = train(
            training.recipe,
            manifest,
            folder,
            resume=resumed,
            device=plan.settings.device,
            cache=plan.settings.cache,
            quiet=True,
            on_step=lambda step: first.append(step) if not first else None,
        )
        if result.interrupted:
            raise KeyboardInterrupt
        steps = result.total_steps
    except NonFiniteError as error:
        failure = str(error)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    # A resumed run is timed from where it was resumed, and scaled to the whole.
    share: float | None = 1.0
    if resumed:
        share = steps / (steps - first[0] + 1) if steps and first else None
    spent = cost(training.recipe.model)
    return {
        "variant": training.variant,
        "command": list(training.command),
        "steps": steps,
        "wall_seconds": share and wall * share,
        "cpu_seconds": share and cpu * share,
        "parameters": spent.parameters,
        "macs_per_frame": spent.macs_per_frame,
        "failure": failure,
        "machine": machine(),
    }


def _measure(plan: Plan, training: Training, folder: Path, measure: Measure) -> None:
    from videorwkv.inference.recogniser import load_run

    test = test_clips(plan.manifest(training))
    path = _measure_file(folder, measure, plan, training)
    if _read(folder / "study.json")["failure"]:
        # Its weights are of no use: no clip is right, and nothing else can be known. The page says
        # so.
        no_hit = measure.unit == "share" and not measure.lower_is_better
        _write(path, Measured(0.0 if no_hit else math.nan).to_dict())
        return
    run = load_run(folder)
    # The same weights may be asked with other views than those they were trained to be.
    recipe = replace(run.recipe, views=training.recipe.views)
    run = replace(run, which="last", recipe=recipe)
    files = path.with_suffix("")
    trained = Trained(run, test, training.data, plan.settings.device, files, plan.settings.cache)
    _write(path, measure.measure(trained).to_dict())


def _measure_file(folder: Path, measure: Measure, plan: Plan, training: Training) -> Path:
    """By what is measured, on which clips and in how many views."""
    clips = test_clips(plan.manifest(training)).digest
    key = object_key(measure, training.data, clips, repr(training.recipe.views))
    return folder / f"{slug(measure.name)}-{key}.json"


def _is_done(plan: Plan, training: Training) -> bool:
    folder = plan.settings.runs / training.key
    return (folder / "study.json").exists() and all(
        _measure_file(folder, measure, plan, training).exists() for measure in plan.measures
    )


def _gather(plan: Plan, training: Training) -> Done:
    folder = plan.settings.runs / training.key
    if not _is_done(plan, training):
        raise UsageError(
            f"Study {plan.study.name!r}: its file was changed while it ran, so some measures are "
            "missing. Start the same command again: what is done is kept."
        )
    measured = {
        m.name: Measured.from_dict(_read(_measure_file(folder, m, plan, training)))
        for m in plan.measures
    }
    return Done(training, folder, _read(folder / "study.json"), measured)


def _times(plan: Plan, say: Say) -> Mapping[str, Mapping[str, float]]:
    if not (plan.study.times and plan.variants):
        return {}
    from studies.timing import frame_times
    from videorwkv.utils.device import pick_device

    configs = {t.variant: t.recipe.model for t in plan.trainings}
    seconds = (0.3 if plan.settings.quick else 2.0) * len(configs)
    key = object_key(sorted(configs.items()), _place(plan.settings))
    return _kept(
        plan.settings.runs / "times" / key,
        lambda: frame_times(configs, seconds=seconds, device=pick_device(plan.settings.device)),
    )


def _place(settings: Settings) -> str:
    """What a time depends on beside the thing that is timed."""
    values = machine()
    return f"{settings.quick} {settings.device} {values['cpu']} {values['gpu']} {values['torch']}"


def _kept(path: Path, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    path = path.with_name(path.name + ".json")
    if not path.exists():
        _write(path, make())
    return _read(path)


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(values, indent=1) + "\n").encode())


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
