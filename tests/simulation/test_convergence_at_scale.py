"""A little of what `tests/campaign/convergence.py` does at length."""

import pytest

from tests.campaign.convergence import converge

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_devices_that_are_often_offline_end_up_equal(anyio_backend: str) -> None:
    traffic = await converge(devices=5, blobs=60, operations=500, seed=1)
    assert traffic.batches < 100
