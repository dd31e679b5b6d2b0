"""Loading of trained networks: presets of the package, and saved networks."""

import os
from collections.abc import Collection
from pathlib import Path

import keras

_PACKAGE = Path(__file__).parents[1]
# The first is in an installed package, the second in the repository.
_FOLDERS = (_PACKAGE / "presets", _PACKAGE.parent / "saved_models")
# The name of the file in the folder of a trained network.
FILE = "model.keras"


def load_preset(preset: str | os.PathLike, names: Collection[str]) -> keras.Model:
    """Loads a trained network, not compiled.

    Args:
        preset: one of `names`, a `.keras` file, a folder that contains `model.keras`,
            or `"hf://USER/NAME"`, a repository of the Hugging Face hub.
        names: names of the presets of the package.

    Returns:
        The network.

    Raises:
        FileNotFoundError: the package was installed without its presets.
        ImportError: `huggingface_hub` is needed and not installed.
        ValueError: `preset` is none of these.
    """
    path = str(preset)
    if preset in names:
        path = preset_file(preset)
    elif not path.startswith("hf://"):  # Keras loads from the hub itself
        path = Path(preset) / FILE if Path(preset).is_dir() else Path(preset)
        if not path.is_file() or path.suffix != ".keras":
            raise ValueError(
                f"Argument `preset` must be one of {tuple(names)}, a .keras file, a "
                f"folder that contains {FILE}, or 'hf://USER/NAME'. "
                f"Received: preset={preset!r}"
            )
    return keras.saving.load_model(path, compile=False)


def preset_file(preset: str) -> Path:
    """Returns the path of the `.keras` file of a preset.

    Args:
        preset: name of the preset.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: the package was installed without its presets.
    """
    files = [folder / preset / FILE for folder in _FOLDERS]
    for file in files:
        if file.exists():
            return file
    raise FileNotFoundError(f"Preset {preset} is in none of {list(map(str, files))}")
