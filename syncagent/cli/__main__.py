"""Where the command begins, as a script and as `python -m syncagent.cli`.

It loads the rest inside its own `try`: Ctrl-C while that is being loaded ends like any other.
"""

import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """The entry point of the command."""
    try:
        from syncagent.cli.main import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt as exc:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what was half loaded is loaded again to say so
        from syncagent.cli import exit as exits
        from syncagent.cli.output import Output

        code = exits.tell(exc, Output(is_json="--json" in sys.argv))
    sys.exit(code)


if __name__ == "__main__":
    main()
