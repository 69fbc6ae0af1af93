"""Which vaults a token has, for a URL that names none."""

import time

import anyio

from syncagent.errors import ConfigError, VaultNotFound
from syncagent.remote.access import Access
from syncagent.remote.http.address import Address
from syncagent.remote.http.answers import MAX_JSON_BYTES, Call, failure, quoted, read_vaults
from syncagent.remote.http.client import CLOSE_S, HttpClient, open_client

_MOST_NAMED = 20


async def only_vault(address: Address, access: Access) -> str:
    """The name of the token's only vault at a server.

    Raises:
        ConfigError: it has several; they are listed.
        VaultNotFound: it has none.
        RemoteError: the server does not answer as it should.
    """
    client = await open_client(address, access)
    try:
        names = await list_vaults(client)
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await client.aclose()
    if not names:
        raise VaultNotFound(
            "this token has no vault at the server",
            todo="run `syncagent init` to make one, or check the token",
        )
    if len(names) > 1:
        listed = ", ".join(names[:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")
        raise ConfigError(
            f"this token has {len(names)} vaults at the server: {quoted(listed)}",
            todo=f"name one at the end of the address, as in {address.with_vault(names[0]).url}",
        )
    return names[0]


async def list_vaults(client: HttpClient) -> list[str]:
    """The names of the token's vaults, in order. `RemoteError` when the server does not tell."""
    answer = await client.request("GET", "/vaults", most_bytes=MAX_JSON_BYTES)
    if answer.status != 200:
        raise failure(Call("listing the token's vaults"), answer, time.time())
    return read_vaults(answer)
