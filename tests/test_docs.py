"""Documents that are made from the code say what the code says."""

import re
from pathlib import Path

from syncagent.cache.status import mermaid

DESIGN = Path(__file__).parent.parent / "docs" / "design.md"


def test_the_status_diagram_is_drawn_from_the_transition_table() -> None:
    text = DESIGN.read_text(encoding="utf-8")
    found = re.search(
        r"<!-- status-diagram -->\n```mermaid\n(.*?)```\n<!-- /status-diagram -->", text, re.DOTALL
    )
    assert found is not None
    assert found.group(1).strip() == mermaid().strip(), "paste syncagent.cache.status.mermaid() there"


def test_the_tests_that_a_document_names_are_there() -> None:
    named = set(re.findall(r"`(tests/[^`]*)`", DESIGN.read_text(encoding="utf-8")))
    assert "tests/engine/test_rollback.py" in named
    assert sorted(name for name in named if not (DESIGN.parents[1] / name).exists()) == []
