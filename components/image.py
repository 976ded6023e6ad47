"""The image a pipeline step runs in."""

STEP_IMAGE = "kedge/step:0.1.0"
"""Name in the compiled specs. The KFP step cache looks at this text, not at the image's digest: `kedge compile --image`
puts the digest in its place, so that new code is a new spec and never a stale cache hit."""
