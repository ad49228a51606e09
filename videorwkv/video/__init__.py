"""Video -> frames."""

from __future__ import annotations

from videorwkv.video.clip import Clip as Clip
from videorwkv.video.clip import Frame as Frame
from videorwkv.video.sampling import Sampling as Sampling
from videorwkv.video.source import Video as Video
from videorwkv.video.source import open_video as open_video
