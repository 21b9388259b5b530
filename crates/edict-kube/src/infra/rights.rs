//! What the credentials may do, asked before anything is made.

use super::json::at;
use super::kinds::resource;
use super::manifests::namespace;
use super::{Infra, Part};
use crate::call::Call;
use crate::{Cluster, Fault, RIGHTS, Right};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::PostParams;
use serde_json::{Value, json};

/// Rights by API group, resource and verbs.
pub(super) type Rules = [(&'static str, &'static str, &'static [&'static str])];

/// What it may do in the whole cluster, on demand.
pub(super) const NODES: &Rules = &[("", "nodes", &["get", "list"])];

const ALL: &[&str] = &["get", "list", "create", "patch", "delete"];
const RBAC: &str = "rbac.authorization.k8s.io";

/// What installing and removing take in the namespace.
const HERE: &Rules = &[
    ("", "serviceaccounts", ALL),
    ("", "secrets", ALL),
    ("", "services", ALL),
    ("apps", "deployments", ALL),
    (RBAC, "roles", ALL),
    (RBAC, "rolebindings", ALL),
    ("", "pods", &["list"]),
    ("batch", "jobs", &["list", "delete"]),
    ("autoscaling", "horizontalpodautoscalers", &["list", "delete"]),
];

/// How many questions are asked at a time.
const AT_ONCE: usize = 8;

impl Part {
    /// What it takes, and whether in the namespace.
    fn rules(self) -> (&'static Rules, bool) {
        match self {
            Self::Ingress => (&[("networking.k8s.io", "ingresses", ALL)], true),
            Self::Cache => (&[("apps", "daemonsets", ALL)], true),
            Self::Nodes => (&[(RBAC, "clusterroles", ALL), (RBAC, "clusterrolebindings", ALL)], false),
        }
    }
}

/// A question to the API server's authorizer.
#[derive(Clone)]
struct Question {
    group: &'static str,
    resource: &'static str,
    right: Right,
}

impl Question {
    fn all(rules: &Rules, namespace: &str) -> Vec<Self> {
        let of = |(group, resource, verbs): &(&'static str, &'static str, &'static [&'static str])| {
            let (group, resource) = (*group, *resource);
            verbs.iter().map(|verb| Self::new(group, resource, verb, namespace)).collect::<Vec<_>>()
        };
        rules.iter().flat_map(of).collect()
    }

    fn new(group: &'static str, resource: &'static str, verb: &'static str, namespace: &str) -> Self {
        let right =
            Right { verb, resource: self::resource(group, resource), namespace: namespace.to_owned() };
        Self { group, resource, right }
    }
}

impl Cluster {
    /// Every right that [`install`](Self::install) and [`uninstall`](Self::uninstall) need and the credentials lack. Rights
    /// that the executor gets are among them, since one may only grant what one has, or with `escalate` and `bind` on roles.
    ///
    /// # Errors
    /// The API server cannot be reached or does not accept the credentials.
    pub async fn missing_rights(&self, infra: &Infra) -> Result<Vec<Right>, Fault> {
        infra.check()?;
        if self.may(&Question::new("*", "*", "*", "")).await? {
            return Ok(Vec::new());
        }
        let mut needed = self.namespace_questions(infra).await?;
        let here = infra.namespace.as_str();
        needed.extend(Question::all(HERE, here));
        for part in infra.parts() {
            let (rules, inside) = part.rules();
            needed.extend(Question::all(rules, if inside { here } else { "" }));
        }
        if !self.may_grant("roles", here).await? {
            needed.extend(Question::all(RIGHTS, here));
        }
        if infra.node_access && !self.may_grant("clusterroles", "").await? {
            needed.extend(Question::all(NODES, ""));
        }
        let mut missing: Vec<Right> = Vec::new();
        for right in self.lacking(needed).await? {
            if !missing.contains(&right) {
                missing.push(right);
            }
        }
        Ok(missing)
    }

    /// To make the namespace, or to remove the one that was made, is a right only where that is to be done.
    async fn namespace_questions(&self, infra: &Infra) -> Result<Vec<Question>, Fault> {
        let ask = |verb, namespace: &str| Question::new("", "namespaces", verb, namespace);
        let get = ask("get", &infra.namespace);
        if !self.may(&get).await? {
            return Ok(vec![get]);
        }
        Ok(match self.find(&namespace(&infra.namespace)).await? {
            None => vec![ask("create", ""), ask("delete", &infra.namespace)],
            Some(found) if infra.mark.is_on(&found) => vec![ask("delete", &infra.namespace)],
            Some(_) => Vec::new(),
        })
    }

    async fn may_grant(&self, roles: &'static str, namespace: &str) -> Result<bool, Fault> {
        Ok(self.may(&Question::new(RBAC, roles, "escalate", namespace)).await?
            && self.may(&Question::new(RBAC, roles, "bind", namespace)).await?)
    }

    async fn lacking(&self, needed: Vec<Question>) -> Result<Vec<Right>, Fault> {
        let asked = stream::iter(needed).map(|question| async move {
            let may = self.may(&question).await?;
            Ok::<_, Fault>((!may).then_some(question.right))
        });
        asked.buffered(AT_ONCE).try_filter_map(|lacking| async move { Ok(lacking) }).try_collect().await
    }

    async fn may(&self, question: &Question) -> Result<bool, Fault> {
        let (resource, subresource) = question.resource.split_once('/').unwrap_or((question.resource, ""));
        // A question about a namespace is one within it, for whom a role there may speak.
        let name = if resource == "namespaces" { question.right.namespace.as_str() } else { "" };
        let attributes = json!({
            "group": question.group, "resource": resource, "subresource": subresource,
            "verb": question.right.verb, "namespace": question.right.namespace, "name": name,
        });
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        });
        let right = Right {
            verb: "create",
            resource: "selfsubjectaccessreviews.authorization.k8s.io".to_owned(),
            namespace: String::new(),
        };
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let call = Call::custom(right, path, |path| path.create(&PostParams::default(), body));
        // A question changes nothing, although it is sent like something that does.
        let answer: Value = self.ask(call).await.map_err(Fault::without_effect)?.unwrap_or_default();
        Ok(at(&answer, "/status/allowed").as_bool().unwrap_or_default())
    }
}
