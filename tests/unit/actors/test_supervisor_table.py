"""The supervisors' table, and random scripts, with real actors: they do as the machine does, which does as OTP."""

import pytest

from tests.unit.actors.supervised import perform
from tests.unit.core.supervision_rehearsal import rehearse
from tests.unit.core.supervision_table import ROWS, Row, random_row


@pytest.mark.simulation
@pytest.mark.parametrize("row", ROWS, ids=[row.title for row in ROWS])
async def test_a_supervisor_does_as_the_table_says(row: Row) -> None:
    assert await perform(row) == row.seen


@pytest.mark.simulation
async def test_a_supervisor_does_as_the_machine_with_random_scripts() -> None:
    for seed in range(100):
        row = random_row(seed)
        assert await perform(row) == rehearse(row), seed
