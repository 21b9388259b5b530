//! `edict demo --cluster`: a deployment that crashes is rolled back, because a policy allows it; the same in
//! `kube-system` is denied; and the audit trail has both.

use super::super::failure::Failure;
use super::super::output::Output;
use super::server::DemoServer;
use super::story::{at, expect};
use edict_client::records::{AuditStatus, DecisionRequest, ExecuteAction, Object};
use edict_client::{AuditFilter, Client};
use edict_kube::Cluster;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Who acts in this story.
const AGENT: &str = "ai-engine";
const WORKLOAD: &str = "checkout";

/// Longest wait for the cluster to start a workload, or to find out that it crashes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Long enough for a pod of the broken release to be started and to crash.
const UNTIL_IT_CRASHES: Duration = Duration::from_secs(15);

pub(super) async fn run(kubeconfig: &Path, image: &str, out: &mut Output<'_>) -> Result<(), Failure> {
    let cluster = Cluster::connect(Some(kubeconfig), Duration::from_secs(10)).await.map_err(failed)?;
    let namespace = format!("edict-demo-{}", uuid::Uuid::new_v4().simple());
    let record = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    cluster.apply(&record).await.map_err(failed)?;
    // Whoever has seen enough leaves nothing behind either.
    let told = tokio::select! {
        told = in_namespace(&cluster, kubeconfig, &namespace, image, out) => told,
        () = crate::server::stop_signal() => Err(Failure::failed("interrupted")),
    };
    let removed = cluster.remove(&record).await.map_err(failed);
    told?;
    removed.map(drop)
}

async fn in_namespace(
    cluster: &Cluster,
    kubeconfig: &Path,
    namespace: &str,
    image: &str,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let folder = tempfile::tempdir().map_err(failed)?;
    let secret = crate::server::random_token();
    let kubeconfig = std::path::absolute(kubeconfig).map_err(failed)?.display().to_string();
    let namespaces = format!("{namespace},kube-system");
    let settings = [
        ("KUBECONFIG", kubeconfig.as_str()),
        ("JWT_SECRET", secret.as_str()),
        ("ALLOWED_NAMESPACES", namespaces.as_str()),
    ];
    let mut server = DemoServer::start(folder.path(), &settings).await?;
    let told = match Healing::new(cluster, &server, namespace, &secret, image) {
        Ok(mut story) => story.tell(out).await,
        Err(failure) => Err(failure),
    };
    let stopped = server.stop().await;
    told.and(stopped)
}

struct Healing<'a> {
    cluster: &'a Cluster,
    engine: Client,
    actions: Client,
    namespace: &'a str,
    secret: &'a str,
    image: &'a str,
    step: usize,
}

impl<'a> Healing<'a> {
    fn new(
        cluster: &'a Cluster,
        server: &DemoServer,
        namespace: &'a str,
        secret: &'a str,
        image: &'a str,
    ) -> Result<Self, Failure> {
        let (engine, actions) = (Client::new(&server.engine, None)?, Client::new(&server.actions, None)?);
        Ok(Self { cluster, engine, actions, namespace, secret, image, step: 0 })
    }

    async fn tell(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.release(out).await?;
        self.break_it(out).await?;
        self.ask(out).await?;
        self.allow(out).await?;
        self.heal(out).await?;
        self.trespass(out).await?;
        self.look_back(out).await
    }

    fn heading(&mut self, out: &mut Output<'_>, text: &str) -> Result<(), Failure> {
        self.step += 1;
        out.line(&format!("\n{}. {text}", self.step))
    }

