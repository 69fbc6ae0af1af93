"""No more faults: devices sync until nothing moves."""

from tests.simulation import mishaps
from tests.simulation.holding import want_everything
from tests.simulation.sim import Simulation

ROUNDS = 12
"""Days, on each of which all devices sync, after which one must pass on which nobody writes anything."""
_PAST_EVERY_WAIT_S = 25 * 3600


async def heal(simulation: Simulation) -> None:
    """Right clocks, no faults, and syncs until nothing moves. Nobody asks for a retry: time alone helps."""
    for device in simulation.devices:
        device.rules.clear()
        device.is_offline = False
        device.offset_s = 0.0
    moved: list[object] = []
    for _ in range(ROUNDS):
        # Past every wait, and past the day after which what was read is acknowledged: that must end too.
        simulation.now += _PAST_EVERY_WAIT_S
        for device in simulation.devices:
            mishaps.age_files(device)
        objects = dict(simulation.store.objects)
        moved = await _sync_all(simulation)
        if not moved and objects == simulation.store.objects:
            return
    raise AssertionError(f"no rest after {ROUNDS} days: {moved}")


async def _sync_all(simulation: Simulation) -> list[object]:
    moved: list[object] = []
    for device in simulation.devices:
        await want_everything(simulation, device)
        report = await (await simulation.opened(device)).sync()
        if report.sent or report.fetched or report.failed or report.alarms:
            moved.append((device.name, report))
    return moved
