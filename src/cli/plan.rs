//! `ecr-operator plan -f FILE|DIR`
//!
//! Runs the very functions that the operator runs, up to the point where it would act.

mod output;

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, RwLock},
    time::Duration,
};

use clap::ValueEnum;
use futures::channel::mpsc;
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::ListParams,
    core::DeserializeGuard,
    runtime::{
        reflector::{self, Lookup},
        watcher,
    },
};

use self::output::{Foreseen, Planned, Printed};
use super::manifests::{self, Manifests};
use crate::{
    api::{
        ClusterLifecyclePolicy, ImagePromotion, LifecyclePolicy, PullThroughCacheRule, Registry, ReplicationConfig,
        Repository, RepositoryCreationTemplate, names::OwnerId,
    },
    control::{
        context::{Context, Memory},
        events::Events,
        gate::Gate,
        managed::{Look, Managed, Scoped},
        plan::{Goal, Plan},
        spawn::Readiness,
        turns::Turns,
    },
    controllers::{
        access::Standing,
        lifecycle::{nudge::Policies, select::PolicyName},
        prefixed::{Watch, Watches},
        promotion::{
            foresee,
            shared::{Promoting, Settings},
        },
        pull_secret::watch::Pulls,
        registry::{self, documents},
        world::{Identity, World},
    },
    events::queues::Queues,
    in_use,
    metrics::Metrics,
    terminal::{self, Outcome},
};

/// Prints, object by object, the steps that the operator would take for the given manifests, without taking them. The
/// cluster is read for what the manifests refer to and for the status of objects that exist; where both have an object,
/// the file wins. Needs read rights only, and no running operator.
///
/// Exit code: 0 nothing to do, 2 changes, 1 an error or an object that would be refused. To take over what is there as it is,
/// which sets nothing but the tag that says whose it is, is no change.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A manifest in YAML or JSON, a directory with such (read recursively), or - for standard input. Repeatable.
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,

    /// The name of the installation, as the operator is run with.
    #[arg(long, env = "ECR_OPERATOR_OWNER_ID", value_name = "NAME")]
    owner_id: OwnerId,

    /// The namespace of manifests that name none. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,

    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// How plans are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

pub(super) fn main(args: &Args) -> Outcome {
    let planned = terminal::block_on(plan_all(args))?;
    let printed = Printed::new(planned);
    terminal::print(&match args.output {
        Format::Text => printed.text(),
        Format::Json => printed.json(),
    })?;
    Ok(ExitCode::from(printed.exit_code()))
}

