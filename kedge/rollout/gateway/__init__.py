"""The release driver for KServe behind the Gateway API."""
