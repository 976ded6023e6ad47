"""The pipelines, how they are compiled and submitted, and the ``kedge`` command."""
