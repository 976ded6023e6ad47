"""``python -m kedge.cli``: the command without its script."""

from kedge.cli import main

main()
