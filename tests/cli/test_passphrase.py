"""Where the passphrase comes from, in which order, and that it never shows."""

import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from syncagent.cli import passphrase
from syncagent.cli.output import Output
from syncagent.cli.passphrase import Secret, find_new_passphrase, find_recovery_code, find_secret
from syncagent.crypto.recovery import new_recovery_code
from syncagent.errors import ConfigError, WrongPassphrase
from tests.cli.shell import PASSPHRASE, Shell


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A person who types; what they were asked."""
    asked: list[str] = []

    def prompt(text: str, **options: object) -> str:
        assert options["hide_input"] and options["err"]
        asked.append(text + (" twice" if options["confirmation_prompt"] else ""))
        return "typed"

    monkeypatch.setattr(passphrase, "_has_terminal", lambda: True)
    monkeypatch.setattr(click, "prompt", prompt)
    return asked


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """An installed keyring."""
    stored: dict[tuple[str, str], str] = {}
    module = SimpleNamespace(get_password=lambda service, user: stored.get((service, user)))
    monkeypatch.setitem(sys.modules, "keyring", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "keyring" else None)
    return stored


def found(
    environment: dict[str, str] | None = None, file: Path | None = None, command: str | None = None
) -> Secret:
    return find_secret(
        environment or {}, None if file is None else str(file), command, vault="default", output=Output()
    )


def test_the_order(tmp_path: Path, terminal: list[str], keyring: dict[tuple[str, str], str]) -> None:
    file = tmp_path / "file"
    file.write_text("from the file\nsecond line\n")
    command = f"cat {file}"
    keyring["syncagent", "default"] = "from the keyring"
    environment = {"SYNCAGENT_PASSPHRASE": "from the environment"}
    assert found(environment, file, command) == Secret(passphrase="from the environment")
    assert found({"SYNCAGENT_PASSPHRASE": ""}, file, "echo not this") == Secret(passphrase="from the file")
    assert found({}, None, "echo from the command") == Secret(passphrase="from the command")
    assert found() == Secret(passphrase="from the keyring")
    assert terminal == []
    keyring.clear()
    assert found() == Secret(passphrase="typed")
    assert terminal == ["Passphrase of vault default"]


def test_a_new_passphrase_is_asked_for_twice(terminal: list[str]) -> None:
    assert find_new_passphrase({}, None, None, vault="work", output=Output()) == "typed"
    assert terminal == ["New passphrase for vault work twice"]


def test_a_recovery_code_is_asked_for(terminal: list[str]) -> None:
    assert find_recovery_code({}, output=Output()) == Secret(recovery_code="typed")
    code = new_recovery_code()
    assert find_recovery_code({"SYNCAGENT_RECOVERY_CODE": code}, output=Output()).recovery_code == code


@pytest.mark.parametrize(("typed", "code"), [(EOFError(), 5), (KeyboardInterrupt(), 130)])
def test_the_end_of_input_gives_no_passphrase_and_ctrl_c_interrupts(
    typed: BaseException, code: int, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(prompt: str) -> str:
        raise typed

    monkeypatch.setattr(passphrase, "_has_terminal", lambda: True)
    monkeypatch.setattr("click.termui.hidden_prompt_func", read)
    nothing = {"SYNCAGENT_PASSPHRASE": ""}
    done = shell("status", environment=nothing)
    assert done.code == code
    said = done.err.strip().splitlines()[-1]
    assert said.startswith("syncagent: ")
    assert ("SYNCAGENT_PASSPHRASE" in said) == (code == 5)


def test_a_keyring_that_fails_is_passed_over(terminal: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: str) -> str:
        raise RuntimeError("no session")

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_password=locked))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert found() == Secret(passphrase="typed")


@pytest.mark.parametrize(
    ("line", "passphrase"),
    [
        (b"two words\n", "two words"),
        (b"  spaces count \n", "  spaces count "),
        (b"no line end", "no line end"),
        (b"windows\r\n", "windows"),
        ("ünïcode\n".encode(), "ünïcode"),
        (b"first\nsecond\n", "first"),
    ],
)
def test_only_the_line_end_is_stripped(line: bytes, passphrase: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(line)
    assert found(file=tmp_path / "file") == Secret(passphrase=passphrase)
    assert found(command=f"cat {tmp_path / 'file'}") == Secret(passphrase=passphrase)


def test_what_is_not_utf_8_is_refused_without_showing_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hunter2\xff\n")
    with pytest.raises(ConfigError) as raised:
        found(file=tmp_path / "file")
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None and raised.value.__suppress_context__


def test_a_command_that_fails_is_not_made_up_for(terminal: list[str]) -> None:
    with pytest.raises(WrongPassphrase, match="exit code 3"):
        found(command="sh -c 'echo half; exit 3'")
    assert terminal == []


def test_a_recovery_code_does_where_a_passphrase_does() -> None:
    code = new_recovery_code()
    assert found({"SYNCAGENT_PASSPHRASE": code}) == Secret(recovery_code=code)
    typo = code[:-1] + ("0" if code[-1] != "0" else "1")
    assert found({"SYNCAGENT_PASSPHRASE": typo}) == Secret(passphrase=typo)


def test_it_does_not_show() -> None:
    assert "hunter2" not in repr(Secret(passphrase="hunter2"))
    assert "hunter2" not in repr(Secret(recovery_code="hunter2"))


def test_before_and_after_the_command(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(PASSPHRASE + "\n")
    nothing = {"SYNCAGENT_PASSPHRASE": ""}
    shell("--passphrase-file", str(tmp_path / "file"), "status", environment=nothing).ok()
    shell("status", "--passphrase-file", str(tmp_path / "file"), environment=nothing).ok()
    shell("status", "--passphrase-command", f"echo {PASSPHRASE}", environment=nothing).ok()
    shell("--passphrase-command", f"echo {PASSPHRASE}", "status", environment=nothing).ok()


def test_standard_input_is_left_to_the_content(shell: Shell) -> None:
    nothing = {"SYNCAGENT_PASSPHRASE": ""}
    command = f"sh -c 'cat; echo {PASSPHRASE}'"
    done = shell.run_process(
        "put", "n/a", "-", "--passphrase-command", command, stdin=b"content", environment=nothing
    )
    done.ok()
    assert shell("get", "n/a").ok().stdout == b"content"


def test_a_wrong_passphrase_is_not_repeated(shell: Shell) -> None:
    done = shell("status", "-v", environment={"SYNCAGENT_PASSPHRASE": "hunter2"})
    assert done.code == 5
    assert "hunter2" not in done.err
