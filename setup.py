"""Builds the pure wheel, or with VIDEORWKV_PREBUILT=1 one for this platform, which brings the
compiled scan along for machines without a C compiler (videorwkv/ops/build.py). The rest is in
pyproject.toml."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PREBUILT = os.environ.get("VIDEORWKV_PREBUILT", "") == "1"


class BuildWithScan(build_py):
    """The package, and the libraries beside the source of the scan."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib) / "videorwkv" / "ops" / "prebuilt"
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier build
        if PREBUILT:
            sys.path.insert(0, str(ROOT))
            from videorwkv.ops.build import compile_for_wheel

            compile_for_wheel(folder)


class PlatformWheel(bdist_wheel):
    """`py3-none-PLATFORM`: one library serves every version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        tag = super().get_tag()
        return ("py3", "none", tag[2]) if PREBUILT else tag


class WithScan(Distribution):
    """A distribution that is not the same on every platform."""

    def has_ext_modules(self) -> bool:
        return PREBUILT


setup(distclass=WithScan, cmdclass={"build_py": BuildWithScan, "bdist_wheel": PlatformWheel})
