//! The digest in an object that the owner of a workload reads: where it is there, and how it is written.
//!
//! Written by merge patch with the observed `resourceVersion`, as to workloads. The lists concerned have no merge keys in
//! their definitions, so server-side apply would own them whole and drop what others put there; a merge patch replaces the
//! list by the one that was read with one entry changed, and is refused (409) where anything changed meanwhile. A JSON
//! patch would do the same by places in the list, but answers 422 where its `test` fails, as for an object that is refused
//! for what is in it.
//!
//! Where an object is itself applied from Git, the same question comes up one level higher: there, this very field must be
//! ignored.

use serde_json::{Value, json};

use super::{
    patch::by_digest,
    workload::{cut, digest_of, name_of},
};
use crate::api::{
    PROMOTABLE_FROM_ANNOTATION,
    names::Digest,
    promotion::{Via, ViaRef},
};

/// What the key of an `ArgoApplication` begins with where it names a parameter of Helm.
const HELM: &str = "helm:";

/// The key of a `ConfigMap` where none is given.
const CONFIG_MAP_KEY: &str = "image";

/// How much of a name or value of others is repeated in a message, in characters.
const SHOWN: usize = 120;

/// An API and a kind in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObjectKind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
}

/// The kind of object that `via` writes to; `None` where it is the workload itself, or nothing.
pub(crate) const fn object_kind(via: Via) -> Option<ObjectKind> {
    let (group, version, kind, plural) = match via {
        Via::FluxKustomization => ("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations"),
        Via::FluxHelmRelease => ("helm.toolkit.fluxcd.io", "v2", "HelmRelease", "helmreleases"),
        Via::ArgoApplication => ("argoproj.io", "v1alpha1", "Application", "applications"),
        Via::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
        Via::Auto | Via::Direct | Via::Publish => return None,
    };
    Some(ObjectKind {
        group,
        version,
        kind,
        plural,
    })
}

/// Whether promotions of this namespace may write to the object: those of its own namespace may, others where the object
/// names their namespace in its annotation, exactly.
pub(crate) fn permits(object: &Value, namespace: &str) -> bool {
    let metadata = &object["metadata"];
    if metadata["namespace"] == namespace {
        return true;
    }
    let named = metadata["annotations"][PROMOTABLE_FROM_ANNOTATION]
        .as_str()
        .unwrap_or_default();
    !namespace.is_empty() && named.split(',').any(|name| name.trim() == namespace)
}

/// The digest that stands in the object. `None` where there is none, or where it cannot be told.
pub(crate) fn read(via: Via, via_ref: &ViaRef, object: &Value, repository: &str) -> Option<Digest> {
    match Place::of(via, via_ref, repository) {
        Place::KustomizeImage(name) => kustomize_digest(&object["spec"]["images"], name),
        Place::RendererImage(name) => {
            let (_, images) = renderer_with(object, name).ok()??;
            kustomize_digest(images, name)
        }
        Place::ArgoImage(name) => {
            let images = object["spec"]["source"]["kustomize"]["images"].as_array()?;
            let images: Vec<_> = images.iter().filter_map(Value::as_str).collect();
            let at = one(images.iter().map(|image| argo_name(image) == name)).ok()??;
            digest_of(images[at])
        }
        Place::ArgoParameter(name) => {
            let parameters = object["spec"]["source"]["helm"]["parameters"].as_array()?;
            let at = one(parameters.iter().map(|parameter| parameter["name"] == name)).ok()??;
            digest_in(parameters[at]["value"].as_str()?)
        }
        Place::Data(key) => digest_in(object["data"][key].as_str()?),
        Place::Nowhere => None,
    }
}

