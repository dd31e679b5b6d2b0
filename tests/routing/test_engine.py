from keras_capsules.routing import _engine
from keras_capsules.routing._engine import images_of_a_block


def test_a_block_is_chosen_by_its_votes_and_by_the_kernel():
    assert images_of_a_block((1152, 10, 8, 16), rows=1, fields=1) == 16
    assert images_of_a_block((72, 16, 4, 4), rows=4, fields=36) == 4
    # As much as a kernel, which is there anyway.
    assert images_of_a_block((3872, 196, 8, 16), rows=1, fields=1) == 8
    assert images_of_a_block((288, 32, 4, 4), rows=4, fields=900) == 1
    for children in range(1, 2000, 37):
        found = images_of_a_block((children, 7, 4, 4), rows=4, fields=1)
        of_a_block = found * children * 7 * 16
        assert of_a_block <= 2**22 < 2 * of_a_block


def test_an_accelerator_has_larger_blocks(monkeypatch):
    monkeypatch.setattr(_engine, "accelerator_memory", lambda: 60 * 10**9)
    # 512 · 1152 · 10 · 16 components take 377 MB of 1,500.
    assert images_of_a_block((1152, 10, 8, 16), rows=1, fields=1) == 1024
    assert images_of_a_block((3872, 196, 8, 16), rows=1, fields=1) == 16


def test_blocks_without_votes_are_larger():
    found = images_of_a_block((3872, 196, 8, 16), rows=1, fields=1, kept=False)
    assert found == 64
