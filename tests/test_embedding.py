"""What docs/embedding.md shows is run, and prints what it says; an ellipsis stands for anything on a line."""

import contextlib
import inspect
import re
from pathlib import Path

import anyio
import pytest

import syncagent
from tests.test_readme import matches

TEXT = (Path(__file__).parent.parent / "docs" / "embedding.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", TEXT, re.DOTALL)


@pytest.mark.parametrize(("code", "said"), EXAMPLES, ids=[code.split("(")[0] for code, _ in EXAMPLES])
def test_an_example_prints_what_stands_below_it(
    code: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scope: dict[str, object] = {"syncagent": syncagent}
    exec(code, scope)
    example = scope[code.split("(")[0].removeprefix("async def ")]
    assert callable(example)

    async def main() -> None:
        home, remote = tmp_path / "home", f"file://{tmp_path}/remote"
        await syncagent.create_vault(home, remote=remote, passphrase="correct horse", kdf=syncagent.FLOOR_KDF)
        vaults = [syncagent.open_vault(home, passphrase="correct horse")]
        if len(inspect.signature(example).parameters) == 2:
            await syncagent.join_vault(tmp_path / "other", remote=remote, passphrase="correct horse")
            vaults.append(syncagent.open_vault(tmp_path / "other", passphrase="correct horse"))
        async with contextlib.AsyncExitStack() as stack:
            await example(*[await stack.enter_async_context(vault) for vault in vaults])

    anyio.run(main)
    printed = capsys.readouterr().out
    assert matches(said, printed), printed


def test_there_are_examples() -> None:
    assert EXAMPLES
