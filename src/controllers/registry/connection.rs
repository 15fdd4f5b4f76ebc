//! The way to one registry, shared by all its objects.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::previews::Previews;
use crate::{
    api::{
        names::{AccountId, Region, RepositoryName},
        registry::RegistrySpec,
    },
    aws::{
        batch::Lookups, catalog::Catalog, client::Ecr, connect, error::AwsError, inventory::Inventory, record::Record,
        sqs::Sqs,
    },
    control::gate::Gate,
    controllers::{access::Standing, prefixed::Listings},
    in_use::{InUse, usage::RegistryKey},
    metrics::Metrics,
};

/// The tags of the claim and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimTags {
    pub arn: String,
    pub tags: BTreeMap<String, String>,
}

/// The way to one registry. A new one is opened when anything of the Registry changes that it was opened with.
#[derive(Debug)]
pub(crate) struct Connection {
    pub registry_id: AccountId,
    pub ecr: Ecr,
    pub sqs: Sqs,
    pub inventory: Inventory,
    pub lookups: Lookups,
    pub previews: Previews,
    /// What the registry keeps by prefix.
    pub listings: Listings,
    opened_with: RegistrySpec,
    /// `None` until its Registry has been looked at once.
    standing: RwLock<Option<Standing>>,
    checks: Mutex<Checks>,
    locks: Mutex<HashMap<RepositoryName, Weak<tokio::sync::Mutex<()>>>>,
    catalogs: Mutex<HashMap<RepositoryName, Arc<Catalog>>>,
    /// What is known of the registry's images in use.
    pub in_use: Arc<InUse>,
}

/// What was checked when; answers that are valid for a while.
#[derive(Debug, Default)]
struct Checks {
    listed: Option<Instant>,
    account: Option<(Instant, String)>,
    claim: Option<(Instant, Option<ClaimTags>)>,
    /// The last look at the Registry that saw everything.
    looked: Option<Instant>,
    /// A claim was taken over then and was not read again since.
    taken_over: Option<Instant>,
    /// The generation of the Registry that objects were last told of.
    told: Option<i64>,
}

/// How long the account behind the credentials, and the claim, are taken to be as they were seen.
const VALID: Duration = Duration::from_mins(5);

impl Connection {
    pub(crate) async fn open(
        name: &str,
        spec: &RegistrySpec,
        gate: Gate,
        metrics: Metrics,
        in_use: Arc<InUse>,
    ) -> Self {
        let (ecr, sqs) = connect::open(name, spec, gate, metrics).await;
        Self {
            registry_id: spec.registry_id.clone(),
            ecr,
            sqs,
            inventory: Inventory::default(),
            lookups: Lookups::default(),
            previews: Previews::default(),
            listings: Listings::default(),
            opened_with: spec.clone(),
            standing: RwLock::default(),
            checks: Mutex::default(),
            locks: Mutex::default(),
            catalogs: Mutex::default(),
            in_use,
        }
    }

    pub(crate) fn region(&self) -> &Region {
        &self.opened_with.region
    }

    /// What tells the registry apart from all others.
    pub(crate) fn key(&self) -> RegistryKey {
        (self.registry_id.clone(), self.region().clone())
    }

    /// Whether it leads to the registry that the Registry means.
    pub(crate) fn is_to(&self, spec: &RegistrySpec) -> bool {
        (&self.opened_with.registry_id, &self.opened_with.region) == (&spec.registry_id, &spec.region)
    }

    /// Whether the connection still fits the Registry.
    pub(crate) fn fits(&self, spec: &RegistrySpec) -> bool {
        let parts = |spec: &RegistrySpec| {
            (
                spec.region.clone(),
                spec.registry_id.clone(),
                spec.assume_role.clone(),
                spec.endpoints.clone(),
                spec.mode,
                spec.budget.clone(),
            )
        };
        parts(&self.opened_with) == parts(spec)
    }

