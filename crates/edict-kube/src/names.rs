//! INVARIANT (path): a request's path is made of names that passed these rules, Kubernetes' own for names of objects. A name
//! such as `../secrets/x` or `a/b` would address something else than was allowed.

use crate::Fault;

/// Refuses a name that no object can have.
pub(crate) fn check(field: &str, name: &str, legal: impl Fn(&str) -> bool) -> Result<(), Fault> {
    if legal(name) {
        return Ok(());
    }
    Err(Fault::Refused {
        message: format!(
            "`{name}` is no {field}: use lower-case letters, digits and dashes, beginning and ending with a letter or digit"
        ),
    })
}

/// Whether a name is a DNS-1123 label, as those of namespaces are: 1 to 63 lower-case letters, digits and dashes, with a
/// letter or digit at both ends.
#[must_use]
pub fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// A DNS-1123 subdomain: pods, deployments. Each part may be as long as the whole, as in Kubernetes.
pub(crate) fn is_subdomain(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_real_objects_are_taken() {
        for name in ["a", "0", "api-7c9d8b6f5-x2x7z", "web.example.com", &"a".repeat(253)] {
            assert!(is_subdomain(name), "{name}");
        }
        assert!(is_label("kube-system") && is_label(&"a".repeat(63)));
    }

    #[test]
    fn whatever_leads_elsewhere_is_refused() {
        let long = "a".repeat(254);
        for name in
            ["", ".", "..", "../x", "a/b", "a%2fb", "a?x=y", "a#b", "-a", "a-", "A", "a b", "ä", &long]
        {
            assert!(!is_subdomain(name) && !is_label(name), "{name}");
        }
        assert!(!is_label("a.b") && !is_label(&"a".repeat(64)));
    }

    proptest! {
        #[test]
        fn no_name_that_is_taken_changes_a_path(name in any::<String>()) {
            if is_subdomain(&name) {
                prop_assert!(!name.contains(['/', '?', '#', '%', '\\']) && !name.split('.').any(str::is_empty));
            }
        }
    }
}
