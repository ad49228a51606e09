"""One of two processes: runs command lines, one after the other, and tells what came of them.

Usage: pair.py OUT, with a JSON list of command lines (lists of words) on stdin. Each process writes
OUT.RANK, a JSON list of [exit code, stdout, stderr]. The command line `["shared steps"]` calls
`shared_steps.py`.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import shared_steps
import torch

from videorwkv.cli.main import main
from videorwkv.utils.processes import connected

torch.set_num_threads(1)
told = []
with connected("cpu", timeout=120) as processes:
    for command in json.loads(sys.stdin.read()):
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            if command == ["shared steps"]:
                code = shared_steps.check(processes)
            else:
                code = main(command)
        told.append([code, out.getvalue(), err.getvalue()])
    Path(f"{sys.argv[1]}.{os.environ['RANK']}").write_text(json.dumps(told))
