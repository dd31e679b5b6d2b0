import keras
import numpy as np
import pytest
from helpers import close, gradients

from keras_capsules._backend import fixed_loop, over_blocks, unrolled


@pytest.mark.parametrize("times", [0, 1, 4])
def test_repeat_applies_the_step_so_often(times):
    close(fixed_loop(lambda x: 2.0 * x, keras.ops.ones((3,)), times), [2.0**times] * 3)


def test_a_state_of_several_tensors():
    state = (keras.ops.ones((2,)), (keras.ops.zeros((3,)),))
    a, (b,) = fixed_loop(lambda s: (2.0 * s[0], (s[1][0] + 1.0,)), state, 3)
    close(a, [8.0, 8.0])
    close(b, [3.0, 3.0, 3.0])


@pytest.mark.parametrize("times", [0, 1, 4])
def test_gradient_flows_through_every_pass(times):
    x, factor = np.ones((3,), "float32"), np.float32(1.5)
    slopes = gradients(lambda x, f: fixed_loop(lambda y: f * y, x, times), x, factor)
    np.testing.assert_allclose(slopes[0], [1.5**times] * 3, rtol=1e-6)
    if times:  # the factor has no part in no passes
        np.testing.assert_allclose(slopes[1], 3 * times * 1.5 ** (times - 1), rtol=1e-6)


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_blocks_of_any_size_give_the_same(size, together):
    x = np.arange(5.0 * together * 2, dtype="float32").reshape(5 * together, 2)
    seen = []

    def double(rows):
        seen.append(rows[0].shape[0])
        return (keras.ops.sum(rows[0], axis=0),), (2.0 * rows[0], rows[1] + 1.0)

    rows = (keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(x[:, 0]))
    totals = (keras.ops.zeros((2,)),)
    (total,), outputs = over_blocks(
        double, rows, size, totals, ("float32", "float32"), together
    )
    close(total, x.sum(0))
    close(outputs[0], 2.0 * x)
    close(outputs[1], x[:, 0] + 1.0)
    assert seen[0] == {1: 1, 2: 2, 3: 3, 4: 3, 9: 5}[size] * together


def test_the_last_block_has_zeros_first_and_copies_elsewhere():
    blocks = []

    def keep(rows):
        blocks.append([keras.ops.convert_to_numpy(x).tolist() for x in rows])
        return (), (rows[0],)

    if keras.backend.backend() == "tensorflow":
        pytest.skip("its blocks are those of a graph")
    x = keras.ops.arange(1.0, 4.0)
    over_blocks(keep, (x, 2.0 * x), 2, (), ("float32",))
    assert blocks == [[[1.0, 2.0], [2.0, 4.0]], [[3.0, 0.0], [6.0, 2.0]]]


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="others know the size of a batch"
)
def test_the_number_of_rows_may_be_unknown():
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 2))])
    def double(x):
        _, (y,) = over_blocks(
            lambda rows: ((), (2.0 * rows[0],)), (x,), 3, (), (x.dtype,)
        )
        return y

    for count in (0, 1, 3, 7):
        x = np.random.rand(count, 2).astype("float32")
        close(double(x), 2.0 * x)


def test_unrolled_loops_give_the_same():
    x = np.random.rand(7, 2).astype("float32")
    seen = []

    def double(rows):
        seen.append(rows[0].shape[0])
        return (), (2.0 * rows[0],)

    rows = (keras.ops.convert_to_tensor(x),)
    with unrolled():
        cubed = fixed_loop(lambda y: y * rows[0], rows[0], times=2)
        _, (doubled,) = over_blocks(double, rows, 3, (), ("float32",))
    close(cubed, x**3)
    close(doubled, 2.0 * x)
    assert seen == [7]
    over_blocks(double, rows, 3, (), ("float32",))
    assert seen[1] == 3


def test_no_call_outside_of_a_program_compiles_anew(compilations):
    x = keras.ops.ones((5, 2))

    def call():
        doubled = fixed_loop(lambda y: 2.0 * y, x, times=3)

        def block(rows):
            return (keras.ops.sum(rows[0]),), (doubled[0] * rows[0],)

        return over_blocks(block, (x,), 2, (keras.ops.zeros(()),), ("float32",))

    call()
    before = compilations()
    (total,), (rows,) = call()
    assert compilations() == before
    close(total, 10.0)
    close(rows, 8.0 * np.ones((5, 2)))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="looks into a program")
def test_a_program_of_jax_has_a_loop():
    import jax

    program = jax.make_jaxpr(lambda x: fixed_loop(lambda y: 2.0 * y, x, times=9))(1.0)
    assert str(program).count(" mul ") == 1
