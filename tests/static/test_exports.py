"""What `import clusterkit` gives, and what it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import clusterkit

SOURCE = ast.parse(Path(clusterkit.__file__).read_text())


def _typed_names() -> dict[str, str]:
    """What type checkers see: name -> module, from the TYPE_CHECKING block."""
    block = next(node for node in SOURCE.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: node.module or "" for node in imports for alias in node.names}


def test_checkers_and_programs_see_the_same_names() -> None:
    assert _typed_names() == clusterkit._HOME


def test_every_exported_name_can_be_had() -> None:
    for name in clusterkit._HOME:
        assert getattr(clusterkit, name) is not None
    assert set(clusterkit._HOME) <= set(dir(clusterkit))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = clusterkit.nonsense


@pytest.mark.parametrize(
    "name",
    ["NodeId", "ClusterError", "HashRing", "VectorClock", "HybridClock", "DottedVersionVectorSet", "BoundedLoad"],
)
def test_a_pure_name_loads_no_asyncio(name: str) -> None:
    program = f"import sys, clusterkit; clusterkit.{name}; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=20, check=False).returncode == 0
