"""What the store keeps of the past: bundles, snapshots and pages that nothing needs any more are deleted."""
