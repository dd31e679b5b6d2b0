from keras_capsules._backend import is_first_process


def test_a_process_alone_is_the_first():
    assert is_first_process()
