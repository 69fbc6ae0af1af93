"""What docs/embedding.md shows is run, and prints what it says; an ellipsis stands for anything on a line."""

import contextlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import syncagent
from tests.test_readme import README, matches

TEXT = (Path(__file__).parent.parent / "docs" / "embedding.md").read_text(encoding="utf-8")
TOLD_ELSEWHERE = {
    # For the package's own use.
    "Vault.parts", "Transaction.add",
}  # fmt: skip
EXAMPLES = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", TEXT, re.DOTALL)


@pytest.mark.parametrize(("code", "said"), EXAMPLES, ids=[code.split("(")[0] for code, _ in EXAMPLES])
def test_an_example_prints_what_stands_below_it(
    code: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scope: dict[str, object] = {"syncagent": syncagent}
    exec(code, scope)
    example = scope[code.split("(")[0].removeprefix("async ").removeprefix("def ")]
    assert callable(example)

    async def main() -> None:
        home, remote = tmp_path / "home", f"file://{tmp_path}/remote"
        await syncagent.create_vault(home, remote=remote, passphrase="correct horse", kdf=syncagent.FLOOR_KDF)
        vaults = [syncagent.open_vault(home, passphrase="correct horse")]
        if "home" in inspect.signature(example).parameters:
            await anyio.to_thread.run_sync(example, str(home))
            return
        if len(inspect.signature(example).parameters) == 2:
            await syncagent.join_vault(tmp_path / "other", remote=remote, passphrase="correct horse")
            vaults.append(syncagent.open_vault(tmp_path / "other", passphrase="correct horse"))
        async with contextlib.AsyncExitStack() as stack:
            await example(*[await stack.enter_async_context(vault) for vault in vaults])

    anyio.run(main)
    printed = capsys.readouterr().out
    assert matches(said, printed), printed


def test_every_public_call_has_an_example() -> None:
    shown = TEXT + README.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", shown, re.DOTALL))
    missing = {
        f"{cls.__name__}.{name}"
        for cls in (syncagent.Vault, syncagent.Namespace, syncagent.Transaction, syncagent.BlobReader)
        for name in vars(cls)
        if not name.startswith("_") and f".{name}" not in code
    }
    assert missing <= TOLD_ELSEWHERE, missing - TOLD_ELSEWHERE


@pytest.mark.slow
def test_the_examples_are_typed(tmp_path: Path) -> None:
    file = tmp_path / "examples.py"
    file.write_text("import syncagent\n\n\n" + "\n\n".join(code for code, _ in EXAMPLES))
    settings = Path(__file__).parent.parent / "pyproject.toml"
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", settings, file],
        capture_output=True,
        text=True,
        check=False,
        cwd=settings.parent,
    )
    assert found.returncode == 0, found.stdout