/// The merge patch that puts the digest there, and `None` where it is there already.
///
/// What is written: to Kustomize the digest, and the repository where the manifests have another name for it; to a Helm
/// parameter or a key of a `ConfigMap` the digest alone where its name ends with `digest`, otherwise the whole image,
/// `repository@digest`.
///
/// # Errors
/// A sentence for people where the object has no place for it, or more than one.
pub(crate) fn write(
    via: Via,
    via_ref: &ViaRef,
    object: &Value,
    repository: &str,
    digest: &Digest,
) -> Result<Option<Value>, String> {
    let spec = match Place::of(via, via_ref, repository) {
        Place::KustomizeImage(name) => {
            let images = with_image(&object["spec"]["images"], name, repository, digest)?;
            images.map(|images| json!({ "spec": { "images": images } }))
        }
        Place::RendererImage(name) => renderers(object, name, repository, digest)?
            .map(|renderers| json!({ "spec": { "postRenderers": renderers } })),
        Place::ArgoImage(name) => argo_images(object, name, repository, digest)?
            .map(|images| json!({ "spec": { "source": { "kustomize": { "images": images } } } })),
        Place::ArgoParameter(name) => argo_parameters(object, name, repository, digest)?
            .map(|parameters| json!({ "spec": { "source": { "helm": { "parameters": parameters } } } })),
        Place::Data(key) => {
            if object["immutable"] == true {
                return Err("the ConfigMap is immutable: name one that may be changed in viaRef".into());
            }
            let value = value_for(key, repository, digest)?;
            (object["data"][key] != value.as_str()).then(|| json!({ "data": { key: value } }))
        }
        Place::Nowhere => return Err(format!("via: {via:?} has no object to write to")),
    };
    Ok(spec.map(|mut body| {
        for field in ["uid", "resourceVersion"] {
            body["metadata"][field] = object["metadata"][field].clone();
        }
        body
    }))
}

