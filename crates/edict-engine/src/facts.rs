//! What the conditions read: a request, the time, and answers, with what is derived from them at most once.

use std::{cell::OnceCell, net::IpAddr};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{Answers, Request, fault::shown};

static NOTHING: Value = Value::Null;

pub(crate) struct Facts<'r> {
    pub(crate) action: &'r str,
    pub(crate) resource: &'r str,
    pub(crate) kind: &'r str,
    pub(crate) context: &'r Value,
    pub(crate) metadata: &'r Value,
    pub(crate) user: Option<&'r str>,
    pub(crate) now: Timestamp,
    pub(crate) answers: &'r Answers,
    role: Option<&'r str>,
    roles: &'r [Value],
    address: OnceCell<Result<IpAddr, String>>,
    role_document: OnceCell<Value>,
}

impl<'r> Facts<'r> {
    pub(crate) fn new(request: &'r Request<'_>, now: Timestamp, answers: &'r Answers) -> Self {
        let context = request.context();
        Self {
            action: request.action(),
            resource: request.resource(),
            kind: request.kind(),
            context,
            metadata: context.get("metadata").unwrap_or(&NOTHING),
            user: context.get("userId").and_then(Value::as_str),
            now,
            answers,
            role: context.get("role").and_then(Value::as_str),
            roles: context.get("roles").and_then(Value::as_array).map_or(&[], Vec::as_slice),
            address: OnceCell::new(),
            role_document: OnceCell::new(),
        }
    }

    /// `role` and `roles` together: what the user is, however the caller says it.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &'r str> {
        self.role.into_iter().chain(self.roles.iter().filter_map(Value::as_str))
    }

    /// The same for operators, under both names.
    pub(crate) fn role_document(&self) -> &Value {
        self.role_document.get_or_init(|| {
            let roles: Vec<&str> = self.roles().collect();
            if roles.is_empty() { Value::Null } else { json!({ "role": roles, "roles": roles }) }
        })
    }

    pub(crate) fn address(&self) -> Result<IpAddr, String> {
        let read = || {
            let text = self.context.get("ipAddress").and_then(Value::as_str);
            let text = text.ok_or("the request has no `ipAddress`")?;
            let address = text
                .parse::<IpAddr>()
                .map_err(|_| format!("`ipAddress` is `{}`, which is no IP address", shown(text)))?;
            Ok(address.to_canonical())
        };
        self.address.get_or_init(read).clone()
    }
}
