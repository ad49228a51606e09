from __future__ import annotations

from dataclasses import replace

import pytest

from videorwkv.errors import ConfigError
from videorwkv.models import LCRConfig, create_model, list_models, model_config, presets
from videorwkv.models.presets import register_model


@pytest.fixture
def own_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Presets registered in a test are gone after it."""
    monkeypatch.setattr(presets, "_PRESETS", dict(presets._PRESETS))


def test_an_own_preset(own_presets: None) -> None:
    @register_model
    def my_model() -> LCRConfig:
        return replace(model_config("lcr_nano"), depth=1)

    assert "my_model" in list_models()
    assert model_config("my_model").depth == 1
    assert my_model().depth == 1

    with pytest.raises(ConfigError, match="'my_model' exists already"):
        register_model(my_model)


def test_list_models_by_glob() -> None:
    assert list_models() == sorted(list_models())
    assert {"lcr_paper", "lcr_tiny", "lcr_nano", "lcr_pico", "lcr_lite"} <= set(list_models())
    assert list_models("*_nano") == ["lcr_nano"]
    assert list_models("vit*") == []


def test_create_model_with_overrides() -> None:
    model = create_model("lcr_nano", num_classes=27, depth=1, width=32, edges="sobel")
    assert model.config == replace(
        model_config("lcr_nano"), num_classes=27, depth=1, width=32, edges="sobel"
    )
    assert model.head.out_features == 27
    assert len(model.layers) == 1


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown option 'num_clases'.*'num_classes'"):
        create_model("lcr_nano", num_clases=27)
