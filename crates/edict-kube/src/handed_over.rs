//! A kubeconfig that somebody handed over. It says where to connect and how to log in, and nothing else: programs and files that
//! it names would be run and read here, with the rights of this process, for whoever sent it.

use kube::config::{AuthInfo, Cluster, Kubeconfig};
use serde_json::Value;

/// What prints a kubeconfig that can be handed over.
const COMMAND: &str = "kubectl config view --raw --flatten --minify -o json";

/// What `kubectl config view` prints in place of secrets.
const LEFT_OUT: [&str; 2] = ["DATA+OMITTED", "REDACTED"];

/// The part of it that counts: the current context's.
pub(crate) fn checked(config: &Value) -> Result<Kubeconfig, String> {
    // The error of serde would show the value that it did not expect.
    let mut kubeconfig: Kubeconfig = serde_json::from_value(config.clone())
        .map_err(|_| format!("it is no kubeconfig in JSON: use what `{COMMAND}` prints"))?;
    let current = kubeconfig.current_context.clone().filter(|name| !name.is_empty());
    let current =
        current.ok_or_else(|| format!("it has no `current-context`: use what `{COMMAND}` prints"))?;
    kubeconfig.contexts.retain(|context| context.name == current);
    let context = kubeconfig.contexts.first().and_then(|context| context.context.clone());
    let context =
        context.ok_or_else(|| format!("its `current-context` `{current}` is not among its `contexts`"))?;
    kubeconfig.clusters.retain(|cluster| cluster.name == context.cluster);
    kubeconfig.auth_infos.retain(|user| Some(&user.name) == context.user.as_ref());
    if let Some(cluster) = kubeconfig.clusters.first().and_then(|cluster| cluster.cluster.as_ref()) {
        check_cluster(cluster)?;
    }
    if let Some(user) = kubeconfig.auth_infos.first().and_then(|user| user.auth_info.as_ref()) {
        check_user(user)?;
    }
    if LEFT_OUT.iter().any(|mark| holds(config, mark)) {
        return Err(format!("its secrets were left out: use what `{COMMAND}` prints"));
    }
    Ok(kubeconfig)
}

fn check_cluster(cluster: &Cluster) -> Result<(), String> {
    refuse_file("certificate-authority", cluster.certificate_authority.as_deref())
}

fn check_user(user: &AuthInfo) -> Result<(), String> {
    for (field, there) in [("exec", user.exec.is_some()), ("auth-provider", user.auth_provider.is_some())] {
        if there {
            return Err(format!(
                "its user has `{field}`, which would run a program on the policy system's machine: use a kubeconfig with a \
                 `token` or a client certificate, such as a service account's"
            ));
        }
    }
    refuse_file("client-certificate", user.client_certificate.as_deref())?;
    refuse_file("client-key", user.client_key.as_deref())?;
    refuse_file("tokenFile", user.token_file.as_deref())
}

fn refuse_file(field: &str, path: Option<&str>) -> Result<(), String> {
    match path {
        None | Some("") => Ok(()),
        Some(_) if field == "tokenFile" => {
            Err(format!("`{field}` names a file, which is not sent along: use `token`"))
        }
        Some(_) => {
            Err(format!("`{field}` names a file, which is not sent along: use what `{COMMAND}` prints"))
        }
    }
}

fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(value) => value == text,
        Value::Array(values) => values.iter().any(|value| holds(value, text)),
        Value::Object(values) => values.values().any(|value| holds(value, text)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(cluster: Value, user: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "here", "user": "me"}}],
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [
                {"name": "me", "user": user},
                {"name": "other", "user": {"exec": {"apiVersion": "x", "command": "true"}}},
            ],
        })
    }

    #[test]
    fn what_would_run_or_read_something_here_is_refused_by_name() {
        let server = json!({"server": "https://a.example"});
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "evil"});
        let cases = [
            ("exec", server.clone(), json!({"exec": exec})),
            ("auth-provider", server.clone(), json!({"auth-provider": {"name": "gcp"}})),
            ("client-certificate", server.clone(), json!({"client-certificate": "/s3cret"})),
            ("client-key", server.clone(), json!({"client-key": "/s3cret"})),
            ("tokenFile", server.clone(), json!({"tokenFile": "/s3cret"})),
            (
                "certificate-authority",
                json!({"server": "https://a.example", "certificate-authority": "/s3cret"}),
                json!({}),
            ),
        ];
        for (field, cluster, user) in cases {
            let why = checked(&with(cluster, user)).unwrap_err();
            assert!(why.contains(&format!("`{field}`")) && !why.contains("s3cret"), "{why}");
        }
        checked(&with(server, json!({"token": "s3cret"}))).unwrap();
    }

    #[test]
    fn what_is_no_kubeconfig_is_refused_without_showing_it() {
        for config in [json!("s3cret"), json!(null), json!({"users": "s3cret"}), json!([{"token": "s3cret"}])]
        {
            let why = checked(&config).unwrap_err();
            assert!(why.contains("kubectl config view") && !why.contains("s3cret"), "{why}");
        }
        let mut config = with(json!({"server": "https://a.example"}), json!({"token": "REDACTED"}));
        assert!(checked(&config).unwrap_err().contains("left out"));
        config["current-context"] = json!("");
        assert!(checked(&config).unwrap_err().contains("`current-context`"));
        config["current-context"] = json!("missing");
        assert!(checked(&config).unwrap_err().contains("`missing`"));
    }
}
