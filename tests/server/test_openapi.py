"""The description of the API is what the server does: requests made from it, and what they are answered."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from syncagent.names import is_listable_prefix, is_object_name, is_vault_name
from syncagent.server import openapi
from syncagent.server.embedded import EmbeddedServer
from tests.server.running import RECORD, batch_name, client_of
from tests.server.test_security import BAD_NAMES, BAD_VAULTS

EXAMPLES = 10


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedServer, str]]:
    with EmbeddedServer(tmp_path_factory.mktemp("server") / "data") as server:
        token = server.add_user("alice")
        with client_of(server.url, token) as client:
            client.put("/v1/vaults/default")
        yield server, token


schema = schemathesis.openapi.from_dict(openapi.document())


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_what_is_described_is_what_happens(
    case: "schemathesis.Case[Any]", served: tuple[EmbeddedServer, str]
) -> None:
    if "timeout" in (case.query or {}):
        case.query["timeout"] = 0  # how long to wait is no question of form
    server, token = served
    case.call_and_validate(
        base_url=server.url,
        headers={"Authorization": f"Bearer {token}"},
        # A request in good form may still find its object there, absent, or shorter than its range.
        excluded_checks=[positive_data_acceptance],
    )


def test_the_patterns_are_the_grammar() -> None:
    objects = ["vault", RECORD, batch_name(1), f"packs/{'0' * 64}", f"keys/{'0' * 32}", "vault\n", "xvault"]
    prefixes = ["packs/", "pack/", "packs", "journal/", f"journal/{'0' * 32}/", "journal/0/", "packs/\n"]
    vaults = ["a", "default", "x" * 64, "x" * 65, "a\n"]
    for name in [*BAD_NAMES, *BAD_VAULTS, *objects, *prefixes, *vaults]:
        for pattern, is_legal in (
            (openapi._OBJECT, is_object_name),
            (openapi._PREFIX, is_listable_prefix),
            (openapi._VAULT, is_vault_name),
        ):
            # Python's $ also stands before a last line feed; that of JSON Schema (ECMA 262) does not.
            assert bool(re.search(pattern.replace("$", r"\Z"), name)) == is_legal(name), name
