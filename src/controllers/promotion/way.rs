//! From a promotion to its repositories: which they are, and whether its namespace may use them. Needs no call to AWS.

use std::{sync::Arc, time::Duration};

use kube::{Api, ResourceExt as _, core::DeserializeGuard, runtime::reflector::ObjectRef};

use super::super::{
    access::{Request, Tenancy, access},
    registry::connection::Connection,
    world::World,
};
use crate::{
    api::{
        ImagePromotion, Registry, Repository,
        names::{Region, RepositoryName},
        promotion::{CopyTo, RepositoryRef, Source},
        registry::Permission,
        repository::RegistryRef,
    },
    aws::{
        client::Ecr,
        error::{AwsError, Fault},
    },
    control::{
        context::Context,
        error::{Error, Result},
        plan::Verdict,
        reason::Reason,
        spawn::list_of,
    },
    oci::reference::RegistryHost,
};

/// How soon to look again at what a hint will tell of.
const HINTED: Duration = Duration::from_mins(2);

/// The repositories of a promotion.
pub(super) struct Way {
    pub namespace: String,
    pub source: Place,
    pub copy: Option<Place>,
}

/// A repository and the way to it.
pub(super) struct Place {
    pub connection: Arc<Connection>,
    pub region: Region,
    pub name: RepositoryName,
    /// As it stands in images of workloads.
    pub uri: String,
    /// Why it is not to be asked now. Going back to an image whose digest is known needs no answer.
    pub unready: Option<String>,
}

impl Place {
    /// Which repository it is, whatever the objects are called that lead there.
    pub(super) fn key(&self) -> String {
        format!("{}/{}/{}", self.connection.registry_id, self.region, self.name)
    }

    /// ECR, unless it is known not to answer: a way back must not wait behind calls that lead nowhere.
    pub(super) fn ecr(&self) -> Result<&Ecr, AwsError> {
        match &self.unready {
            None => Ok(&self.connection.ecr),
            Some(why) => Err(AwsError::unanswered("ECR", Fault::Unavailable, why.clone())),
        }
    }
}

impl Way {
    /// The repository whose images the targets run.
    pub(super) fn runs(&self) -> &Place {
        self.copy.as_ref().unwrap_or(&self.source)
    }

    /// The names of images that count as the promotion's.
    pub(super) fn uris(&self) -> Vec<String> {
        let copy = self.copy.iter().map(|place| place.uri.clone());
        std::iter::once(self.source.uri.clone()).chain(copy).collect()
    }
}

/// Finds the way; the inner `Err` says why there is none now.
pub(super) async fn find(object: &ImagePromotion, ctx: &Context<World>) -> Result<Result<Way, Verdict>> {
    let namespace = object.namespace().unwrap_or_default();
    let source = match named(&Wanted::from(&object.spec.source), &namespace, ctx).await? {
        Ok(place) => place,
        Err(verdict) => return Ok(Err(verdict)),
    };
    let copy = match &object.spec.copy_to {
        None => None,
        Some(to) => match named(&Wanted::from(to), &namespace, ctx).await? {
            Ok(place) => Some(place),
            Err(verdict) => return Ok(Err(verdict)),
        },
    };
    Ok(Ok(Way {
        namespace,
        source,
        copy,
    }))
}

/// How a spec names a repository.
pub(super) struct Wanted<'a> {
    pub(super) repository_ref: Option<&'a RepositoryRef>,
    registry_ref: Option<&'a RegistryRef>,
    repository_name: Option<&'a RepositoryName>,
}

impl<'a> Wanted<'a> {
    /// The repositories that a promotion names: its source, and where it copies to.
    pub(super) fn of(promotion: &'a ImagePromotion) -> impl Iterator<Item = Self> {
        let spec = &promotion.spec;
        std::iter::once(Self::from(&spec.source)).chain(spec.copy_to.iter().map(Self::from))
    }

    /// The Registry and the name of the repository, where they are named themselves.
    pub(super) fn by_name(&self) -> Option<(String, RepositoryName)> {
        Some((self.registry_ref?.name.clone(), self.repository_name?.clone()))
    }
}

impl<'a> From<&'a Source> for Wanted<'a> {
    fn from(source: &'a Source) -> Self {
        Self {
            repository_ref: source.repository_ref.as_ref(),
            registry_ref: source.registry_ref.as_ref(),
            repository_name: source.repository_name.as_ref(),
        }
    }
}

impl<'a> From<&'a CopyTo> for Wanted<'a> {
    fn from(to: &'a CopyTo) -> Self {
        Self {
            repository_ref: to.repository_ref.as_ref(),
            registry_ref: to.registry_ref.as_ref(),
            repository_name: to.repository_name.as_ref(),
        }
    }
}