    async fn release(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, &format!("A deployment, `{WORKLOAD}`, in namespace {}", self.namespace))?;
        self.deploy(None).await?;
        let health = self.rollout(PATIENCE).await?;
        expect(health.healthy, "the first release is healthy", &health.reason)?;
        out.line(&format!("   2 pods of {} are ready", self.image))
    }

    async fn break_it(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "A release that crashes")?;
        self.deploy(Some("/no-such-program")).await?;
        let health = self.rollout(UNTIL_IT_CRASHES).await?;
        expect(!health.healthy, "the second release crashes", &health)?;
        let reason = health.pods.iter().find_map(|pod| pod.reason.clone());
        out.line(&format!("   not healthy: {}", reason.or(health.reason).unwrap_or_default()))
    }

    async fn ask(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "May the agent roll it back? The policy engine allows nothing by itself")?;
        let decision = self.engine.evaluate(&self.question(self.namespace)).await?;
        expect(!decision.allowed, "it is denied", &decision)?;
        out.line(&format!("   allowed: {} ({})", decision.allowed, decision.reason))
    }

    async fn allow(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "Two decision policies: roll back here, and touch nothing in kube-system")?;
        let policies = json!([
            {"name": "heal-by-rollback", "type": "self_healing", "effect": "allow", "priority": 100,
             "actions": ["rollback_deployment"], "resources": ["deployment:*"],
             "conditions": {"role": "service", "metadata": {"namespace": {"$regex": "^edict-demo-"}}}},
            {"name": "leave-the-system-alone", "type": "self_healing", "effect": "deny", "priority": 900,
             "actions": ["*"], "resources": ["*"], "conditions": {"metadata": {"namespace": "kube-system"}}},
        ]);
        for policy in policies.as_array().into_iter().flatten() {
            self.engine.create_decision_policy(policy).await?;
            out.line(&format!("   {}", at(policy, "/name").as_str().unwrap_or_default()))?;
        }
        let decision = self.engine.evaluate(&self.question(self.namespace)).await?;
        expect(decision.allowed, "it is allowed now", &decision)?;
        out.line(&format!("   allowed: {} ({})", decision.allowed, decision.reason))
    }

    async fn heal(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "Roll back: signed, decided again, limited, written down, then done")?;
        let mut action = self.rollback(self.namespace, WORKLOAD);
        action.wait = Some(PATIENCE.into());
        let reply = self.actions.execute_action(&action.sign_once(self.secret)).await?;
        expect(reply.success, "the rollback is carried out", &reply)?;
        let result = reply.result.unwrap_or_default();
        expect(*at(&result, "/health/healthy") == true, "the deployment is healthy again", &result)?;
        out.line(&format!(
            "   revision {} -> {}, healthy again after {} ms",
            at(&result, "/fromRevision"),
            at(&result, "/toRevision"),
            at(&result, "/health/waitedMs"),
        ))?;
        out.line(&format!("   audit id {}", reply.audit_id.unwrap_or_default()))
    }

    async fn trespass(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "The same in kube-system")?;
        let action = self.rollback("kube-system", "coredns");
        let reply = self.actions.execute_action(&action.sign_once(self.secret)).await?;
        expect(!reply.success, "it is refused", &reply)?;
        out.line(&format!("   {}: {}", reply.code.unwrap_or_default(), reply.error.unwrap_or_default()))
    }

    async fn look_back(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "The audit trail has both, in a chain of hashes")?;
        let trail = self.actions.audit_logs(&AuditFilter::default()).await?.records;
        let ends: Vec<AuditStatus> = trail.iter().map(|entry| entry.status).collect();
        let expected = [AuditStatus::Rejected, AuditStatus::Completed];
        expect(ends == expected, "the trail tells what happened", &ends)?;
        for entry in &trail {
            out.line(&format!(
                "   {}  {:<9}  {} {}/{} by {}",
                entry.created_at,
                entry.status.as_str(),
                entry.action_type.as_deref().unwrap_or_default(),
                entry.namespace.as_deref().unwrap_or_default(),
                entry.resource_name.as_deref().unwrap_or_default(),
                entry.requested_by.as_deref().unwrap_or_default(),
            ))?;
        }
        let verdict = self.actions.verify_audit(None).await?;
        expect(verdict.intact, "nothing was changed in it", &verdict)?;
        out.line(&format!("   verified: {} entries", verdict.entries))
    }

    /// Brings the deployment to this command; None: what the image itself does.
    async fn deploy(&self, command: Option<&str>) -> Result<(), Failure> {
        let labels = json!({"app": WORKLOAD});
        let mut container = json!({"name": "work", "image": self.image, "imagePullPolicy": "IfNotPresent"});
        if let (Some(command), Some(container)) = (command, container.as_object_mut()) {
            container.insert("command".to_owned(), json!([command]));
        }
        let manifest = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": WORKLOAD, "namespace": self.namespace},
            "spec": {
                "replicas": 2, "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
                },
            },
        });
        self.cluster.apply(&manifest).await.map(drop).map_err(failed)
    }

    async fn rollout(&self, patience: Duration) -> Result<edict_kube::Health, Failure> {
        self.cluster.rollout(self.namespace, WORKLOAD, patience).await.map_err(failed)
    }

    fn question(&self, namespace: &str) -> DecisionRequest {
        let context = json!({"userId": AGENT, "role": "service", "metadata": {"namespace": namespace}});
        DecisionRequest {
            action: "rollback_deployment".to_owned(),
            resource: format!("deployment:{WORKLOAD}"),
            kind: "self_healing".to_owned(),
            context: object(context),
        }
    }

    fn rollback(&self, namespace: &str, deployment: &str) -> ExecuteAction {
        let params = json!({"namespace": namespace, "deploymentName": deployment});
        ExecuteAction::new("rollback_deployment", object(params), AGENT)
    }
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(error.to_string())
}
