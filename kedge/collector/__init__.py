"""The service beside the models: predictions, labels and checks in; the prediction log, metrics and readiness out."""
