//! Which object a service runs as, told from the resource attributes that its telemetry carries.

use tracescale_core::target::{KubernetesRef, TargetRef};

/// The columns that name an owner, and its kind. A pod has one; the first that is present wins. Kinds whose capacity nobody
/// sets (DaemonSet, Job) are absent, and so is ReplicaSet: one without a Deployment above it is rare, and one with a Deployment
/// must not be scaled.
pub const OWNERS: [(&str, &str, &str); 2] =
    [("k8s_deployment_name", "apps/v1", "Deployment"), ("k8s_statefulset_name", "apps/v1", "StatefulSet")];
/// The column that names the namespace.
pub const NAMESPACE: &str = "k8s_namespace_name";

/// The object to scale for a resource, given its columns by name; none when they do not name one unmistakably. Attributes come
/// from the network: a value that cannot be a Kubernetes name is taken as absent.
pub fn target<'a>(column: impl Fn(&str) -> Option<&'a str>) -> Option<TargetRef> {
    let namespace = column(NAMESPACE).filter(|name| is_label(name))?;
    OWNERS.iter().find_map(|(owner, api_version, kind)| {
        let name = column(owner).filter(|name| is_subdomain(name))?;
        Some(TargetRef::Kubernetes(KubernetesRef {
            api_version: (*api_version).to_owned(),
            kind: (*kind).to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            context: None,
            container: None,
        }))
    })
}

/// RFC 1123 label: what a namespace's name must be.
fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 63 && !name.is_empty() && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// RFC 1123 subdomain: what an object's name must be. Only the whole is limited in length there, not each label.
fn is_subdomain(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = |label: &str| !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-');
    name.len() <= 253 && name.split('.').all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(columns: &[(&str, &'static str)]) -> Option<String> {
        let target = target(|name| columns.iter().find(|(column, _)| *column == name).map(|(_, value)| *value))?;
        let TargetRef::Kubernetes(reference) = target else { return None };
        Some(format!("{} {} {}/{}", reference.api_version, reference.kind, reference.namespace, reference.name))
    }

    /// Guarantees: the owner that a pod's attributes name is the target.
    #[test]
    fn owners_are_found() {
        let deployment = [("k8s_namespace_name", "shop"), ("k8s_deployment_name", "cart"), ("k8s_pod_name", "cart-6475fbf6d6-5sdg5")];
        assert_eq!(found(&deployment).as_deref(), Some("apps/v1 Deployment shop/cart"));
        let stateful = [("k8s_namespace_name", "shop"), ("k8s_statefulset_name", "orders-db")];
        assert_eq!(found(&stateful).as_deref(), Some("apps/v1 StatefulSet shop/orders-db"));
    }

    /// Guarantees: without a namespace or an owner nothing is guessed, and no attribute can smuggle in a path.
    #[test]
    fn nothing_is_guessed() {
        assert_eq!(found(&[("k8s_deployment_name", "cart")]), None);
        assert_eq!(found(&[("k8s_namespace_name", "shop"), ("k8s_pod_name", "cart-6475fbf6d6-5sdg5")]), None);
        for name in ["", "Cart", "../cart", "cart/scale", "cart%2f", "-cart", "cart.", "a..b"] {
            assert_eq!(found(&[("k8s_namespace_name", "shop"), ("k8s_deployment_name", name)]), None, "{name}");
            assert_eq!(found(&[("k8s_namespace_name", name), ("k8s_deployment_name", "cart")]), None, "{name}");
        }
    }

    /// Guarantees: the columns read here exist in the streams.
    #[test]
    fn columns_exist() {
        let known: Vec<&str> = tracescale_core::schema::RESOURCE_ATTRIBUTES.iter().map(|attribute| attribute.column).collect();
        for column in OWNERS.iter().map(|(column, _, _)| *column).chain([NAMESPACE]) {
            assert!(known.contains(&column), "{column}");
        }
    }
}
