"""The model server: a verified bundle behind KServe's protocols, and the events that tell what it predicted."""
