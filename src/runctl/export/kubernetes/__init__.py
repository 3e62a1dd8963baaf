"""A run as manifests for a Kubernetes cluster."""
