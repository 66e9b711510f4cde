"""Training options that contradict each other are refused in a line that names them."""

import pytest

from common.errors import InputError
from config import parser
from config.modes import AUGMENTATION as AUGMENTATION_OPTIONS
from training import recipes
from training.option_checks import AUGMENTATION, check


def with_recipe(*words):
    options = parser.parse("train", list(words))
    return recipes.apply(options, recipes.choose(options))


def checked(*words, size=224):
    return check(with_recipe(*words), size)


@pytest.mark.parametrize("size, words, facts", [
    (71, ["--backbone", "Xception"], None),
    (70, ["--backbone", "Xception"], ["--input_size: 70", "Xception", "71"]),
    (224, ["--backbone", "EfficientNetB3", "--block_attention", "cbam"], None),
    (224, ["--backbone", "ResNet50", "--block_attention", "cbam"],
     ["--block_attention: cbam", "ResNet50", "EfficientNetB0 to B7"]),
    (224, ["--backbone", "hub:vit_base", "--block_attention", "none"], ["--block_attention: none"]),
    (224, ["--backbone", "hub:vit_base", "--norm", "group"], ["--norm: group", "hub:vit_base"]),
    (224, ["--pooling", "bilinear", "--bilinear_dim", "64"], None),
    (224, ["--pooling", "gem", "--bilinear_dim", "64"], ["--bilinear_dim: 64", "--pooling gem"]),
    (224, ["--loss", "focal", "--focal_gamma", "3"], None),
    (224, ["--focal_gamma", "3"], ["--focal_gamma: 3", "--loss cross_entropy", "--loss focal"]),
    (224, ["--focal_gamma", "2"], None),  # as a run's own options.yaml has it
    (224, ["--mixup", "0.2", "--batch_size", "2"], None),
    (224, ["--mixup", "0.2", "--batch_size", "1"], ["--mixup: 0.2", "--batch_size 1"]),
    (224, ["--cutmix", "1", "--batch_size", "1"], ["--cutmix: 1", "--batch_size 1"]),
    (224, ["--freeze_epochs", "30", "--epochs", "30"], None),
    (224, ["--freeze_epochs", "31", "--epochs", "30"], ["--freeze_epochs: 31", "30 of --epochs"]),
    (224, ["--minutes", "5", "--epochs", "3"], ["--minutes: 5", "--epochs 3"]),
    (224, ["--linear_head", "--pooling", "gem"], ["--linear_head", "avg or max", "--pooling gem"]),
    (224, ["--linear_head", "--attention", "cbam"], ["--linear_head", "--attention cbam"]),
    (224, ["--pooling", "gem"], None),
    (224, ["--class_weights", "balanced", "--sampler", "balanced"],
     ["--class_weights: balanced", "--sampler balanced"]),
    (224, ["--cache_features"], ["--cache_features", "--freeze_epochs"]),
    (224, ["--cache_features", "--freeze_epochs", "2", "--zoom", "0.1", "--mixup", "0.2"],
     ["--cache_features", "--zoom, --mixup"]),
    (224, ["--cache_features", "--freeze_epochs", "2", "--zoom", "0"], None),
])
def test_contradictions(size, words, facts):
    if facts is None:
        checked(*words, size=size)
        return
    with pytest.raises(InputError) as error:
        checked(*words, size=size)
    assert "\n" not in str(error.value)
    for fact in facts:
        assert fact in str(error.value)


def test_cached_features_switch_augmentation_off():
    found = checked("--cache_features", "--freeze_epochs", "2")
    assert {name: getattr(found, name) for name in AUGMENTATION} == AUGMENTATION
    assert set(AUGMENTATION) == set(AUGMENTATION_OPTIONS)
    assert checked() == with_recipe()
