"""For every test."""

import os

from hypothesis import settings

# Threads that wait for each other sleep instead of spinning: on a machine busy with other tests a small XGBoost fit
# takes a tenth of the time. The library reads it when it is loaded, which is after this.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A property says nothing of time: on a busy machine an example may take longer than Hypothesis' 200 ms.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
