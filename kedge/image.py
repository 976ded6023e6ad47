"""Which kedge this is, and the image a pipeline step of it runs in."""

VERSION = "0.1.0"
"""As in pyproject.toml; an image has the code without its package."""
STEP_IMAGE = f"kedge/step:{VERSION}"
"""Name in the compiled specs. The KFP step cache looks at this text, not at the image's digest: `kedge compile --image`
puts the digest in its place, so that new code is a new spec and never a stale cache hit."""