async fn plan_all(args: &Args) -> Result<Vec<Planned>, String> {
    // A gate that is never opened: a plan writes nothing, whatever it runs into.
    let gate = Gate::closed();
    let client = super::gated(terminal::cluster().await?, &gate)?;
    let namespace = args
        .namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let manifests = Manifests::read(&args.files, &namespace)?;
    let cluster = super::run::cluster_uid(&client).await?;
    let ctx = context(
        client.clone(),
        gate,
        Identity {
            owner: args.owner_id.clone(),
            cluster,
        },
        &manifests,
        &Known::read(&client, &manifests).await?,
    )?;

    let mut planned = Vec::new();
    let mut named: BTreeSet<String> = manifests.repositories.iter().flat_map(registries_of).collect();
    for object in &manifests.pull_secrets {
        named.extend(object.spec.registry_refs.iter().map(|of| of.name.clone()));
    }
    let configs = manifests.replication_configs.iter();
    named.extend(configs.map(|config| config.spec.registry_ref.name.clone()));
    for promotion in &manifests.promotions {
        // What cannot be found is told by the promotion's own plan.
        named.extend(foresee::registries(promotion, &ctx).await.unwrap_or_default());
    }
    let ruled = ruled(&ctx, &manifests).await?;
    named.extend(ruled.iter().flat_map(registries_of));
    named.extend(
        manifests
            .cache_rules
            .iter()
            .map(|rule| rule.spec.registry_ref.name.clone()),
    );
    named.extend(
        manifests
            .templates
            .iter()
            .map(|template| template.spec.registry_ref.name.clone()),
    );
    let given: BTreeSet<String> = manifests.registries.iter().map(ResourceExt::name_any).collect();
    for registry in &manifests.registries {
        planned.push(plan_registry(registry.clone(), &ctx).await);
    }
    for name in named.difference(&given) {
        // Its own plan was not asked for; what is wrong with it shows on the objects that refer to it.
        if let Ok(Some(registry)) = ctx.world.registry(name).await {
            plan_registry(registry, &ctx).await;
        }
    }
    for repository in manifests.repositories.iter().chain(&ruled) {
        for registry in registries_of(repository) {
            if let (Some(connection), Ok(name)) = (ctx.world.connection(&registry), repository.repository_name()) {
                connection.in_use.take_for_protected(&name);
            }
        }
        let planning = plan_one(repository.clone(), &ctx).await;
        planned.push(Planned::new(repository, planning));
    }
    for rule in &manifests.cache_rules {
        planned.push(Planned::new(rule, plan_one(rule.clone(), &ctx).await));
    }
    for template in &manifests.templates {
        planned.push(Planned::new(template, plan_one(template.clone(), &ctx).await));
    }
    for config in &manifests.replication_configs {
        if let Some(connection) = ctx.world.connection(&config.spec.registry_ref.name) {
            connection.in_use.take_for_covered();
        }
        let planning = plan_one(config.clone(), &ctx).await;
        planned.push(Planned::new(config, planning));
    }
    for promotion in &manifests.promotions {
        planned.push(Planned::new(
            promotion,
            plan_promotion(promotion, &ctx).await.map(Foreseen::from),
        ));
    }
    for object in &manifests.pull_secrets {
        let planning = plan_one(object.clone(), &ctx).await;
        planned.push(Planned::new(object, planning));
    }
    Ok(planned)
}

/// The Registries that the repository and its replicas are in.
fn registries_of(repository: &Repository) -> impl Iterator<Item = String> {
    let refs = repository.spec.replica_registry_refs.iter();
    std::iter::once(&repository.spec.registry_ref)
        .chain(refs)
        .map(|of| of.name.clone())
}

/// The objects beside those of the files that there will be once the files are applied, where plans depend on them.
struct Known {
    lifecycle_policies: Vec<LifecyclePolicy>,
    cluster_lifecycle_policies: Vec<ClusterLifecyclePolicy>,
    cache_rules: Vec<PullThroughCacheRule>,
    templates: Vec<RepositoryCreationTemplate>,
    replication_configs: Vec<ReplicationConfig>,
}

impl Known {
    /// Those of the cluster, and those of the files in place of them.
    async fn read(client: &kube::Client, manifests: &Manifests) -> Result<Self, String> {
        Ok(Self {
            lifecycle_policies: with_files(client, &manifests.lifecycle_policies).await?,
            cluster_lifecycle_policies: with_files(client, &manifests.cluster_lifecycle_policies).await?,
            cache_rules: match manifests.cache_rules.is_empty() {
                true => Vec::new(),
                false => with_files(client, &manifests.cache_rules).await?,
            },
            templates: match manifests.templates.is_empty() {
                true => Vec::new(),
                false => with_files(client, &manifests.templates).await?,
            },
            replication_configs: with_files(client, &manifests.replication_configs).await?,
        })
    }
}

/// The objects of a kind in the cluster, those of the files in place of them. None where the cluster does not know the kind.
pub(super) async fn with_files<K>(client: &kube::Client, files: &[K]) -> Result<Vec<K>, String>
where
    K: Managed<World = World>,
{
    let kind = K::KIND;
    let found = match Api::<K>::all(client.clone()).list(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(kube::Error::Api(error)) if error.code == 404 => Vec::new(),
        Err(error) => return Err(format!("the objects of kind {kind} could not be listed: {error}")),
    };
    let key = |object: &K| (object.meta().namespace.clone(), object.meta().name.clone());
    let given: Vec<_> = files.iter().map(key).collect();
    let others = found.into_iter().filter(|object| !given.contains(&key(object)));
    Ok(others.chain(files.iter().cloned()).collect())
}

