"""`python -m syncagent.cli`: the command where its script is not on the path."""

from syncagent.cli.main import main

if __name__ == "__main__":
    main()
