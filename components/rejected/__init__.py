"""The step of a run whose candidate did not pass: it fails, so that lists of runs show it."""
