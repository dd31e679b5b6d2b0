from keras_capsules.routing._engine import images_of_a_block


def test_a_block_is_chosen_by_its_votes_and_by_the_kernel():
    assert images_of_a_block((1152, 10, 8, 16), rows=1, fields=1) == 64
    assert images_of_a_block((72, 16, 4, 4), rows=4, fields=36) == 16
    # As much as a kernel, which is there anyway.
    assert images_of_a_block((3872, 196, 8, 16), rows=1, fields=1) == 8
    assert images_of_a_block((288, 32, 4, 4), rows=4, fields=900) == 1
    for children in range(1, 2000, 37):
        found = images_of_a_block((children, 7, 4, 4), rows=4, fields=1)
        of_a_block = found * children * 7 * 16
        assert of_a_block <= 2**24 < 2 * of_a_block
