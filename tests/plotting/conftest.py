import keras

# The docstrings' examples draw on every backend; what they draw is looked at once.
collect_ignore_glob = [] if keras.backend.backend() == "tensorflow" else ["test_*.py"]
