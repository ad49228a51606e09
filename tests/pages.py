"""What tests of pages in headless Chromium share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from benchmarks.chromium import Chromium, chromium
from videorwkv.errors import UsageError, VideoRWKVError
from videorwkv.web.runtime import runtime_files


@contextmanager
def opened(*flags: str, webgpu: bool = False) -> Iterator[Chromium]:
    """Chromium; the test is skipped where there is none."""
    with ExitStack() as stack:
        try:
            browser = stack.enter_context(chromium(*flags, webgpu=webgpu))
        except UsageError as error:
            pytest.skip(str(error))
        yield browser


def need_runtime() -> None:
    """Skip the test where ONNX Runtime for browsers can't be fetched."""
    try:
        runtime_files()
    except VideoRWKVError as error:
        pytest.skip(f"ONNX Runtime for browsers can't be had: {error}")
