"""A remote behind HTTP: the client of the blob API in `docs/protocol.md`.

| file | subject |
|---|---|
| `address.py` | what a URL means |
| `client.py` | connections; the only file that knows httpx, whose errors it translates |
| `wide.py` | larger reads from the network |
| `tls.py` | which certificates count |
| `answers.py` | what statuses and bodies mean; nothing of the network |
| `remote.py` | `HttpRemote`: the calls of a `Remote` as requests |
| `vaults.py` | which vaults a token has |
"""