/// The Repositories of the cluster that a lifecycle policy of the files means, where the files do not have them.
async fn ruled(ctx: &Context<World>, manifests: &Manifests) -> Result<Vec<Repository>, String> {
    let files = &manifests.lifecycle_policies;
    if files.is_empty() && manifests.cluster_lifecycle_policies.is_empty() {
        return Ok(Vec::new());
    }
    let given: Vec<_> = manifests
        .repositories
        .iter()
        .map(|repository| (repository.metadata.namespace.clone(), repository.name_any()))
        .collect();
    let mut ruled = Vec::new();
    for repository in with_files::<Repository>(&ctx.client, &[]).await? {
        let namespace = repository.metadata.namespace.clone().unwrap_or_default();
        let labels = ctx
            .world
            .namespace(&namespace)
            .await
            .map_err(|error| error.to_string())?;
        let Ok(name) = repository.repository_name() else {
            continue;
        };
        let meaning = ctx.world.known_policies_of(&repository, &name, labels.as_ref())?;
        let means = meaning.iter().any(|meaning| match &meaning.name {
            PolicyName::Namespaced(name) => files
                .iter()
                .any(|policy| policy.name_any() == *name && policy.metadata.namespace.as_deref() == Some(&namespace)),
            PolicyName::Cluster(name) => manifests
                .cluster_lifecycle_policies
                .iter()
                .any(|policy| policy.name_any() == *name),
        });
        if means && !given.contains(&(repository.metadata.namespace.clone(), repository.name_any())) {
            ruled.push(repository);
        }
    }
    Ok(ruled)
}

/// The same context as the operator's, its watches filled from the files; what they do not hold is asked of the cluster.
fn context(
    client: kube::Client,
    gate: Gate,
    identity: Identity,
    manifests: &Manifests,
    known: &Known,
) -> Result<Context<World>, String> {
    let metrics = Metrics::new();
    let (hints, _) = mpsc::unbounded();
    let (looks, _) = mpsc::unbounded();
    Ok(Context {
        metrics: metrics.clone(),
        events: Events::start(client.clone()),
        memory: Memory::default(),
        turns: Turns::new(1),
        check_interval: Duration::from_secs(1),
        world: World {
            client: client.clone(),
            identity,
            metrics,
            inventory_interval: Duration::from_hours(1),
            gate,
            readiness: Readiness::default(),
            registries: filled(guarded(&manifests.registries)),
            repositories: filled(guarded(&manifests.repositories)),
            namespaces: filled(manifests.namespaces.clone()),
            connections: RwLock::new(HashMap::new()),
            hints,
            looks,
            queues: Queues::default(),
            promotions: filled(guarded(&manifests.promotions)),
            lifecycle_policies: filled(guarded(&known.lifecycle_policies)),
            cluster_lifecycle_policies: filled(guarded(&known.cluster_lifecycle_policies)),
            pull_secrets: filled(guarded(&manifests.pull_secrets)),
            replication_configs: filled(guarded(&known.replication_configs)),
            replicating: std::sync::Arc::default(),
            replications: mpsc::unbounded().0,
            policies: Policies::default(),
            counts: mpsc::unbounded().0,
            nudges: mpsc::unbounded().0,
            pulls: Arc::new(Pulls::new(mpsc::unbounded().0)),
            promoting: Promoting::new(Settings::default()).map_err(|error| error.to_string())?,
            in_use: in_use::Shared::new(Duration::from_hours(1)),
            prefixed: Watches {
                cache_rules: Watch {
                    objects: filled(guarded(&known.cache_rules)),
                    looks: mpsc::unbounded().0,
                },
                templates: Watch {
                    objects: filled(guarded(&known.templates)),
                    looks: mpsc::unbounded().0,
                },
            },
            documents: documents::shared::Shared::new().0,
        },
        client,
    })
}

/// Objects of files as a watch hands them on.
fn guarded<K: Clone>(objects: &[K]) -> Vec<DeserializeGuard<K>> {
    objects
        .iter()
        .cloned()
        .map(|object| DeserializeGuard(Ok(object)))
        .collect()
}

