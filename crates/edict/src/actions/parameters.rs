//! What an action does to what, out of its name and parameters: every mistake is named with what to write instead.

use super::json::Json;
use crate::error::{ApiError, Code};
use edict_kube::Action;
use serde_json::json;

/// The actions, by the names that requests use.
pub(super) const ACTIONS: [&str; 5] =
    ["restart_pod", "delete_pod", "scale_deployment", "rollback_deployment", "restart_deployment"];

/// Longest name of an object, and of a namespace.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// The parameters of one action.
struct Parameters<'a> {
    action: &'a str,
    given: &'a [(String, Json)],
}

/// The action that a name and parameters stand for.
///
/// # Errors
/// 422 for an action that does not exist, and for parameters that are missing, unknown, or not what they should be.
pub(super) fn action(name: &str, params: &[(String, Json)], max_scale: u32) -> Result<Action, ApiError> {
    let parameters = Parameters { action: name, given: params };
    let (known, pod): (&[&str], bool) = match name {
        "restart_pod" => (&["namespace", "podName", "force"], true),
        "delete_pod" => (&["namespace", "podName"], true),
        "scale_deployment" => (&["namespace", "deploymentName", "replicas"], false),
        "rollback_deployment" => (&["namespace", "deploymentName", "revision"], false),
        "restart_deployment" => (&["namespace", "deploymentName"], false),
        _ => return Err(unknown_action(name)),
    };
    parameters.check_names(known)?;
    let namespace = parameters.name("namespace", LONGEST_LABEL)?;
    let target = parameters.name(if pod { "podName" } else { "deploymentName" }, LONGEST_NAME)?;
    Ok(match name {
        "restart_pod" => Action::RestartPod { namespace, pod_name: target, force: parameters.flag("force")? },
        "delete_pod" => Action::DeletePod { namespace, pod_name: target },
        "scale_deployment" => {
            let replicas = parameters.replicas(max_scale)?;
            Action::ScaleDeployment { namespace, deployment_name: target, replicas }
        }
        "rollback_deployment" => {
            let revision = parameters.revision()?;
            Action::RollbackDeployment { namespace, deployment_name: target, revision }
        }
        _ => Action::RestartDeployment { namespace, deployment_name: target },
    })
}

fn unknown_action(name: &str) -> ApiError {
    let nearest = crate::nearest(name, ACTIONS.into_iter());
    let hint = nearest.map(|name| format!("did you mean `{name}`?"));
    let hint = hint.unwrap_or_else(|| format!("there are {}", list(&ACTIONS)));
    fault("actionType", format!("there is no action `{}`; {hint}", crate::shorten(name)))
}