/// Where in an object the digest stands.
enum Place<'a> {
    /// `spec.images` of a Kustomization, by the name of the image in the manifests.
    KustomizeImage(&'a str),
    /// The images of a post renderer of a `HelmRelease`, by the same.
    RendererImage(&'a str),
    /// `spec.source.kustomize.images` of an Application, by the same.
    ArgoImage(&'a str),
    /// `spec.source.helm.parameters` of an Application, by name.
    ArgoParameter(&'a str),
    /// A key of a `ConfigMap`.
    Data(&'a str),
    Nowhere,
}

impl<'a> Place<'a> {
    fn of(via: Via, via_ref: &'a ViaRef, repository: &'a str) -> Self {
        let key = via_ref.key.as_deref();
        match (via, key) {
            (Via::FluxKustomization, key) => Self::KustomizeImage(key.unwrap_or(repository)),
            (Via::FluxHelmRelease, key) => Self::RendererImage(key.unwrap_or(repository)),
            (Via::ArgoApplication, Some(key)) => match key.strip_prefix(HELM) {
                Some(parameter) => Self::ArgoParameter(parameter),
                None => Self::ArgoImage(key),
            },
            (Via::ArgoApplication, None) => Self::ArgoImage(repository),
            (Via::ConfigMap, key) => Self::Data(key.unwrap_or(CONFIG_MAP_KEY)),
            (Via::Auto | Via::Direct | Via::Publish, _) => Self::Nowhere,
        }
    }
}

/// A list with one entry more or another, `None` where it is as it should be.
type Changed = Result<Option<Vec<Value>>, String>;

fn with_image(images: &Value, name: &str, repository: &str, digest: &Digest) -> Changed {
    let images = images.as_array().cloned().unwrap_or_default();
    let at = one(images.iter().map(|image| image["name"] == name)).map_err(|()| twice("image", name))?;
    let mut entry = match at {
        Some(at) => images[at].clone(),
        None => json!({ "name": name }),
    };
    entry["digest"] = digest.as_str().into();
    if name != repository || entry["newName"].is_string() {
        entry["newName"] = repository.into();
    }
    // With a digest it only says what the image was once.
    if let Some(entry) = entry.as_object_mut() {
        entry.remove("newTag");
    }
    Ok(put(images, at, entry))
}

fn renderers(object: &Value, name: &str, repository: &str, digest: &Digest) -> Changed {
    let mut renderers = object["spec"]["postRenderers"].as_array().cloned().unwrap_or_default();
    let Some((at, images)) = renderer_with(object, name)? else {
        let images = with_image(&Value::Null, name, repository, digest)?;
        renderers.push(json!({ "kustomize": { "images": images } }));
        return Ok(Some(renderers));
    };
    let Some(images) = with_image(images, name, repository, digest)? else {
        return Ok(None);
    };
    renderers[at]["kustomize"]["images"] = images.into();
    Ok(Some(renderers))
}

/// The post renderer that names the image, with its images.
fn renderer_with<'a>(object: &'a Value, name: &str) -> Result<Option<(usize, &'a Value)>, String> {
    let renderers = object["spec"]["postRenderers"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let named = |renderer: &Value| {
        let images = renderer["kustomize"]["images"].as_array();
        images.into_iter().flatten().any(|image| image["name"] == name)
    };
    let at = one(renderers.iter().map(named)).map_err(|()| twice("image", name))?;
    Ok(at.map(|at| (at, &renderers[at]["kustomize"]["images"])))
}

fn kustomize_digest(images: &Value, name: &str) -> Option<Digest> {
    let images = images.as_array()?;
    let at = one(images.iter().map(|image| image["name"] == name)).ok()??;
    images[at]["digest"].as_str()?.parse().ok()
}

fn argo_images(object: &Value, name: &str, repository: &str, digest: &Digest) -> Changed {
    let source = source(object, "Kustomize")?;
    let images = source["kustomize"]["images"].as_array().cloned().unwrap_or_default();
    let named = |image: &Value| image.as_str().is_some_and(|image| argo_name(image) == name);
    let at = one(images.iter().map(named)).map_err(|()| twice("image", name))?;
    let image = by_digest(repository, digest);
    let image = if name == repository {
        image
    } else {
        format!("{name}={image}")
    };
    Ok(put(images, at, image.into()))
}

fn argo_parameters(object: &Value, name: &str, repository: &str, digest: &Digest) -> Changed {
    let parameters = source(object, "Helm")?["helm"]["parameters"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let named = parameters.iter().map(|parameter| parameter["name"] == name);
    let at = one(named).map_err(|()| twice("parameter", name))?;
    let mut entry = match at {
        Some(at) => parameters[at].clone(),
        None => json!({ "name": name }),
    };
    entry["value"] = value_for(name, repository, digest)?.into();
    Ok(put(parameters, at, entry))
}

/// The one source of an Application. Argo CD takes a source that has settings for a tool as one for that tool, so they are
/// only given to one that it found to be so (`status.sourceType`).
fn source<'a>(object: &'a Value, tool: &str) -> Result<&'a Value, String> {
    if object["spec"]["sources"]
        .as_array()
        .is_some_and(|sources| !sources.is_empty())
    {
        return Err(
            "the Application has several sources (spec.sources), and which of them renders the image cannot be told: \
             give the workload an Application of one source, or use via: Publish"
                .into(),
        );
    }
    let found = object["status"]["sourceType"].as_str().unwrap_or_default();
    match found {
        "" => Ok(&object["spec"]["source"]),
        found if found == tool => Ok(&object["spec"]["source"]),
        "Helm" => Err("the Application is rendered with Helm: set viaRef.key to helm:<parameter>".into()),
        "Kustomize" => Err(
            "the Application is rendered with Kustomize: set viaRef.key to the name of the image in its manifests".into(),
        ),
        _ => Err(
            "the Application is rendered neither with Kustomize nor with Helm, so it takes no image: use via: Publish, or \
             make its path a Kustomization"
                .into(),
        ),
    }
}

/// The name that an image override of Argo CD is for, `[name=]image`.
fn argo_name(image: &str) -> &str {
    image.split_once('=').map_or_else(|| name_of(image), |(name, _)| name)
}

/// What a value of this name holds.
fn value_for(key: &str, repository: &str, digest: &Digest) -> Result<String, String> {
    let lower = key.to_ascii_lowercase();
    if lower.ends_with("digest") {
        return Ok(digest.to_string());
    }
    if lower.ends_with("tag") {
        return Err(format!(
            "viaRef.key {} names a tag, which a digest cannot be: name a value for the digest or for the whole image",
            cut(key, SHOWN)
        ));
    }
    Ok(by_digest(repository, digest))
}

fn digest_in(value: &str) -> Option<Digest> {
    digest_of(value).or_else(|| value.parse().ok())
}

/// The list with the entry at its place, or at the end; `None` where that changes nothing.
fn put(mut list: Vec<Value>, at: Option<usize>, entry: Value) -> Option<Vec<Value>> {
    match at {
        Some(at) if list[at] == entry => return None,
        Some(at) => list[at] = entry,
        None => list.push(entry),
    }
    Some(list)
}

/// The place of the one that is true; an error where several are.
fn one(matches: impl Iterator<Item = bool>) -> Result<Option<usize>, ()> {
    let mut places = matches
        .enumerate()
        .filter(|(_, matches)| *matches)
        .map(|(place, _)| place);
    let first = places.next();
    match places.next() {
        Some(_) => Err(()),
        None => Ok(first),
    }
}

fn twice(what: &str, name: &str) -> String {
    format!(
        "the object names {what} {} more than once: keep one of them",
        cut(name, SHOWN)
    )
}

#[cfg(test)]
#[path = "via_tests.rs"]
mod tests;
