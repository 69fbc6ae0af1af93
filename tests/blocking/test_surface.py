"""The blocking library has what the asynchronous one has, with the same parameters."""

import inspect
import re
from collections.abc import Callable

import pytest

import syncagent
from syncagent import blocking
from syncagent.blocking.faces import Face

FACES = {
    syncagent.Vault: blocking.Vault,
    syncagent.Namespace: blocking.Namespace,
    syncagent.Transaction: blocking.Transaction,
    syncagent.BlobReader: blocking.BlobReader,
}
ONLY_ASYNC = {"Vault.parts", "Transaction.add"}
"""For the package's own use."""
ONLY_BLOCKING = {
    # Where no `with` block can be, and callbacks.
    "Vault.open", "Vault.close", "Vault.listen",
    # What each stands for.
    *(f"{cls.__name__}.{inside}" for cls in FACES for inside in ("inner", "thread")),
}  # fmt: skip


def surface(cls: type) -> set[str]:
    """Public names of a class, and those that its constructor sets."""
    names = {name for name in dir(cls) if not name.startswith("_")}
    source = inspect.getsource(vars(cls).get("__init__", Face.__init__))
    names |= set(re.findall(r"\bself\.([a-z]\w*)(?:: [^=]*)? =", source))
    return {f"{cls.__name__}.{name}" for name in names}


@pytest.mark.parametrize(("theirs", "ours"), FACES.items(), ids=lambda cls: cls.__name__)
def test_every_call_is_there_and_no_other(theirs: type, ours: type) -> None:
    """A new call of the library is a line in `syncagent/blocking/faces.py`."""
    assert surface(theirs) - ONLY_ASYNC == surface(ours) - ONLY_BLOCKING


@pytest.mark.parametrize(("theirs", "ours"), FACES.items(), ids=lambda cls: cls.__name__)
def test_every_call_takes_what_the_asynchronous_one_takes(theirs: type, ours: type) -> None:
    for name, call in vars(theirs).items():
        if name.startswith("_") or f"{theirs.__name__}.{name}" in ONLY_ASYNC or not inspect.isfunction(call):
            continue
        wanted = list(inspect.signature(call).parameters.values())
        found = list(inspect.signature(getattr(ours, name)).parameters.values())
        assert found == wanted, name


@pytest.mark.parametrize("cls", FACES, ids=lambda cls: cls.__name__)
def test_each_line_names_its_own_call(cls: type) -> None:
    """Not the one of the line above it."""
    ours = FACES[cls]
    for name, call in vars(ours).items():
        wrapped = getattr(call, "__wrapped__", None)
        if wrapped is not None:
            assert wrapped is getattr(cls, name), name


def test_functions_that_wait_or_open_are_there() -> None:
    wanted = {
        name
        for name in syncagent.__all__
        if inspect.isfunction(value := getattr(syncagent, name)) or inspect.iscoroutinefunction(value)
    }
    found: dict[str, Callable[..., object]] = {
        name: getattr(blocking, name)
        for name in blocking.__all__
        if inspect.isfunction(getattr(blocking, name))
    }
    assert wanted == set(found) - {"stream"}
    for name in wanted:
        assert inspect.signature(found[name]) == inspect.signature(getattr(syncagent, name)), name