/// The names of the Registries that a promotion reads from and copies to, as far as they are known.
pub(super) async fn registries(object: &ImagePromotion, ctx: &Context<World>) -> Result<Vec<String>> {
    let namespace = object.namespace().unwrap_or_default();
    let mut registries = Vec::new();
    for wanted in Wanted::of(object) {
        if let Ok((registry, _)) = resolve(&wanted, &namespace, ctx).await? {
            registries.push(registry);
        }
    }
    Ok(registries)
}

async fn named(wanted: &Wanted<'_>, namespace: &str, ctx: &Context<World>) -> Result<Result<Place, Verdict>> {
    let (registry, name) = match resolve(wanted, namespace, ctx).await? {
        Ok(resolved) => resolved,
        Err(verdict) => return Ok(Err(verdict)),
    };
    let found = ctx.world.registry(&registry).await?;
    let labels = ctx.world.namespace(namespace).await?;
    let request = Request {
        registry_name: &registry,
        registry: found.as_ref(),
        tenancy: Some(Tenancy {
            permission: Permission::Promote,
            namespace,
            labels: labels.as_ref(),
            repository: Some(&name),
        }),
    };
    Ok(enter(&request, &name, ctx.world.connection(&registry)))
}

/// The Registry and the name of the repository.
async fn resolve(
    wanted: &Wanted<'_>,
    namespace: &str,
    ctx: &Context<World>,
) -> Result<Result<(String, RepositoryName), Verdict>> {
    let invalid = |message: String| Ok(Err(Verdict::blocked(Reason::Invalid, message)));
    let resolved = match (wanted.repository_ref, wanted.registry_ref, wanted.repository_name) {
        (Some(reference), None, None) => {
            let Some(repository) = repository(&ctx.world, namespace, &reference.name).await? else {
                let message = format!("Repository {} does not exist in this namespace", reference.name);
                return Ok(Err(waiting(message)));
            };
            match repository.repository_name() {
                Ok(name) => (repository.spec.registry_ref.name, name),
                Err(error) => return invalid(error.to_string()),
            }
        }
        (None, Some(registry), Some(name)) => (registry.name.clone(), name.clone()),
        _ => return invalid("name either repositoryRef, or registryRef together with repositoryName".into()),
    };
    Ok(Ok(resolved))
}

fn waiting(message: String) -> Verdict {
    Verdict::Waiting {
        reason: Reason::RegistryNotReady,
        message,
        after: HINTED,
    }
}

/// Whether the namespace may promote from or to the repository.
fn enter(request: &Request<'_>, name: &RepositoryName, connection: Option<Arc<Connection>>) -> Result<Place, Verdict> {
    if request.registry.is_some() && name.is_reserved() {
        let message = format!("{name} belongs to the operator itself: no image is promoted from or to it");
        return Err(Verdict::blocked(Reason::NotAllowed, message));
    }
    let standing = connection.as_ref().and_then(|connection| connection.standing());
    let access = access(request, connection.zip(standing)).map_err(|denied| denied.verdict().clone())?;
    let unready = access.unready;
    Ok(Place {
        region: access.registry.spec.region.clone(),
        uri: uri(access.registry, Some(&access.connection), name),
        connection: access.connection,
        name: name.clone(),
        unready: unready.map(|why| format!("Registry {} is not ready: {why}", request.registry_name)),
    })
}

/// A repository as it stands in images of workloads.
pub(super) fn uri(registry: &Registry, connection: Option<&Connection>, name: &RepositoryName) -> String {
    let known = connection.and_then(|connection| connection.inventory.get(name));
    known.map_or_else(
        || {
            let host = RegistryHost::new(registry.spec.registry_id.clone(), registry.spec.region.clone());
            format!("{host}/{name}")
        },
        |record| record.uri.clone(),
    )
}

/// The Repository of this name. What the watch does not have is asked of the apiserver.
async fn repository(world: &World, namespace: &str, name: &str) -> Result<Option<Repository>> {
    world.readiness.until_done(&list_of::<Repository>()).await;
    if let Some(guard) = world.repositories.get(&ObjectRef::new(name).within(namespace)) {
        return Ok(guard.0.as_ref().ok().cloned());
    }
    let found = Api::<DeserializeGuard<Repository>>::namespaced(world.client.clone(), namespace)
        .get_opt(name)
        .await
        .map_err(Error::kube("read the Repository that the promotion names"))?;
    Ok(found.and_then(|guard| guard.0.ok()))
}
