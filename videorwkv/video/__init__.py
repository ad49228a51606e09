"""Video -> frames."""

from __future__ import annotations

from videorwkv.video.base import Clip as Clip
from videorwkv.video.base import Frame as Frame
from videorwkv.video.base import Sampling as Sampling
from videorwkv.video.segment import Segment as Segment
from videorwkv.video.source import Video as Video
from videorwkv.video.source import open_video as open_video