impl Parameters<'_> {
    fn check_names(&self, known: &[&str]) -> Result<(), ApiError> {
        let unknown = self.given.iter().find(|(name, _)| !known.contains(&name.as_str()));
        let Some((unknown, _)) = unknown else { return Ok(()) };
        let nearest = crate::nearest(unknown, known.iter().copied());
        let hint = nearest.map(|name| format!("did you mean `{name}`?"));
        let hint = hint.unwrap_or_else(|| format!("it takes {}", list(known)));
        let unknown = crate::shorten(unknown);
        Err(fault(&unknown, format!("`{}` has no parameter `{unknown}`; {hint}", self.action)))
    }

    /// A parameter's value; null is the same as left out.
    fn get(&self, name: &str) -> Option<&Json> {
        self.given
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value)
            .filter(|value| **value != Json::Null)
    }

    fn required(&self, name: &str) -> Result<&Json, ApiError> {
        self.get(name)
            .ok_or_else(|| fault(name, format!("`{}` needs the parameter `{name}`; add it", self.action)))
    }

    /// The name of a Kubernetes object (RFC 1123): it becomes part of a path at the API server.
    fn name(&self, parameter: &str, longest: usize) -> Result<String, ApiError> {
        let refuse = |shown: &str, problem: &str| {
            Err(fault(parameter, format!("parameter `{parameter}`: {shown} {problem}")))
        };
        let value = self.required(parameter)?;
        let Json::Text(name) = value else {
            return refuse(&value.shown(), "is no name; send a string");
        };
        let shown = format!("`{}`", crate::shorten(name));
        if name.len() > longest {
            return refuse(&shown, &format!("is longer than {longest} characters, so nothing has this name"));
        }
        let dots_allowed = longest > LONGEST_LABEL;
        let labels: Vec<&str> = if dots_allowed { name.split('.').collect() } else { vec![name] };
        if labels.into_iter().all(is_label) {
            return Ok(name.clone());
        }
        let dots = if dots_allowed { ", `.`" } else { "" };
        refuse(
            &shown,
            &format!(
                "is no name in Kubernetes: those have a-z, 0-9, `-`{dots}, and start and end with a letter or digit"
            ),
        )
    }

    fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(false),
            Some(Json::Bool(value)) => Ok(*value),
            Some(other) => {
                Err(fault(name, format!("parameter `{name}`: {} is neither true nor false", other.shown())))
            }
        }
    }

    /// A whole number as it is spelt: `3.0`, `3e0` and `"3"` are none, since nobody who means 3 writes them.
    fn whole(&self, name: &str, value: &Json) -> Result<i64, ApiError> {
        let refuse =
            |problem: &str| Err(fault(name, format!("parameter `{name}`: {} {problem}", value.shown())));
        match value {
            Json::Number(text) if text.contains(['.', 'e', 'E']) => {
                refuse("is no whole number; write it without a fraction or exponent, for example `3`")
            }
            Json::Number(text) => match text.parse() {
                Ok(number) => Ok(number),
                Err(_) if text.starts_with('-') => Ok(i64::MIN),
                Err(_) => Ok(i64::MAX),
            },
            _ => refuse("is no number; write for example `3`, without quotes"),
        }
    }

    fn replicas(&self, max_scale: u32) -> Result<i32, ApiError> {
        let value = self.required("replicas")?;
        let replicas = self.whole("replicas", value)?;
        i32::try_from(replicas).ok().filter(|replicas| (0..=i64::from(max_scale)).contains(&i64::from(*replicas))).ok_or_else(
            || {
                let problem = format!(
                    "parameter `replicas`: {} is not within 0 and {max_scale}, which is the most that an action may ask \
                     for (setting `max_scale`)",
                    value.shown()
                );
                fault("replicas", problem)
            },
        )
    }

    fn revision(&self) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.get("revision") else { return Ok(None) };
        let revision = self.whole("revision", value)?;
        if revision < 1 || revision == i64::MAX {
            let problem = format!(
                "parameter `revision`: {} is no revision; those count from 1, and without one the deployment goes back \
                 to the one before",
                value.shown()
            );
            return Err(fault("revision", problem));
        }
        Ok(Some(revision))
    }
}

/// A part of a name between dots.
fn is_label(label: &str) -> bool {
    let edge =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = label.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|byte| edge(Some(byte)) || *byte == b'-')
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn fault(field: &str, message: String) -> ApiError {
    let field = if field == "actionType" { field.to_owned() } else { format!("actionParams.{field}") };
    ApiError::new(Code::InvalidAction, message).details(json!({"field": field}))
}

#[cfg(test)]
mod tests {
    use super::super::request::Request;
    use super::*;

