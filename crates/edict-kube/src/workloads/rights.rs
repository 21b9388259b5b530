//! What [`Workloads`](super::Workloads) may do, and nothing else: a role is made from it.

/// Rights that running jobs and functions takes, in the namespace of the pods: API group, resource, verbs. Secrets cannot be
/// listed: whoever may, may read all of them.
pub const RIGHTS: &[(&str, &str, &[&str])] = &[
    ("batch", "jobs", &["get", "list", "watch", "create", "delete"]),
    ("apps", "deployments", &["get", "list", "watch", "create", "patch", "delete"]),
    ("autoscaling", "horizontalpodautoscalers", &["get", "list", "watch", "create", "patch", "delete"]),
    ("", "services", &["get", "list", "watch", "create", "patch", "delete"]),
    ("", "secrets", &["get", "create", "patch", "delete"]),
    ("", "pods", &["get", "list", "watch", "delete"]),
    ("", "pods/log", &["get"]),
    ("", "events", &["list"]),
];
