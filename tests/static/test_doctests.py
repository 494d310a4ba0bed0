"""Every example in a docstring, in the README and in docs/ that can be run, runs."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import clusterkit

ROOT = Path(__file__).parents[2]
MODULES = sorted(module.name for module in pkgutil.walk_packages(clusterkit.__path__, "clusterkit."))


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str) -> None:
    if name == "clusterkit.__main__":
        return
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=str)
def test_page(path: Path) -> None:
    assert doctest.testfile(str(path), module_relative=False).failed == 0