/// A store as a watch would have filled it.
fn filled<K>(objects: Vec<K>) -> reflector::Store<K>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    let (reader, mut writer) = reflector::store();
    writer.apply_watcher_event(&watcher::Event::Init);
    for object in objects {
        writer.apply_watcher_event(&watcher::Event::InitApply(object));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    // The store is complete; its readers wait for nothing more.
    std::mem::forget(writer);
    reader
}

/// Plans a Registry and lets its Repositories be planned as if its own steps had been taken.
async fn plan_registry(registry: Registry, ctx: &Context<World>) -> Planned {
    let name = registry.name_any();
    let planning = plan_one(registry.clone(), ctx).await;
    if let Some(connection) = ctx.world.connection(&name) {
        let standing = match &planning {
            Ok(foreseen) if !foreseen.plan.steps.is_empty() => Standing::Managing,
            Ok(foreseen) => registry::standing_of(&name, &foreseen.plan.verdict),
            Err(error) => Standing::NotReady(format!("Registry {name} is not ready: {error}")),
        };
        connection.set_standing(standing, None);
    }
    let planning = match planning {
        Ok(foreseen) => with_documents(&registry, foreseen, ctx).await,
        Err(error) => Err(error),
    };
    Planned::new(&registry, planning)
}

/// The plan of a Registry with what there is to do about its documents.
async fn with_documents(registry: &Registry, mut foreseen: Foreseen, ctx: &Context<World>) -> Result<Foreseen, String> {
    let Some(connection) = ctx.world.connection(&registry.name_any()) else {
        return Ok(foreseen);
    };
    let existing = Api::<Registry>::all(ctx.client.clone())
        .get_opt(&registry.name_any())
        .await
        .map_err(|error| format!("the object could not be read from the cluster: {error}"))?;
    let object = match existing {
        Some(existing) => manifests::onto(registry, &existing)?,
        None => registry.clone(),
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(foreseen);
    }
    let (steps, verdict) = documents::foresee(&object, &connection, foreseen.plan.verdict).await;
    foreseen.adopts &= steps.is_empty();
    foreseen.plan.steps.extend(steps);
    foreseen.plan.verdict = verdict;
    Ok(foreseen)
}

/// Foresees what a promotion would do next.
async fn plan_promotion(promotion: &ImagePromotion, ctx: &Context<World>) -> Result<Plan<String>, String> {
    let namespace = ResourceExt::namespace(promotion).unwrap_or_default();
    let existing = Api::<ImagePromotion>::namespaced(ctx.client.clone(), &namespace)
        .get_opt(&promotion.name_any())
        .await
        .map_err(|error| format!("the object could not be read from the cluster: {error}"))?;
    let object = match existing {
        Some(existing) => manifests::onto(promotion, &existing)?,
        None => promotion.clone(),
    };
    foresee::foresee(object, ctx).await.map_err(|error| error.to_string())
}

/// Observes and plans one object as the operator would.
async fn plan_one<K: Managed<World = World>>(mut object: K, ctx: &Context<World>) -> Result<Foreseen, String> {
    let api = <K::Scope as Scoped<K>>::api(ctx.client.clone(), &object);
    let existing = api
        .get_opt(&object.name_any())
        .await
        .map_err(|error| format!("the object could not be read from the cluster: {error}"))?;
    if let Some(existing) = existing {
        object = manifests::onto(&object, &existing)?;
    }
    let goal = match object.meta().deletion_timestamp {
        Some(_) => Goal::Absent,
        None => Goal::Present,
    };
    if object.is_suspended() {
        let message = "spec.suspend is true: nothing is looked at or written".to_owned();
        let plan = Plan::verdict(crate::control::plan::Verdict::Suspended { message });
        return Ok(plan.into());
    }
    let references = object.refer(ctx).await.map_err(|error| error.to_string())?;
    let seen = object
        .observe(goal, Look::Full, &references)
        .await
        .map_err(|error| error.to_string())?;
    let plan = object.plan(goal, &references, &seen, Timestamp::now());
    Ok(Foreseen {
        adopts: !plan.steps.is_empty() && plan.steps.iter().all(K::is_adoption),
        plan: Plan {
            steps: plan.steps.iter().map(ToString::to_string).collect(),
            verdict: plan.verdict,
            holds: plan.holds,
            warnings: plan.warnings,
        },
    })
}
