"""Tables from anywhere, one shape inside: sources, snapshots with fingerprints, the prediction log."""
