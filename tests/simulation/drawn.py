"""What the machine draws: contents, names, faults, points at which something ends."""

from functools import partial

from hypothesis import strategies as st

from syncagent.testing.faulty import FAULTS, HONEST, Fault, Rule
from tests.simulation import users
from tests.simulation.crash import Kind, Point
from tests.simulation.sim import BLOBS, NOTES, YEAR_S

KINDS = st.sampled_from(["small", "small", "small", "again", "empty", "medium", "large"])
SMALL_KINDS = st.sampled_from(["small", "again", "empty"])
METADATA = st.sampled_from(
    [{}, {}, {"title": "PLAINTEXT-MARKER"}, {"title": "b", "fs.mode": 1}, {"fs.mode": 2}]
)
NAMES = st.sampled_from(BLOBS)
NOTES_NAMES = st.sampled_from([name for name in BLOBS if name.namespace == NOTES])
DEVICE = st.integers(0, 3)
EDITS = st.lists(st.tuples(NAMES, SMALL_KINDS | st.just("delete")), min_size=1, max_size=4)
PUTS = st.lists(st.tuples(NOTES_NAMES, KINDS), min_size=1, max_size=4)
_FAULTY_CALLS = [
    (method, prefix, fault)
    for method, prefix in (
        ("put", "packs/"),
        ("put", "journal/"),
        ("put", ""),
        ("get", "packs/"),
        ("get", "journal/"),
        ("list", "journal/"),
        ("list", "devices/"),
        ("list", "packs/"),
        ("head", ""),
    )
    for fault in FAULTS[method]
    if fault not in (Fault.HANG, Fault.SLOW)
]
FAULTY_CALLS = st.tuples(
    st.sampled_from(_FAULTY_CALLS), st.sampled_from([call for call in _FAULTY_CALLS if call[2] in HONEST])
)
"""Method and prefix of the name of a call, and what it meets; the second one of an honest remote."""
SKIPPED = st.sampled_from([0, 0, 0, 1, 2])
_SIDE_BY_SIDE = (
    partial(users.sync_beside, is_same_process=True),
    partial(users.sync_beside, is_same_process=False),
)
SIDE_BY_SIDE = st.sampled_from(_SIDE_BY_SIDE)
SEVERAL = st.sampled_from([users.put_many, users.put_at_once, *_SIDE_BY_SIDE])
KEPT_BACK = st.sampled_from(
    [Rule(Fault.REFUSE, "get"), Rule(Fault.CUT_PAGE, "list"), Rule(Fault.CUT_PAGE, "list", times=1)]
)
"""A journal whose batches are not given, or not all listed, also when asked for again, or then they are."""
AWAITS = st.one_of(st.integers(0, 30), st.integers(0, 250))
POINTS = st.one_of(
    st.builds(Point, st.just(Kind.COMMIT), st.integers(0, 9)),
    st.builds(Point, st.just(Kind.CALL), st.integers(0, 24)),
    st.builds(Point, st.just(Kind.AWAIT), AWAITS),
    st.builds(Point, st.just(Kind.CANCEL), AWAITS),
)
EARLY_POINTS = st.one_of(
    st.builds(Point, st.just(Kind.COMMIT), st.integers(0, 3)),
    st.builds(Point, st.sampled_from([Kind.AWAIT, Kind.CANCEL]), st.integers(0, 12)),
)
MISHAPS = st.one_of(
    st.tuples(st.just("offline"), st.booleans()),
    st.tuples(st.just("clock"), st.sampled_from([0.0, YEAR_S, -YEAR_S])),
    st.tuples(st.just("days"), st.sampled_from([0.5, 1.1, 8.0])),
    st.sampled_from(
        [
            (name, None)
            for name in ("restart", "back_up", "restore", "clone", "leave", "save_remote", "restore_remote")
        ]
    ),
)
