"""Where the trained networks are that come with the package."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
# In an installed package, in its repository.
_FOLDERS = (_PACKAGE / "presets", _PACKAGE.parent / "saved_models")


def preset_file(preset: str) -> Path:
    """The `.keras` file of a preset.

    Args:
        preset: its name.

    Returns:
        The file.

    Raises:
        FileNotFoundError: the package was installed without its presets.
    """
    files = [folder / preset / "model.keras" for folder in _FOLDERS]
    for file in files:
        if file.exists():
            return file
    raise FileNotFoundError(f"Preset {preset} is in none of {list(map(str, files))}")
