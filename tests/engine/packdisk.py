"""The disk under pack files, led by a test: it holds what is to be made durable, or is full."""

import threading

import anyio

from syncagent import files


class PackDisk:
    """An observer that holds or fails the fsync of pack files under their temporary names."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._go_on = threading.Event()
        self._go_on.set()
        self._free = 0
        self.begun = 0
        self.fails_at = -1
        self.is_folder_broken = False

    def hold(self, after: int = 0) -> None:
        """Hold every pack but the first `after`, until `release`."""
        self._free = after
        self._go_on.clear()

    def release(self) -> None:
        self._go_on.set()

    async def wait_held(self, count: int) -> None:
        """Wait until so many packs have been held, and nothing else goes on."""
        with anyio.fail_after(30):
            while self.begun < count:
                await anyio.sleep(0.001)
        await anyio.wait_all_tasks_blocked()

    def __call__(self, step: files.Step) -> None:
        if step.is_done:
            return
        if step.act is files.Act.SYNC_FOLDER and step.path.name == "packs" and self.is_folder_broken:
            raise OSError(28, "No space left on device")
        if step.act is files.Act.SYNC and step.path.suffix == ".tmp":
            with self._lock:
                self.begun += 1
                number = self.begun
            assert number <= self._free or self._go_on.wait(30)
            if number == self.fails_at:
                raise OSError(28, "No space left on device")
