"""The command `syncagent`."""
