"""``python -m pipelines.cli``: the command without its script."""

from pipelines.cli import main

main()
