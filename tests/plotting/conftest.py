from pathlib import Path

import keras

# The docstrings' examples draw on every backend; what they draw is looked at once.
collect_ignore = [
    path.name
    for path in Path(__file__).parent.glob("test_*.py")
    if path.name != "test_inputs.py" and keras.backend.backend() != "tensorflow"
]
