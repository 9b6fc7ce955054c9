"""The package as a whole: what importing it costs and drags in."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "jax", "flax", "tensorflow", "cv2", "grain")


@pytest.mark.parametrize("statement", ["import vitpose_jax", "import vitpose_jax.cli"])
def test_import_is_light(statement: str) -> None:
    code = f"{statement}; import sys; print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_public_names_exist() -> None:
    import vitpose_jax

    for name in vitpose_jax.__all__:
        assert getattr(vitpose_jax, name).__name__ == name


def test_help_lists_subcommands() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "vitpose_jax.cli", "--help"], capture_output=True, text=True
    )
    assert out.returncode == 0
    for command in ("predict", "prepare", "quickstart", "export", "forecast"):
        assert command in out.stdout
