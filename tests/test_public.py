"""The public API: its names, and that it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import resilience_instrument


@pytest.mark.parametrize("name", resilience_instrument.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """What is promised can be had, and is documented."""
    value = getattr(resilience_instrument, name)

    assert isinstance(value, str) or value.__doc__


def test_only_public_names_are_listed() -> None:
    """Completion shows what is promised and nothing else."""
    assert sorted(resilience_instrument.__all__) == dir(resilience_instrument)


def test_another_name_is_an_attribute_error() -> None:
    """With the module's name, as Python says it."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = resilience_instrument.nothing


def test_importing_the_package_imports_nothing_else() -> None:
    """Launcher and boot stage pass through it in every process."""
    script = (
        "import sys; before = set(sys.modules); import resilience_instrument;"
        " print(sorted(set(sys.modules) - before - {'__future__'}))"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )

    assert "['resilience_instrument']\n" == done.stdout
