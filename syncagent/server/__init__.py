"""The reference server of the HTTP blob API (`docs/protocol.md`): stores sealed objects, opens none.

| file | subject |
|---|---|
| `run.py` | a server's life: bind, answer, drain |
| `app.py` | the calls, and what they answer |
| `requests.py` | what a request says: names, lengths, digests, ranges |
| `openapi.py` | the calls, as a document for tools |
| `problem.py` | answers that are not what was asked for (RFC 9457) |
| `accounts.py` | users and tokens; the only file that knows SQLite |
| `vaults.py` | folders of objects, one for each vault of each user |
| `spool.py` | a body on its way to the disk |
| `usage.py` | how much room each user's objects take |
| `watch.py` | who waits for a change |
| `limits.py` | how much one client may ask for |
| `protocol.py` | connections: time-outs, and requests that are none |
| `observe.py` | access log and metrics |
| `embedded.py` | a server in this process, for demonstrations and tests |

Needs the extra `server`. Imports no crypto: it has no key and no use for one.
"""
