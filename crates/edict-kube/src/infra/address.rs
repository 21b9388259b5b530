//! Where an executor is reached.

use super::{Exposure, Infra};
use crate::call::Call;
use crate::{Cluster, Fault, Right};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{ListParams, ObjectList};
use std::fmt;

/// Where an executor is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an address; of IPv6 without brackets.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Whether it is `https`.
    pub tls: bool,
}

/// As a URL.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.tls { ("https", 443) } else { ("http", 80) };
        match self.host.contains(':') {
            true => write!(formatter, "{scheme}://[{}]", self.host)?,
            false => write!(formatter, "{scheme}://{}", self.host)?,
        }
        if self.port == usual { Ok(()) } else { write!(formatter, ":{}", self.port) }
    }
}

impl Cluster {
    /// Where the executor is reached: by its ingress, its load balancer, a port of a node, or the name of its service, which
    /// is good within the cluster. None while the cluster has not decided that.
    ///
    /// # Errors
    /// The API server does not show it.
    pub async fn infra_address(&self, infra: &Infra) -> Result<Option<Address>, Fault> {
        infra.check()?;
        if let Some(ingress) = &infra.ingress {
            let tls = ingress.tls_secret.is_some();
            let port = if tls { 443 } else { 80 };
            return Ok(Some(Address { host: ingress.host.clone(), port, tls }));
        }
        let name = infra.name();
        let service: Option<Service> = self.get::<Service, _>(&infra.namespace, &name).await?;
        let Some(service) = service else { return Ok(None) };
        let at = |host: String, port: u16| Address { host, port, tls: false };
        Ok(match infra.exposure {
            Exposure::ClusterIp => Some(at(format!("{name}.{}.svc", infra.namespace), infra.port)),
            Exposure::LoadBalancer => balancer(&service).map(|host| at(host, infra.port)),
            Exposure::NodePort => match node_port(&service) {
                Some(port) => self.node(infra).await?.map(|host| at(host, port)),
                None => None,
            },
        })
    }

    /// The address of a node. Any of them passes requests on; the first by name, so that the answer is the same again.
    async fn node(&self, infra: &Infra) -> Result<Option<String>, Fault> {
        let right = Right { verb: "list", resource: "nodes".to_owned(), namespace: String::new() };
        let call = Call::custom(right, "/api/v1/nodes".to_owned(), |path| path.list(&ListParams::default()));
        match self.ask::<ObjectList<Node>>(call).await {
            Ok(nodes) => {
                let mut nodes = nodes.map(|nodes| nodes.items).unwrap_or_default();
                nodes.retain(is_up);
                nodes.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
                let of = |kind: &str| nodes.iter().find_map(|node| node_address(node, kind));
                Ok(of("InternalIP").or_else(|| of("ExternalIP")))
            }
            // Not every account may see nodes. The pod says where it is, which holds for as long as it stays there.
            Err(Fault::Forbidden { .. }) => {
                let params = ListParams::default().labels(&infra.mark.selector(Some(super::EXECUTOR)));
                let pods = self.list::<Pod, Pod>(&infra.namespace, &params).await?.0;
                Ok(pods.into_iter().find_map(|pod| pod.status?.host_ip))
            }
            Err(fault) => Err(fault),
        }
    }
}

fn node_port(service: &Service) -> Option<u16> {
    let port = service.spec.as_ref()?.ports.as_ref()?.first()?.node_port?;
    u16::try_from(port).ok().filter(|port| *port != 0)
}

fn balancer(service: &Service) -> Option<String> {
    let balancer = service.status.as_ref()?.load_balancer.as_ref()?;
    let given = balancer.ingress.as_ref()?.first()?;
    given.ip.clone().or_else(|| given.hostname.clone())
}

fn is_up(node: &Node) -> bool {
    let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn node_address(node: &Node, kind: &str) -> Option<String> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == kind).map(|address| address.address.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url() {
        let shown = |host: &str, port, tls| Address { host: host.to_owned(), port, tls }.to_string();
        assert_eq!(shown("a.example", 443, true), "https://a.example");
        assert_eq!(shown("10.0.0.1", 31000, false), "http://10.0.0.1:31000");
        assert_eq!(shown("fd00::1", 31000, false), "http://[fd00::1]:31000");
    }
}
