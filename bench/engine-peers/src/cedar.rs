//! cedar-policy: a permit or forbid for each policy, the role being a parent of the principal.

use crate::corpus::{Policy, ROLE};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityUid, PolicySet, Request,
};
use serde_json::{Value, json};
use std::error::Error;
use std::fmt::Write;

pub struct Engine<'r> {
    set: PolicySet,
    authorizer: Authorizer,
    texts: &'r [String],
    ready: Vec<(Request, Entities)>,
}

impl<'r> Engine<'r> {
    pub fn new(policies: &[Policy], texts: &'r [String]) -> Result<Self, Box<dyn Error>> {
        let mut source = String::new();
        for policy in policies {
            let effect = if policy.deny { "forbid" } else { "permit" };
            write!(
                source,
                "{effect}(principal in Role::{ROLE:?}, action == Action::{:?}, resource) \
                 when {{ context.resource like {:?}",
                policy.action, policy.resources
            )?;
            for (name, value) in &policy.metadata {
                write!(source, " && context.metadata has {name} && context.metadata.{name} == {value}")?;
            }
            source.push_str(" };\n");
        }
        let ready = texts.iter().map(|text| request(text)).collect::<Result<_, _>>()?;
        Ok(Self { set: source.parse()?, authorizer: Authorizer::new(), texts, ready })
    }

    pub fn decide(&self, number: usize) -> bool {
        let (request, entities) = &self.ready[number];
        self.allows(request, entities)
    }

    pub fn from_json(&self, number: usize) -> bool {
        request(&self.texts[number]).is_ok_and(|(request, entities)| self.allows(&request, &entities))
    }

    fn allows(&self, request: &Request, entities: &Entities) -> bool {
        self.authorizer.is_authorized(request, &self.set, entities).decision() == Decision::Allow
    }
}

fn request(text: &str) -> Result<(Request, Entities), Box<dyn Error>> {
    let asked: Value = serde_json::from_str(text)?;
    let id = |kind: &str, name: &Value| -> Result<EntityUid, Box<dyn Error>> {
        let name = EntityId::new(name.as_str().ok_or("a text is missing")?);
        Ok(EntityUid::from_type_name_and_id(kind.parse()?, name))
    };
    let user = id("User", &asked["context"]["userId"])?;
    let role = id("Role", &asked["context"]["role"])?;
    let entities =
        Entities::from_entities([Entity::new_no_attrs(user.clone(), [role].into_iter().collect())], None)?;
    let context = json!({"resource": asked["resource"], "metadata": asked["context"]["metadata"]});
    let context = Context::from_json_value(context, None)?;
    let (action, resource) = (id("Action", &asked["action"])?, id("Pod", &asked["resource"])?);
    Ok((Request::new(user, action, resource, context, None)?, entities))
}
