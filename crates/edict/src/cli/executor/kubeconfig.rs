//! A kubeconfig that can be handed over: one context of it, with what its files hold in their place.

use super::super::failure::Failure;
use base64::prelude::{BASE64_STANDARD, Engine};
use edict_client::records::ClusterConfig;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Fields that name a file, and those that hold what is in it.
const FILES: [(&str, &str); 3] = [
    ("certificate-authority", "certificate-authority-data"),
    ("client-certificate", "client-certificate-data"),
    ("client-key", "client-key-data"),
];

/// Fields that name a program which fetches credentials.
const PROGRAMS: [&str; 2] = ["exec", "auth-provider"];

/// Reads a kubeconfig and keeps what its current context, or the one that is named, needs.
pub(in super::super) fn read(path: &Path, context: Option<&str>) -> Result<ClusterConfig, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("cannot read the kubeconfig `{shown}`: {error}")))?;
    // The parser's own message would show the line, which may hold a secret.
    let config: Value = serde_saphyr::from_str(&text)
        .map_err(|_| Failure::usage(format!("`{shown}` is no kubeconfig: it is not YAML")))?;
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    flatten(&config, context, &folder)
        .map_err(|problem| Failure::usage(format!("the kubeconfig `{shown}` cannot be used: {problem}")))
}

fn flatten(config: &Value, context: Option<&str>, folder: &Path) -> Result<ClusterConfig, String> {
    let current = config.get("current-context").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = context.or(current).ok_or("it has no current context: name one with --context")?;
    let context = named(config, "contexts", name)?;
    let part = |field: &str| {
        let name = context.pointer(&format!("/context/{field}")).and_then(Value::as_str);
        name.ok_or_else(|| format!("its context `{name}` names no {field}", name = text(context, "name")))
    };
    let (cluster, user) =
        (named(config, "clusters", part("cluster")?)?, named(config, "users", part("user")?)?);
    Ok(ClusterConfig::new(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [context],
        "clusters": [{"name": cluster.get("name"), "cluster": whole(cluster.get("cluster"), folder)?}],
        "users": [{"name": user.get("name"), "user": whole(user.get("user"), folder)?}],
    })))
}

fn named<'a>(config: &'a Value, list: &str, name: &str) -> Result<&'a Value, String> {
    let entries = config.get(list).and_then(Value::as_array);
    let found =
        entries.into_iter().flatten().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name));
    found.ok_or_else(|| format!("there is no `{name}` among its {list}"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The fields of a cluster or user, with what files hold in place of their names.
fn whole(fields: Option<&Value>, folder: &Path) -> Result<Map<String, Value>, String> {
    let mut fields = fields.and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(program) =
        PROGRAMS.iter().find(|program| fields.get(**program).is_some_and(|value| !value.is_null()))
    {
        return Err(format!(
            "its user has `{program}`, a program that the policy system does not run: use a user with a `token` or a \
             client certificate, such as a service account's"
        ));
    }
    for (file, data) in FILES {
        if let Some(bytes) = content(&mut fields, file, folder)? {
            // What is written out counts more than a file, as for kubectl.
            fields.entry(data).or_insert_with(|| BASE64_STANDARD.encode(&bytes).into());
        }
    }
    if let Some(bytes) = content(&mut fields, "tokenFile", folder)? {
        let token = String::from_utf8(bytes).map_err(|_| "the file of `tokenFile` is no text")?;
        fields.insert("token".to_owned(), token.trim().into());
    }
    Ok(fields)
}

/// Takes a field that names a file, and reads the file.
fn content(fields: &mut Map<String, Value>, field: &str, folder: &Path) -> Result<Option<Vec<u8>>, String> {
    let Some(Value::String(path)) = fields.remove(field) else { return Ok(None) };
    if path.is_empty() {
        return Ok(None);
    }
    // Names are relative to the kubeconfig; joining keeps those that are not.
    let path: PathBuf = folder.join(path);
    std::fs::read(&path)
        .map(Some)
        .map_err(|error| format!("cannot read `{}`, which `{field}` names: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(cluster: Value, user: Value) -> Value {
        json!({
            "current-context": "a",
            "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}},
                         {"name": "b", "context": {"cluster": "gone", "user": "u"}}],
            "clusters": [{"name": "other", "cluster": {}}, {"name": "c", "cluster": cluster}],
            "users": [{"name": "other", "user": {"token": "t"}}, {"name": "u", "user": user}],
        })
    }

    #[test]
    fn files_are_taken_in_and_other_contexts_left_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), "certificate").unwrap();
        std::fs::write(folder.path().join("token"), "secret\n").unwrap();
        let config = config(
            json!({"server": "https://c", "certificate-authority": "ca.crt"}),
            json!({"tokenFile": folder.path().join("token")}),
        );
        let flat = flatten(&config, None, folder.path()).unwrap();
        assert_eq!(
            *flat.expose(),
            json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster":
                    {"server": "https://c", "certificate-authority-data": "Y2VydGlmaWNhdGU="}}],
                "users": [{"name": "u", "user": {"token": "secret"}}],
            })
        );
        for (context, problem) in
            [(Some("b"), "`gone` among its clusters"), (Some("x"), "`x` among its contexts")]
        {
            let said = flatten(&config, context, folder.path()).unwrap_err();
            assert!(said.contains(problem), "{said}");
        }
    }

    #[test]
    fn programs_and_missing_files_are_refused_by_name() {
        for (user, named) in [
            (json!({"exec": {"command": "aws"}}), "`exec`"),
            (json!({"auth-provider": {"name": "gcp"}}), "`auth-provider`"),
            (json!({"client-key": "no/such/file"}), "`client-key`"),
        ] {
            let said = flatten(&config(json!({}), user), None, Path::new("")).unwrap_err();
            assert!(said.contains(named), "{said}");
        }
    }
}
