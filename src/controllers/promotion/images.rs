//! What is read of the images of the source repository: which there are, their platforms, and what the gates ask for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{ResourceExt as _, core::DeserializeGuard, runtime::reflector::ObjectRef};

use super::{Run, look::unread, way::Place};
use crate::{
    api::{
        ImagePromotion, PROMOTABLE_FROM_ANNOTATION,
        names::Digest,
        promotion::{From as Upstreams, ImageStatus},
    },
    aws::{
        catalog::Snapshot,
        error::{AwsError, Fault},
        images::{Described, ImageRef},
    },
    control::error::Result,
    promotion::{
        facts::{Closed, Image},
        gates::{self, Known, Name, Upstream},
        platform::{self, CONFIG_LIMIT, Manifest, Platforms},
        scan::{self, Scan, Scanned},
        signature::{self, BLOB_LIMIT, BUNDLE_TYPE, Evidence},
    },
};

/// How many images' platforms are remembered; a digest never changes what it means.
const REMEMBERED: usize = 2_000;

/// The platforms of images that were read. `Err` is what was read and cannot be made out.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<Digest, Result<Arc<Platforms>, String>>>);

/// How many platforms of one image are judged by the scan gate.
const MOST_PLATFORMS: usize = 20;

/// How long a scan that was read is used again.
const RECENT: Duration = Duration::from_mins(1);

/// How many scans are remembered.
const SCANS: usize = 2_000;

/// Which scan: of which repository and image, and whether its findings were read one by one.
type ScanKey = (String, Digest, bool);

/// Scans that were read within the last moment.
#[derive(Debug, Default)]
pub(crate) struct Scans(Mutex<HashMap<ScanKey, (Instant, Scan)>>);

impl Scans {
    fn recent(&self, key: &ScanKey) -> Option<Scan> {
        let scans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (when, scan) = scans.get(key)?;
        (when.elapsed() < RECENT).then(|| scan.clone())
    }

    fn note(&self, key: ScanKey, scan: Scan) {
        let mut scans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if scans.len() >= SCANS {
            scans.retain(|_, (when, _)| when.elapsed() < RECENT);
        }
        if scans.len() < SCANS {
            scans.insert(key, (Instant::now(), scan));
        }
    }

    /// AWS says that the scan of an image has ended or changed.
    pub(crate) fn forget(&self, digest: &Digest) {
        let mut scans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        scans.retain(|(_, of, _), _| of != digest);
    }
}

impl From<Described> for Image {
    fn from(described: Described) -> Self {
        Self {
            is_index: described.is_index(),
            digest: described.digest,
            tags: described.tags,
            pushed_at: described.pushed_at,
            storage: described.storage,
        }
    }
}

