"""The model in Hugging Face transformers: to import this makes its Auto classes know it.

    import videorwkv.inference.transformers
    from transformers import pipeline
    pipeline("video-classification", model="owner/name")("clip.mp4")

Needs `pip install 'videorwkv[transformers]'`. A repository or folder that `videorwkv push`,
`LCR.save_pretrained` or `Trainer` wrote is read by transformers and by the commands alike.
"""

from __future__ import annotations

try:
    from transformers import AutoConfig, AutoModelForVideoClassification

    # Not from `transformers` itself, which gives a stand-in where torchvision is absent: the
    # processor here does not use it.
    from transformers.models.auto.video_processing_auto import AutoVideoProcessor

    from videorwkv.inference.transformers.configuration import VideoRWKVConfig
    from videorwkv.inference.transformers.modeling import LCRForVideoClassification, LCROutput
    from videorwkv.inference.transformers.processing import LCRVideoProcessor
except ImportError as error:
    raise ImportError(
        "videorwkv.inference.transformers needs transformers 5, which can't be imported "
        f"({error}). Install it with: pip install 'videorwkv[transformers]'"
    ) from error

AutoConfig.register("videorwkv", VideoRWKVConfig, exist_ok=True)
AutoModelForVideoClassification.register(VideoRWKVConfig, LCRForVideoClassification, exist_ok=True)
AutoVideoProcessor.register(VideoRWKVConfig, LCRVideoProcessor, exist_ok=True)

__all__ = ["LCRForVideoClassification", "LCROutput", "LCRVideoProcessor", "VideoRWKVConfig"]
