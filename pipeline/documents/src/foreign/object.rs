//! What all objects of a cluster have in common: metadata, and the reference to what is scaled.

use serde::{Deserialize, Serialize};
use tracescale_core::target::TargetName;

use crate::foreign::Fate;
use crate::foreign::walk::Walk;
use crate::foreign::write::TargetText;
use crate::reader::{At, Fields};

/// An object with a scale subresource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectRef {
    /// Group and version, `apps/v1`.
    pub api_version: String,
    /// Kind, `Deployment`.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Metadata of an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata<'a> {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) annotations: Option<At<'a>>,
}

/// Reads metadata. Annotations are left to the caller.
pub(crate) fn metadata<'a>(walk: &mut Walk, root: &mut Fields<'a>) -> Metadata<'a> {
    let mut metadata = Metadata::default();
    if let Some(at) = root.take(&mut walk.reader, "status") {
        walk.note(Fate::Lost, &at, "is what the other system last saw, not what it is told", "");
    }
    let Some(at) = root.require(&mut walk.reader, "metadata", "metadata: {name: …, namespace: …}") else { return metadata };
    let Some(mut fields) = walk.reader.fields(&at) else { return metadata };
    metadata.name = fields.require(&mut walk.reader, "name", "the name of the object").and_then(|at| walk.object_name(&at));
    metadata.namespace = match fields.take(&mut walk.reader, "namespace") {
        Some(at) => walk.object_name(&at),
        None => {
            let hint = "write the namespace that the object is applied to";
            walk.assume(Fate::Approximate, "metadata.namespace", "is not written: `default` is assumed", hint);
            Some("default".to_owned())
        }
    };
    metadata.annotations = fields.take(&mut walk.reader, "annotations");
    for at in fields.rest() {
        walk.note(Fate::Lost, &at, "says nothing about scaling", "");
    }
    metadata
}

/// Notes annotations that nobody reads.
pub(crate) fn no_annotations(walk: &mut Walk, metadata: &Metadata<'_>) {
    if let Some(fields) = metadata.annotations.as_ref().and_then(|at| walk.reader.fields(at)) {
        for at in fields.rest() {
            walk.note(Fate::Lost, &at, "is not an annotation that is known here", "");
        }
    }
}

/// Reads `scaleTargetRef`; without a default its kind must be written.
pub(crate) fn scale_target(
    walk: &mut Walk,
    fields: &mut Fields<'_>,
    metadata: &Metadata<'_>,
    default_kind: Option<&str>,
) -> Option<ObjectRef> {
    let at = fields.require(&mut walk.reader, "scaleTargetRef", "scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: …}")?;
    let mut reference = walk.reader.fields(&at)?;
    let api_version = walk.text_if(&mut reference, "apiVersion");
    let kind = match default_kind {
        None => walk.text_of(&mut reference, "kind", "such as Deployment"),
        Some(kind) => walk.text_if(&mut reference, "kind").or_else(|| Some(kind.to_owned())),
    };
    let name = reference.require(&mut walk.reader, "name", "the name of the object").and_then(|at| walk.object_name(&at));
    if let Some(at) = reference.take(&mut walk.reader, "envSourceContainerName") {
        walk.note(Fate::Lost, &at, "names the container whose environment triggers read; nothing here reads it", "");
    }
    walk.rest(reference);
    walk.exact(&at, "is the object of the ScalingTarget");
    Some(ObjectRef {
        api_version: api_version.unwrap_or_else(|| "apps/v1".to_owned()),
        kind: kind?,
        namespace: metadata.namespace.clone()?,
        name: name?,
    })
}

// === impl ObjectRef ===

impl ObjectRef {
    /// The name of its target: the one that discovery would give it, with the kind where it is no Deployment.
    pub(crate) fn target_name(&self) -> String {
        let name = if self.kind == "Deployment" { self.name.clone() } else { format!("{}-{}", self.name, self.kind.to_ascii_lowercase()) };
        TargetName::of_service(Some(&self.namespace), &name).to_string()
    }

    /// The target, and what is assumed about its telemetry.
    pub(crate) fn target(&self, walk: &mut Walk, path: &str, paused: bool) -> TargetText {
        let message = format!("the telemetry of it is taken to have `service.name` {}", self.name);
        walk.assume(Fate::Approximate, path, message, "set `service` of the ScalingTarget if it has another name");
        TargetText {
            name: self.target_name(),
            comments: vec!["Assumed: its telemetry has the object's name as `service.name`. Otherwise set `service`.".to_owned()],
            object: Some(self.clone()),
            service: self.name.clone(),
            paused,
        }
    }
}
