"""The release driver for KServe in Knative mode: two revisions of one InferenceService."""
