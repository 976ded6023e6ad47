"""The exit step of every run: how it ended, told to people."""
