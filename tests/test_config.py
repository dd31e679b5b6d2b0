import pytest

from keras_capsules import config


def test_kernels_are_switched_on_and_off():
    assert not config.fused_kernels()
    config.set_fused_kernels(True)
    try:
        assert config.fused_kernels()
    finally:
        config.set_fused_kernels(False)
    assert not config.fused_kernels()


@pytest.mark.parametrize("wrong", [1, None, "on"])
def test_bad_argument(wrong):
    with pytest.raises(ValueError, match="`enabled` must be True or False"):
        config.set_fused_kernels(wrong)
