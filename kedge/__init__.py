"""The rooms of kedge: one concern each. Imports point downwards; see ``docs/design.md``."""
