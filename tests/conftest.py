"""For every test."""

import os

# Threads that wait for each other sleep instead of spinning: on a machine busy with other tests a small XGBoost fit
# takes a tenth of the time. The library reads it when it is loaded, which is after this.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