    fn read(name: &str, params: &str) -> Result<Action, ApiError> {
        let text = format!(r#"{{"actionType": "{name}", "actionParams": {params}, "requestedBy": "me"}}"#);
        let request = Request::read(text.as_bytes()).unwrap();
        action(&request.action_type, &request.params, 100)
    }

    fn scale(replicas: &str) -> Result<Action, ApiError> {
        read(
            "scale_deployment",
            &format!(r#"{{"namespace": "a", "deploymentName": "b", "replicas": {replicas}}}"#),
        )
    }

    #[test]
    fn every_action_is_read() {
        let (namespace, name) = ("a".to_owned(), "b.c-1".to_owned());
        let pod = r#"{"namespace": "a", "podName": "b.c-1", "force": true}"#;
        let deployment = r#"{"namespace": "a", "deploymentName": "b.c-1"}"#;
        let back = r#"{"namespace": "a", "deploymentName": "b.c-1", "revision": 3}"#;
        assert_eq!(
            read("restart_pod", pod).unwrap(),
            Action::RestartPod { namespace: namespace.clone(), pod_name: name.clone(), force: true }
        );
        assert_eq!(
            read("delete_pod", &pod.replace(", \"force\": true", "")).unwrap(),
            Action::DeletePod { namespace: namespace.clone(), pod_name: name.clone() }
        );
        assert_eq!(
            read("restart_deployment", deployment).unwrap(),
            Action::RestartDeployment { namespace: namespace.clone(), deployment_name: name.clone() }
        );
        for (text, revision) in [(deployment, None), (back, Some(3))] {
            let (namespace, deployment_name) = (namespace.clone(), name.clone());
            let expected = Action::RollbackDeployment { namespace, deployment_name, revision };
            assert_eq!(read("rollback_deployment", text).unwrap(), expected);
        }
        for replicas in [0, 100] {
            let (namespace, deployment_name) = ("a".to_owned(), "b".to_owned());
            let expected = Action::ScaleDeployment { namespace, deployment_name, replicas };
            assert_eq!(scale(&replicas.to_string()).unwrap(), expected);
        }
    }

    #[test]
    fn replicas_are_whole_and_within_bounds() {
        for (replicas, said) in [
            ("-1", "`-1` is not within 0 and 100"),
            ("101", "`101` is not within 0 and 100"),
            ("99999999999999999999999", "is not within 0 and 100"),
            ("-99999999999999999999999", "is not within 0 and 100"),
            ("1.5", "`1.5` is no whole number"),
            ("3.0", "`3.0` is no whole number"),
            ("1e2", "`1e2` is no whole number"),
            ("\"3\"", "the string `3` is no number"),
            ("true", "`true` is no number"),
            ("[3]", "an array is no number"),
            ("null", "needs the parameter `replicas`"),
        ] {
            let error = scale(replicas).unwrap_err();
            assert_eq!(error.code(), Code::InvalidAction);
            assert!(error.message().contains(said), "{replicas}: {}", error.message());
        }
    }

    #[test]
    fn mistakes_are_named_with_what_to_write_instead() {
        let pod_with_force = r#"{"namespace": "a", "podName": "b", "force": true}"#;
        let long = format!(r#"{{"namespace": "{}", "podName": "b"}}"#, "a".repeat(64));
        for (name, params, said) in [
            ("restart_pods", "{}", "there is no action `restart_pods`; did you mean `restart_pod`?"),
            ("drain", "{}", "there are `restart_pod`, `delete_pod`"),
            ("restart_pod", r#"{"podName": "a"}"#, "needs the parameter `namespace`"),
            ("restart_pod", r#"{"namespace": "a"}"#, "needs the parameter `podName`"),
            ("restart_pod", r#"{"namespace": "a", "podname": "b"}"#, "did you mean `podName`?"),
            (
                "restart_pod",
                r#"{"namespace": "a", "podName": "b", "replicas": 3}"#,
                "has no parameter `replicas`; it takes",
            ),
            (
                "delete_pod",
                pod_with_force,
                "`delete_pod` has no parameter `force`; it takes `namespace`, `podName`",
            ),
            ("restart_deployment", r#"{"namespace": "a", "deployment": "b"}"#, "no parameter `deployment`"),
            (
                "restart_pod",
                r#"{"namespace": "a/../b", "podName": "b"}"#,
                "`a/../b` is no name in Kubernetes",
            ),
            ("restart_pod", r#"{"namespace": "a.b", "podName": "b"}"#, "`a.b` is no name"),
            ("restart_pod", r#"{"namespace": "a", "podName": "B"}"#, "`B` is no name"),
            ("restart_pod", r#"{"namespace": "a", "podName": "b-"}"#, "`b-` is no name"),
            ("restart_pod", r#"{"namespace": "a", "podName": "b..c"}"#, "`b..c` is no name"),
            ("restart_pod", r#"{"namespace": "a", "podName": ""}"#, "`` is no name"),
            ("restart_pod", r#"{"namespace": "a", "podName": 7}"#, "`7` is no name; send a string"),
            (
                "restart_pod",
                r#"{"namespace": "a", "podName": "b", "force": "yes"}"#,
                "the string `yes` is neither true nor false",
            ),
            ("restart_pod", &long, "is longer than 63 characters"),
            (
                "rollback_deployment",
                r#"{"namespace": "a", "deploymentName": "b", "revision": 0}"#,
                "`0` is no revision",
            ),
            (
                "rollback_deployment",
                r#"{"namespace": "a", "deploymentName": "b", "revision": "2"}"#,
                "the string `2` is no number",
            ),
        ] {
            let error = read(name, params).unwrap_err();
            assert_eq!(error.code(), Code::InvalidAction);
            assert!(error.message().contains(said), "{name} {params}: {}", error.message());
        }
    }
}
