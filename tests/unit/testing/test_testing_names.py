"""`clusterkit.testing` hands on its names lazily, and the two lists of them are one."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from clusterkit import testing


def names_for_checkers() -> set[str]:
    tree = ast.parse(Path(testing.__file__).read_text())
    (guard,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name for statement in guard.body if isinstance(statement, ast.ImportFrom) for alias in statement.names
    }


def test_what_a_checker_sees_is_what_a_program_gets() -> None:
    assert names_for_checkers() == set(testing._HOME)
    for name in testing._HOME:
        assert getattr(testing, name) is not None
    assert names_for_checkers() <= set(dir(testing))


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Chaos'"):
        _ = testing.Chaos


def test_a_name_loads_no_more_than_it_needs() -> None:
    program = "import sys; from clusterkit.testing import linearizable; sys.exit('clusterkit.node' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=20, check=False).returncode == 0