impl Run<'_> {
    /// The images of the source repository, as they were seen within the object's interval, or now where somebody asks for
    /// a look.
    pub(super) async fn images(&self) -> Result<Arc<Snapshot>> {
        let place = &self.place()?.source;
        let ecr = place.ecr();
        let listed = self.listed.get_or_try_init(|| async {
            ecr?;
            let max_age = match self.is_asked() {
                true => Duration::ZERO,
                // The next look may come a little early.
                false => self.object.spec.interval.duration().mul_f64(0.8),
            };
            place.connection.catalog(&place.name).get(max_age).await
        });
        Ok(Arc::clone(listed.await?))
    }

    pub(super) async fn image(&self, place: &Place, image: ImageRef) -> Result<Option<Image>, AwsError> {
        let described = place.ecr()?.describe_image(&place.name, &image).await?;
        Ok(described.map(Image::from))
    }

    /// Why an image does not have the wanted platforms, as the rest of a sentence; `None` where it has them all.
    pub(super) async fn lacks(&self, digest: &Digest) -> Result<Option<String>> {
        let wanted = &self.object.spec.source.platforms;
        Ok(match self.platforms(digest).await? {
            Err(unreadable) => Some(format!("cannot be made out: {unreadable}")),
            Ok(platforms) => {
                let missing: Vec<String> = platforms.missing(wanted).iter().map(ToString::to_string).collect();
                let has = || format!("lacks {}; it has {}", missing.join(", "), platforms.list());
                (!missing.is_empty()).then(has)
            }
        })
    }

    async fn platforms(&self, digest: &Digest) -> Result<Result<Arc<Platforms>, String>, AwsError> {
        let Ok(way) = &self.way else {
            return Ok(Err("its repository may not be read".into()));
        };
        let place = &way.source;
        let seen = &self.ctx.world.promoting.platforms;
        let known = seen
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let ecr = place.ecr()?;
        let Some((_, manifest)) = ecr.manifest(&place.name, digest).await? else {
            return Ok(Err("it is gone".into()));
        };
        let read = match platform::read(&manifest) {
            Ok(Manifest::Index(platforms)) => Ok(platforms),
            Ok(Manifest::Image { config }) if config.size > CONFIG_LIMIT => Err("its configuration is too long".into()),
            Ok(Manifest::Image { config }) => {
                let config = ecr.small_blob(&place.name, &config.digest, CONFIG_LIMIT).await?;
                platform::configured(&config, digest).map_err(|error| error.to_string())
            }
            Ok(Manifest::Artifact { kind }) => Err(format!("it is a {kind}, which does not run")),
            Err(error) => Err(error.to_string()),
        };
        let read = read.map(Arc::new);
        let mut seen = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        seen.insert(digest.clone(), read.clone());
        Ok(read)
    }

    pub(super) async fn look_at_gates(&mut self, image: &ImageStatus) -> Result<()> {
        let spec = &self.object.spec;
        let gates = spec.gates.as_ref();
        let scans = match gates.is_some_and(|gates| gates.scan.is_some()) {
            true => self.scans(&image.digest).await,
            false => Ok(Vec::new()),
        };
        let signatures = match gates.is_some_and(|gates| gates.signature.is_some()) {
            true => self.evidence(&image.digest).await.map_err(|error| unread(&error)),
            false => Ok(Evidence::default()),
        };
        let upstream = match &spec.source.from {
            Some(from) => self.upstream(from),
            None => Upstream::Absent,
        };
        let known = Known {
            upstream: &upstream,
            scans: &scans,
            signatures: &signatures,
            approvals: &self.status.approvals,
        };
        let closed: Vec<Closed> = gates::judge(gates, spec.source.from.as_ref(), image, known, Timestamp::now());
        self.facts.gates = Some((image.digest.clone(), closed));
        Ok(())
    }

    pub(super) async fn look_at_regression(&mut self, image: &ImageStatus) -> Result<()> {
        let gate = self.object.spec.gates.as_ref().and_then(|gates| gates.scan.as_ref());
        // What is known is known of the image that runs, and of no other.
        let runs = self
            .status
            .current
            .as_ref()
            .is_some_and(|current| current.digest == image.digest);
        let known = self.status.regression.clone().filter(|_| runs);
        let found = match gate {
            None => None,
            Some(gate) => match self.scans(&image.digest).await {
                Ok(scans) => gates::regression(gate, &scans, known.as_deref(), Timestamp::now()),
                // What cannot be read says nothing new about an image that passed.
                Err(_) => known,
            },
        };
        self.facts.findings.push((image.digest.clone(), found));
        Ok(())
    }

    /// The scans of all images that may run of this one; an index is not scanned itself.
    async fn scans(&self, digest: &Digest) -> Result<Vec<Scanned>, String> {
        let place = &self.place().map_err(|error| error.to_string())?.source;
        let spec = &self.object.spec;
        let gate = spec.gates.as_ref().and_then(|gates| gates.scan.as_ref());
        let list = gate.is_some_and(|gate| scan::needs_list(gate, Timestamp::now()));
        let platforms = self.platforms(digest).await.map_err(|error| unread(&error))??;
        let mut images: Vec<(String, Digest)> = platforms
            .images(&spec.source.platforms)
            .map(|(platform, digest)| (platform.to_string(), digest.clone()))
            .collect();
        if images.is_empty() {
            images.push((digest.short().to_owned(), digest.clone()));
        }
        if images.len() > MOST_PLATFORMS {
            return Err(format!(
                "it has {} platforms, and at most {MOST_PLATFORMS} are judged; name the ones that count in source.platforms",
                images.len()
            ));
        }
        let mut scans = Vec::with_capacity(images.len());
        for (name, digest) in images {
            let scan = self.scan(place, &digest, list).await.map_err(|error| unread(&error))?;
            scans.push(Scanned { name, digest, scan });
        }
        Ok(scans)
    }

    /// The scan of one image, read within the last moment or now: a workload that changes often must not set the pace of our
    /// calls. An event of a scan makes the next look read it again.
    async fn scan(&self, place: &Place, digest: &Digest, list: bool) -> Result<Scan, AwsError> {
        let scans = &self.ctx.world.promoting.scans;
        let key = (place.uri.clone(), digest.clone(), list);
        if let Some(scan) = scans.recent(&key).filter(|_| !self.is_asked()) {
            return Ok(scan);
        }
        let scan = place.ecr()?.scan(&place.name, digest, list).await?;
        scans.note(key, scan.clone());
        Ok(scan)
    }

    /// What speaks for a signature on the image: cosign's older form under a tag, and bundles that refer to it.
    async fn evidence(&self, digest: &Digest) -> Result<Evidence, AwsError> {
        let mut evidence = Evidence::default();
        let Ok(way) = &self.way else { return Ok(evidence) };
        let place = &way.source;
        let (ecr, name) = (place.ecr()?, &place.name);
        if let Some(tag) = signature::tag(digest)
            && let Some(image) = ecr.describe_image(name, &ImageRef::Tag(tag)).await?
            && let Some((_, manifest)) = ecr.manifest(name, &image.digest).await?
        {
            // A manifest that is none of cosign's speaks for nothing.
            for layer in signature::layers(&manifest).unwrap_or_default() {
                let payload = ecr.small_blob(name, &layer.payload.digest, BLOB_LIMIT).await;
                evidence
                    .payloads
                    .extend(readable(payload)?.map(|payload| (payload, layer.signature)));
            }
        }
        for referrer in ecr.referrers_of_type(name, digest, BUNDLE_TYPE).await? {
            let Some((_, manifest)) = ecr.manifest(name, &referrer).await? else {
                continue;
            };
            for bundle in signature::bundles(&manifest).unwrap_or_default() {
                let bundle = ecr.small_blob(name, &bundle.digest, BLOB_LIMIT).await;
                evidence.bundles.extend(readable(bundle)?);
            }
        }
        Ok(evidence)
    }

    /// The promotion that comes before this one, as the watch has it.
    fn upstream(&self, from: &Upstreams) -> Upstream {
        let namespace = self.object.namespace().unwrap_or_default();
        let promotions = &self.ctx.world.promotions;
        let of = from.promotion_ref.namespace.as_deref().unwrap_or(&namespace);
        let reference = ObjectRef::<DeserializeGuard<ImagePromotion>>::new(&from.promotion_ref.name).within(of);
        let Some(guard) = promotions.get(&reference) else {
            return Upstream::Absent;
        };
        let other = match &guard.0 {
            Ok(other) => other,
            Err(invalid) => return Upstream::Unknown(invalid.error.clone()),
        };
        let named = other.annotations().get(PROMOTABLE_FROM_ANNOTATION).map(String::as_str);
        let consents = named
            .unwrap_or_default()
            .split(',')
            .any(|name| name.trim() == namespace);
        if of != namespace && !consents {
            return Upstream::NotAllowed;
        }
        let edges: BTreeMap<Name, Name> = promotions
            .state()
            .iter()
            .filter_map(|guard| edge(guard.0.as_ref().ok()?))
            .collect();
        let start = Name {
            namespace,
            name: self.object.name_any(),
        };
        match gates::circle(&edges, &start) {
            Some(circle) => Upstream::Circle(circle),
            None => Upstream::There(Box::new(other.status.clone().unwrap_or_default())),
        }
    }
}

/// A blob, `None` where it is not to be had: whoever may push could otherwise hold a signed image back by a signature whose
/// blob is missing or damaged.
fn readable(blob: Result<Vec<u8>, AwsError>) -> Result<Option<Vec<u8>>, AwsError> {
    match blob {
        Ok(blob) => Ok(Some(blob)),
        Err(error) if matches!(error.fault, Fault::NotFound | Fault::Invalid) => Ok(None),
        Err(error) => Err(error),
    }
}

/// From a promotion to the one before it.
fn edge(promotion: &ImagePromotion) -> Option<(Name, Name)> {
    let from = promotion.spec.source.from.as_ref()?;
    let namespace = promotion.namespace().unwrap_or_default();
    let before = Name {
        namespace: from
            .promotion_ref
            .namespace
            .clone()
            .unwrap_or_else(|| namespace.clone()),
        name: from.promotion_ref.name.clone(),
    };
    let name = promotion.name_any();
    Some((Name { namespace, name }, before))
}
