"""The local platform: what a cluster does for the release, done by one supervisor on one machine."""
