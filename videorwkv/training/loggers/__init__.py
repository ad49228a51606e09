"""Where the curves of a training go beside its `log.jsonl`. Read base.py first."""

from videorwkv.training.loggers.base import LoggedRun, Logger, scalars
from videorwkv.training.loggers.choose import choose
from videorwkv.training.loggers.guarded import Loggers

__all__ = ["LoggedRun", "Logger", "Loggers", "choose", "scalars"]