    pub(crate) fn standing(&self) -> Option<Standing> {
        self.standing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection with its standing, once its Registry has been looked at.
    pub(crate) fn with_standing(&self) -> Option<(&Self, Standing)> {
        self.standing().map(|standing| (self, standing))
    }

    /// Whether this cluster is the one writer of the registry.
    pub(crate) fn manages(&self) -> bool {
        self.standing().is_some_and(|standing| standing.manages())
    }

    /// Whether the registry answers, whoever is its writer.
    pub(crate) fn is_usable(&self) -> bool {
        self.standing().is_some_and(|standing| standing.is_usable())
    }

    /// Sets the standing; true if it or the Registry's generation is new to the objects of the registry.
    pub(crate) fn set_standing(&self, standing: Standing, generation: Option<i64>) -> bool {
        let new_generation = self.with(|checks| std::mem::replace(&mut checks.told, generation) != generation);
        let mut held = self.standing.write().unwrap_or_else(PoisonError::into_inner);
        let new_standing = held.as_ref() != Some(&standing);
        *held = Some(standing);
        new_standing || new_generation
    }

    /// The time since the registry was last listed without an error.
    pub(crate) fn listing_age(&self) -> Option<Duration> {
        self.with(|checks| checks.listed.map(|when| when.elapsed()))
    }

    pub(crate) fn listed(&self) {
        self.with(|checks| checks.listed = Some(Instant::now()));
    }

    /// The time since a look at the Registry saw everything, its claim included.
    pub(crate) fn look_age(&self) -> Option<Duration> {
        self.with(|checks| checks.looked.map(|when| when.elapsed()))
    }

    pub(crate) fn looked(&self) {
        self.with(|checks| checks.looked = Some(Instant::now()));
    }

    /// A claim was taken over.
    pub(crate) fn took_over(&self) {
        self.with(|checks| {
            checks.claim = None;
            checks.taken_over = Some(Instant::now());
        });
    }

    /// Whether a claim that was taken over is still to be read again, after a pause in which whoever took it over at the
    /// same time will have written.
    pub(crate) fn is_unconfirmed(&self, pause: Duration) -> bool {
        self.with(|checks| {
            let unconfirmed = checks.taken_over.is_some_and(|when| when.elapsed() < pause);
            if !unconfirmed {
                checks.taken_over = None;
            }
            unconfirmed
        })
    }

    /// The account behind the credentials, asked anew when the last answer is old or `fresh` is wanted.
    pub(crate) async fn account(&self, fresh: bool) -> Result<String, AwsError> {
        let known = self.with(|checks| checks.account.clone());
        if let Some((when, account)) = known
            && !fresh
            && when.elapsed() < VALID
        {
            return Ok(account);
        }
        let account = self.ecr.account().await?;
        self.with(|checks| checks.account = Some((Instant::now(), account.clone())));
        Ok(account)
    }

    /// The claim as it was last read, unless that is too long ago or `fresh` is wanted. To be called after a listing: what
    /// that does not show need not be asked for.
    pub(crate) async fn claim(&self, name: &RepositoryName, fresh: bool) -> Result<Option<ClaimTags>, AwsError> {
        let known = self.with(|checks| checks.claim.clone());
        if let Some((when, claim)) = known
            && !fresh
            && when.elapsed() < VALID
        {
            return Ok(claim);
        }
        match self.inventory.get(name) {
            // Only its tags are wanted: what was just listed need not be looked up again.
            Some(record) if !fresh => self.read_claim_tags(Some(record)).await,
            Some(_) => self.read_claim(name).await,
            None => Ok(None),
        }
    }

    /// Reads the claim from ECR.
    pub(crate) async fn read_claim(&self, name: &RepositoryName) -> Result<Option<ClaimTags>, AwsError> {
        let record = self.lookups.get(&self.ecr, name).await?;
        self.read_claim_tags(record).await
    }

    async fn read_claim_tags(&self, record: Option<Arc<Record>>) -> Result<Option<ClaimTags>, AwsError> {
        let claim = match record {
            Some(record) => {
                let tags = self.ecr.tags(&record.arn).await?;
                Some(ClaimTags {
                    arn: record.arn.clone(),
                    tags,
                })
            }
            None => None,
        };
        self.with(|checks| checks.claim = Some((Instant::now(), claim.clone())));
        Ok(claim)
    }

    /// The next look must read the claim.
    pub(crate) fn forget_claim(&self) {
        self.with(|checks| checks.claim = None);
    }

    /// Looks one repository up in ECR itself, together with whatever else is being looked up, and notes what it shows.
    pub(crate) async fn look_up(&self, name: &RepositoryName) -> Result<Option<Arc<Record>>, AwsError> {
        let found = self.lookups.get(&self.ecr, name).await?;
        match &found {
            Some(record) => self.inventory.note(Arc::clone(record)),
            None => self.inventory.forget(name),
        }
        Ok(found)
    }

    /// What is known of the images of a repository, shared by all promotions from it.
    pub(crate) fn catalog(&self, name: &RepositoryName) -> Arc<Catalog> {
        let mut catalogs = self.catalogs.lock().unwrap_or_else(PoisonError::into_inner);
        let catalog = catalogs
            .entry(name.clone())
            .or_insert_with(|| Arc::new(Catalog::new(self.ecr.clone(), name.clone())));
        Arc::clone(catalog)
    }

    /// The same, if anybody has asked for it.
    pub(crate) fn known_catalog(&self, name: &RepositoryName) -> Option<Arc<Catalog>> {
        let catalogs = self.catalogs.lock().unwrap_or_else(PoisonError::into_inner);
        catalogs.get(name).cloned()
    }

    /// One object at a time acts on a repository: two that adopt the same one must not both believe they have it.
    pub(crate) async fn lock(&self, name: &RepositoryName) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
                lock
            } else {
                let lock = Arc::default();
                locks.insert(name.clone(), Arc::downgrade(&lock));
                lock
            }
        };
        lock.lock_owned().await
    }

    fn with<T>(&self, act: impl FnOnce(&mut Checks) -> T) -> T {
        act(&mut self.checks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
