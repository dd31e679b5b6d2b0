import os
from importlib.metadata import version
from pathlib import Path

# JAX compiles every operation of every shape anew, and a test uses it once: what
# the optimization of the code costs is never earned back. What one worker has
# compiled the others find in the cache.
if os.environ.get("KERAS_BACKEND") == "jax" and version("jax").startswith("0.10."):
    # The former emitters of fusions compile twice as fast. XLA stops at a flag that it
    # does not know, so this is for the versions that were tried, with TensorFlow 2.21.
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
    )
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache/jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Without a GPU Triton interprets kernels, if it is told before it is imported.
if not Path("/dev/nvidia0").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Whether kernels are used is what some tests set; the others are the same everywhere.
os.environ.setdefault("KERAS_CAPSULES_FUSED_KERNELS", "0")

# There is a worker for each core; more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import pytest


def pytest_collection_modifyitems(items):
    # The file that takes longest: as the last one it would keep one worker alone.
    items.sort(key=lambda item: item.path.name != "test_testing.py")


@pytest.fixture(autouse=True)
def fresh_keras():
    """Every test starts from the same seed and leaves the policy as it was."""
    policy = keras.config.dtype_policy()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture(scope="session")
def compilations():
    """How often JAX has compiled since the session began; 0 on other backends."""
    found = []

    def listen(name, *_, **__):
        if name == "/jax/core/compile/backend_compile_duration":
            found.append(name)

    if keras.backend.backend() == "jax":
        import jax

        jax.monitoring.register_event_duration_secs_listener(listen)
    return lambda: len(found)
