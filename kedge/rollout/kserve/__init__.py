"""What both drivers of KServe share: the Kubernetes API, addresses, pods in words, model servers that count."""
