//! `ipRange`: networks in CIDR notation, of both families.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde_json::Value;

use crate::fault::Fault;

use super::MAX_LISTED;

const FIELD: &str = "conditions.ipRange";

pub(super) fn networks(wanted: &Value) -> Result<Vec<IpNet>, Fault> {
    let listed = match wanted {
        Value::Array(listed) => listed.as_slice(),
        single => std::slice::from_ref(single),
    };
    if listed.is_empty() || listed.len() > MAX_LISTED {
        return Err(Fault::new(FIELD, format!("has {} networks; it takes 1 to {MAX_LISTED}", listed.len())));
    }
    let read = |value: &Value| value.as_str().and_then(network);
    let takes = "a network such as `10.0.0.0/8` or `2001:db8::/32`, a single address, or a list of these";
    listed.iter().map(|value| read(value).ok_or_else(|| Fault::takes(FIELD, value, takes))).collect()
}

fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().ok()?,
    };
    Some(canonical(network.trunc()))
}

/// Requests' addresses are made canonical as well: `::ffff:10.0.0.1` is 10.0.0.1, or it would slip past `10.0.0.0/8`.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    match (network.addr().to_canonical(), network.prefix_len().checked_sub(MAPPED)) {
        (IpAddr::V4(address), Some(length)) if network.addr().is_ipv6() => {
            Ipv4Net::new(address, length).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}
