"""No more faults: devices sync until nothing moves."""

from tests.simulation import mishaps
from tests.simulation.sim import Simulation

ROUNDS = 12
"""Rounds of syncs of all devices after which everything must have come to rest."""
_PAST_EVERY_WAIT_S = 25 * 3600


async def heal(simulation: Simulation) -> None:
    """Right clocks, no faults, and syncs until nothing moves. Nobody asks for a retry: time alone helps."""
    for device in simulation.devices:
        device.rules.clear()
        device.is_offline = False
        device.offset_s = 0.0
    last: list[object] = ["never tried"]
    for _ in range(ROUNDS):
        # First past every wait; then, once nothing has moved, at rest, where no acknowledgement is due.
        if last:
            simulation.now += _PAST_EVERY_WAIT_S
            for device in simulation.devices:
                mishaps.age_files(device)
        objects = dict(simulation.store.objects)
        is_at_rest, last = not last, await _sync_all(simulation)
        if is_at_rest and not last and objects == simulation.store.objects:
            return
    raise AssertionError(f"no rest after {ROUNDS} rounds: {last}")


async def _sync_all(simulation: Simulation) -> list[object]:
    moved: list[object] = []
    for device in simulation.devices:
        report = await (await simulation.opened(device)).sync()
        if report.sent or report.fetched or report.failed or report.alarms:
            moved.append((device.name, report))
    return moved
