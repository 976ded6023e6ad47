"""Tables from anywhere, one shape inside: sources, snapshots with fingerprints, the prediction log."""

MIRRORED = "-mirrored"
"""What the gateway adds to the id of a request that it mirrors to a candidate: the log holds one row an id, and this
one's answer went to nobody and never has an outcome."""
