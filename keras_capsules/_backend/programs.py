"""Functions of tensors that a backend compiles."""

from collections.abc import Callable
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary

import keras

from keras_capsules._backend import fused

COMPILER = "inductor"
PROGRAMS = 32  # of an owner, the latest
_programs, _lock = WeakKeyDictionary(), RLock()


def jit(function: Callable) -> Callable:
    """A function that JAX and TensorFlow compile; PyTorch runs it as it is.

    Args:
        function: function of tensors that returns tensors.

    Returns:
        The same function, compiled at its first call.

    Example:

    >>> import keras
    >>> float(jit(lambda x: 2.0 * x)(keras.ops.ones(())))
    2.0
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def compiled(
    function: Callable, owner: Any, name: str, constants: Callable
) -> Callable:
    """A function that is compiled where its operations would run one by one.

    PyTorch compiles it into few kernels where fused kernels are on. JAX compiles it
    where it is called outside of `jit`, if the owner is of this package: code of users
    runs there as it stands. Elsewhere this is the function itself. As with `jax.jit`
    the function runs once for inputs of each shape and dtype, and what it does to
    tensors is compiled; all else is a constant from then on. PyTorch's own tracing
    reads Python code, and would give up at hooks of users that it doesn't know.

    Args:
        function: function of tensors, or tuples of them, that returns the same. On
            PyTorch no gradient flows through it. It must not look at values of tensors.
        owner: what the function belongs to; its programs are dropped with it.
        name: what tells the function from others of the owner.
        constants: function that returns all else that it depends on, a hashable tuple,
            or `None` if that can't be told.

    Returns:
        A function of the same inputs.

    Example:

    >>> import keras
    >>> double = compiled(lambda x: 2.0 * x, keras.layers.Identity(), "double", tuple)
    >>> float(double(keras.ops.ones(())))
    2.0
    """
    if keras.backend.backend() == "jax" and _is_ours(owner):
        return _compiled_by_jax(function, owner, name, constants)
    if not fused.compiles():
        return function
    import torch
    from torch._subclasses import FakeTensor

    def call(*inputs):
        inputs = keras.tree.map_structure(torch.Tensor.detach, inputs)
        tensors, known = keras.tree.flatten(inputs), constants()
        exported = any(isinstance(x, FakeTensor) for x in tensors)
        if known is None or exported or torch.compiler.is_compiling():
            return function(*inputs)
        kinds = ((x.shape, x.stride(), x.dtype, x.device) for x in tensors)
        key = name, *known, *kinds
        # PyTorch traces one function at a time, and runs none meanwhile.
        with _lock:
            programs = _programs.setdefault(owner, {})
            if key not in programs:
                _keep(programs, key, _compile(function, inputs))
            program, outputs = programs[key]
            return keras.tree.pack_sequence_as(outputs, program(*tensors))

    return call


def _is_ours(owner):
    return type(owner).__module__.startswith("keras_capsules.")


def _keep(programs, key, program):
    if len(programs) >= PROGRAMS:
        programs.pop(next(iter(programs)))
    programs[key] = program


def _compiled_by_jax(function, owner, name, constants):
    import jax

    def call(*inputs):
        tensors, known = keras.tree.flatten(inputs), constants()
        if known is None or any(isinstance(x, jax.core.Tracer) for x in tensors):
            return function(*inputs)
        # Within `grad` JAX gives constants as they are.
        inputs = keras.tree.map_structure(jax.numpy.asarray, inputs)
        config = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
        kinds = ((x.aval, x.sharding) for x in keras.tree.flatten(inputs))
        key = name, fused.fused_kernels(), *config, *known, *kinds
        with _lock:
            programs = _programs.setdefault(owner, {})
        program = programs.get(key)
        if program is None:
            # Unlike what `jit` returns, it does not keep the owner.
            program = jax.jit(function).lower(*inputs).compile()
            with _lock:
                _keep(programs, key, program)
        return program(*inputs)

    return call


def not_compiled(function: Callable) -> Callable:
    """Keeps PyTorch's compiler out of a function that Keras or a user compiles.

    It can't follow NumPy arrays of constants and gradients within a gradient.

    Args:
        function: any function.

    Returns:
        The function, as the compiler calls it; with other backends as it is.

    Example:

    >>> not_compiled(abs)(-1)
    1
    """
    if keras.backend.backend() != "torch":
        return function
    import torch

    return torch.compiler.disable(function)


def _compile(function, inputs):
    """A function of the tensors of the inputs, and the structure of its outputs."""
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    structure = None

    def of_tensors(*tensors):
        nonlocal structure
        outputs = function(*keras.tree.pack_sequence_as(inputs, tensors))
        structure = keras.tree.map_structure(lambda x: None, outputs)
        return keras.tree.flatten(outputs)

    program = make_fx(of_tensors)(*keras.tree.flatten(inputs))
    _fold_constants(program)
    return torch.compile(program, backend=COMPILER, dynamic=False), structure


def _fold_constants(program):
    """Computes once what depends on constants alone: they lie on the host."""
    import torch
    from torch.fx.node import map_arg

    schemas = (getattr(n.target, "_schema", None) for n in program.graph.nodes)
    if any(schema and schema.is_mutable for schema in schemas):
        return  # what changes in place is no constant
    values = {}
    for node in program.graph.nodes:
        if node.op == "get_attr":
            values[node] = getattr(program, node.target)
        known = node.all_input_nodes and all(x in values for x in node.all_input_nodes)
        if known and node.op == "call_function":
            args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)
    for index, (node, value) in enumerate(values.items()):
        if isinstance(value, torch.Tensor) and not all(u in values for u in node.users):
            name = f"constant_{index}"
            program.register_buffer(name, value)
            with program.graph.inserting_before(node):
                node.replace_all_uses_with(program.graph.get_attr(name))
    program.graph.eliminate_dead_code()
    program.recompile()
