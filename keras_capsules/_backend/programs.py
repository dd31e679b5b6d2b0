"""Compilation of functions of tensors."""

from collections.abc import Callable
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary

import keras

from keras_capsules._backend import fused

COMPILER = "inductor"
PROGRAMS = 32  # kept for each owner, the latest ones
_programs, _lock = WeakKeyDictionary(), RLock()


def jit(function: Callable) -> Callable:
    """Compiles a function on JAX and TensorFlow; PyTorch runs it uncompiled.

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
    """Compiles a function whose operations would otherwise run one by one.

    PyTorch compiles the function into few kernels if fused kernels are enabled. JAX
    compiles it if it is called outside of `jit` and its owner belongs to this package;
    code of users is not compiled. In all other cases the function itself runs.

    As with `jax.jit`, the function runs once for each shape and dtype of the inputs.
    Its operations on tensors are compiled, and everything else becomes a constant.
    PyTorch's own tracing is not used, because it reads Python code and may fail at
    users' hooks.

    Args:
        function: function of tensors or tuples of tensors, which returns the same. On
            PyTorch no gradient flows through it. It must not read values of tensors.
        owner: the object that the function belongs to. Compiled programs are deleted
            with it.
        name: name that distinguishes the function from others of the owner.
        constants: function that returns everything else that the function depends on,
            as a hashable tuple. It returns `None` if that is unknown; the function is
            then not compiled.

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
        # PyTorch can trace only one function at a time, and run none meanwhile.
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
        # Within `grad`, JAX does not convert constants to JAX arrays.
        inputs = keras.tree.map_structure(jax.numpy.asarray, inputs)
        config = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
        kinds = ((x.aval, x.sharding) for x in keras.tree.flatten(inputs))
        key = name, fused.fused_kernels(), *config, *known, *kinds
        with _lock:
            programs = _programs.setdefault(owner, {})
        program = programs.get(key)
        if program is None:
            # Unlike a function of `jit`, the program does not refer to the owner.
            program = jax.jit(function).lower(*inputs).compile()
            with _lock:
                _keep(programs, key, program)
        return program(*inputs)

    return call


def not_compiled(function: Callable) -> Callable:
    """Excludes a function from compilation by PyTorch.

    PyTorch's compiler, which Keras or a user may run, can't trace constant NumPy arrays
    and gradients within a gradient.

    Args:
        function: any function.

    Returns:
        The function, which the compiler calls without tracing; with other backends the
        unchanged function.

    Example:

    >>> not_compiled(abs)(-1)
    1
    """
    if keras.backend.backend() != "torch":
        return function
    import torch

    return torch.compiler.disable(function)


def _compile(function, inputs):
    """Returns a compiled function of flat inputs, and the structure of its outputs."""
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
    """Evaluates operations on constants once, since constants are on the host."""
    import torch
    from torch.fx.node import map_arg

    schemas = (getattr(n.target, "_schema", None) for n in program.graph.nodes)
    if any(schema and schema.is_mutable for schema in schemas):
        return  # a tensor that changes in place is not constant
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
