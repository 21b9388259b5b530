//! What Edict does to a Kubernetes cluster.
