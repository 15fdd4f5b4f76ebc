//! What a message on the queue says. Pure; anybody who may write to the queue writes anything at all, so what is read
//! here only ever says where to look.
//!
//! Source of the shapes: the user guide's pages on events of ECR and of enhanced scanning, and CloudTrail's record
//! contents. A message body is EventBridge's envelope as it is.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use crate::api::names::{AccountId, CachePrefix, Region, RepositoryName, TemplatePrefix};

/// The longest body that is read; SQS takes no more than 1 MiB.
const LONGEST: usize = 1 << 20;

/// The most resources of a finding that are read; Inspector names at most ten.
const RESOURCES: usize = 10;

/// The sort of an event, as metrics tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    ImageAction,
    ReferrerAction,
    ImageScan,
    ScanResourceChange,
    ReplicationAction,
    PullThroughCacheAction,
    InspectorScan,
    InspectorFinding,
    ApiCall,
    /// Something else about ECR.
    Other,
    /// Not an event of ECR at all.
    NotEcr,
}

impl Kind {
    /// As it stands in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ImageAction => "ImageAction",
            Self::ReferrerAction => "ReferrerAction",
            Self::ImageScan => "ImageScan",
            Self::ScanResourceChange => "ScanResourceChange",
            Self::ReplicationAction => "ReplicationAction",
            Self::PullThroughCacheAction => "PullThroughCacheAction",
            Self::InspectorScan => "InspectorScan",
            Self::InspectorFinding => "InspectorFinding",
            Self::ApiCall => "ApiCall",
            Self::Other => "Other",
            Self::NotEcr => "NotEcr",
        }
    }
}

/// What happened to an image, by the word of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ImageChange {
    /// A tag or a digest came, also by a pull-through cache.
    Pushed {
        digest: Option<String>,
        tag: Option<String>,
    },
    /// A tag or a digest went.
    Deleted {
        digest: Option<String>,
        tag: Option<String>,
    },
    /// A scan ended, or a finding changed.
    Scanned { digest: String },
    /// It was archived or restored.
    StorageClass { digest: String },
    /// It came by replication, or failed to.
    Replicated {
        digest: Option<String>,
        tag: Option<String>,
    },
}

/// What a registry keeps by prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Setting {
    /// Pull-through cache rules.
    CacheRule,
    /// Repository creation templates.
    Template,
}

/// What may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A repository's settings, or whether it exists.
    Repository(RepositoryName),
    /// What is kept for this prefix; for any prefix where the event names none.
    Setting(Setting, Option<String>),
    /// The registry's own settings.
    Registry,
    /// An image.
    Image(RepositoryName, ImageChange),
}

/// What is to be done about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// These may have changed. `request` is AWS's id of the API call, where the event tells of one.
    Changed {
        subjects: Vec<Subject>,
        request: Option<String>,
    },
    /// An event that concerns nothing of ours: a call that failed or changed nothing we look at.
    Nothing,
    /// An event of another account or Region.
    Elsewhere,
    /// An event of ECR of a sort that is not known.
    Unknown,
    /// An event of ECR that lacks what AWS documents, or has nonsense in its place.
    Malformed,
    /// Not an event of ECR.
    NotEcr,
}

impl Meaning {
    /// As metrics tell it.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "hinted",
            Self::Nothing => "of-no-concern",
            Self::Elsewhere => "elsewhere",
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
            Self::NotEcr => "left",
        }
    }
}

/// A message that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub kind: Kind,
    pub meaning: Meaning,
}

/// The registry whose events are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home<'a> {
    pub account: &'a AccountId,
    pub region: &'a Region,
}

/// What EventBridge puts around every event.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Envelope {
    source: String,
    detail_type: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    detail: Value,
}

/// Reads a message.
pub(crate) fn read(body: &str, home: Home<'_>) -> Reading {
    let not_ecr = Reading {
        kind: Kind::NotEcr,
        meaning: Meaning::NotEcr,
    };
    if body.len() > LONGEST {
        return not_ecr;
    }
    let Ok(envelope) = serde_json::from_str::<Envelope>(body) else {
        return not_ecr;
    };
    let Some(kind) = kind(&envelope) else {
        return not_ecr;
    };
    let meaning = if envelope.account != home.account.as_str() || envelope.region != home.region.as_str() {
        Meaning::Elsewhere
    } else {
        meaning(kind, envelope.detail, home).unwrap_or(Meaning::Malformed)
    };
    Reading { kind, meaning }
}

/// `None`: not an event of ECR.
fn kind(envelope: &Envelope) -> Option<Kind> {
    let kind = match (envelope.source.as_str(), envelope.detail_type.as_str()) {
        ("aws.ecr", "ECR Image Action") => Kind::ImageAction,
        ("aws.ecr", "ECR Referrer Action") => Kind::ReferrerAction,
        ("aws.ecr", "ECR Image Scan") => Kind::ImageScan,
        ("aws.ecr", "ECR Scan Resource Change") => Kind::ScanResourceChange,
        ("aws.ecr", "ECR Replication Action") => Kind::ReplicationAction,
        ("aws.ecr", "ECR Pull Through Cache Action") => Kind::PullThroughCacheAction,
        ("aws.ecr", "AWS API Call via CloudTrail") => Kind::ApiCall,
        ("aws.ecr", _) => Kind::Other,
        ("aws.inspector2", "Inspector2 Scan") if names_ecr(&envelope.detail) => Kind::InspectorScan,
        ("aws.inspector2", "Inspector2 Finding") if !ecr_images(&envelope.detail).is_empty() => Kind::InspectorFinding,
        _ => return None,
    };
    Some(kind)
}

/// Inspector also scans what is not in ECR.
fn names_ecr(detail: &Value) -> bool {
    let name = detail.get("repository-name").and_then(Value::as_str);
    name.is_some_and(|name| name.starts_with("arn:") && name.contains(":ecr:"))
}

fn ecr_images(detail: &Value) -> Vec<&Value> {
    let resources = detail.get("resources").and_then(Value::as_array);
    let resources = resources.map_or(&[][..], Vec::as_slice);
    resources
        .iter()
        .take(RESOURCES)
        .filter_map(|resource| resource.pointer("/details/awsEcrContainerImage"))
        .collect()
}

/// An event of ECR lacks what AWS documents, or has nonsense in its place.
struct Malformed;

type Read<T> = Result<T, Malformed>;

fn meaning(kind: Kind, detail: Value, home: Home<'_>) -> Read<Meaning> {
    match kind {
        Kind::ImageAction | Kind::ReferrerAction => image_action(&parse(detail)?),
        Kind::ImageScan => image_scan(&parse(detail)?),
        Kind::ScanResourceChange => {
            parse::<ScanResourceChange>(detail)?;
            Ok(changed(Subject::Registry))
        }
        Kind::ReplicationAction => {
            let image: ImageDetail = parse(detail)?;
            let what = ImageChange::Replicated {
                digest: optional(image.image_digest.as_deref(), is_digest)?,
                tag: optional(image.image_tag.as_deref(), is_tag)?,
            };
            image_of(&image.repository_name, what)
        }
        Kind::PullThroughCacheAction => {
            let image: ImageDetail = parse(detail)?;
            // Where the sync failed, there is nothing new to look at.
            match image.sync_status.as_deref() {
                Some("SUCCESS") => pushed(&image),
                Some(_) => Ok(Meaning::Nothing),
                None => Err(Malformed),
            }
        }
        Kind::InspectorScan => {
            let scan: ScanDetail = parse(detail)?;
            let Some(name) = repository_of(&scan.repository_name, home)? else {
                return Ok(Meaning::Elsewhere);
            };
            Ok(changed(Subject::Image(name, scanned(scan.image_digest.as_deref())?)))
        }
        Kind::InspectorFinding => finding(&detail, home),
        Kind::ApiCall => api_call(parse(detail)?, home),
        Kind::Other => Ok(Meaning::Unknown),
        Kind::NotEcr => Ok(Meaning::NotEcr),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(detail: Value) -> Read<T> {
    serde_json::from_value(detail).map_err(|_| Malformed)
}

fn changed(subject: Subject) -> Meaning {
    Meaning::Changed {
        subjects: vec![subject],
        request: None,
    }
}

fn image_of(repository: &str, what: ImageChange) -> Read<Meaning> {
    Ok(changed(Subject::Image(named(repository)?, what)))
}

/// The parts of the events about one image that are read.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ImageDetail {
    repository_name: String,
    #[serde(default)]
    action_type: Option<String>,
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    sync_status: Option<String>,
    #[serde(default)]
    image_digest: Option<String>,
    #[serde(default)]
    image_tag: Option<String>,
}

fn image_action(image: &ImageDetail) -> Read<Meaning> {
    if image.result.as_deref().is_some_and(|result| result != "SUCCESS") {
        return Ok(Meaning::Nothing);
    }
    match image.action_type.as_deref().ok_or(Malformed)? {
        "PUSH" => pushed(image),
        "DELETE" => {
            let what = ImageChange::Deleted {
                digest: optional(image.image_digest.as_deref(), is_digest)?,
                tag: optional(image.image_tag.as_deref(), is_tag)?,
            };
            image_of(&image.repository_name, what)
        }
        "UPDATE_STORAGE_CLASS" => {
            let digest = required_digest(image.image_digest.as_deref())?;
            image_of(&image.repository_name, ImageChange::StorageClass { digest })
        }
        _ => Ok(Meaning::Unknown),
    }
}

fn pushed(image: &ImageDetail) -> Read<Meaning> {
    let what = ImageChange::Pushed {
        digest: optional(image.image_digest.as_deref(), is_digest)?,
        tag: optional(image.image_tag.as_deref(), is_tag)?,
    };
    image_of(&image.repository_name, what)
}

/// What is read of a scan's end. How many findings there are is not: whoever wants to know asks ECR.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ScanDetail {
    repository_name: String,
    #[serde(default)]
    image_digest: Option<String>,
}

fn image_scan(scan: &ScanDetail) -> Read<Meaning> {
    image_of(&scan.repository_name, scanned(scan.image_digest.as_deref())?)
}

fn scanned(digest: Option<&str>) -> Read<ImageChange> {
    let digest = required_digest(digest)?;
    Ok(ImageChange::Scanned { digest })
}

/// How often images are scanned is a setting of the registry, whichever repositories it reaches.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ScanResourceChange {
    #[expect(dead_code, reason = "read to see that it is there")]
    action_type: IgnoredAny,
}

/// A finding names one or more images, also such as lie in other registries.
fn finding(detail: &Value, home: Home<'_>) -> Read<Meaning> {
    let mut subjects = Vec::new();
    for image in ecr_images(detail) {
        let text = |key: &str| image.get(key).and_then(Value::as_str);
        if text("registry").ok_or(Malformed)? != home.account.as_str() {
            continue;
        }
        let name = named(text("repositoryName").ok_or(Malformed)?)?;
        subjects.push(Subject::Image(name, scanned(text("imageHash"))?));
    }
    Ok(match subjects.is_empty() {
        true => Meaning::Elsewhere,
        false => Meaning::Changed {
            subjects,
            request: None,
        },
    })
}

/// The parts of a record of CloudTrail that are read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_source: String,
    event_name: String,
    #[serde(default)]
    aws_region: Option<String>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    error_code: Option<String>,
    #[serde(default, rename = "requestID")]
    request_id: Option<String>,
    #[serde(default)]
    request_parameters: Option<Parameters>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    #[serde(default)]
    registry_id: Option<String>,
    #[serde(default)]
    repository_name: Option<String>,
    #[serde(default)]
    resource_arn: Option<String>,
    #[serde(default)]
    ecr_repository_prefix: Option<String>,
    #[serde(default)]
    prefix: Option<String>,
}

/// What a call changes, by its name.
enum Scope {
    Repository,
    Registry,
    Setting(Setting),
    /// Images, of which events of their own tell, or nothing that lasts.
    Nothing,
}

fn scope(operation: &str) -> Option<Scope> {
    Some(match operation {
        "CreateRepository"
        | "DeleteRepository"
        | "SetRepositoryPolicy"
        | "DeleteRepositoryPolicy"
        | "PutImageTagMutability"
        | "PutImageScanningConfiguration"
        | "PutLifecyclePolicy"
        | "DeleteLifecyclePolicy"
        | "TagResource"
        | "UntagResource" => Scope::Repository,
        "PutRegistryPolicy"
        | "DeleteRegistryPolicy"
        | "PutReplicationConfiguration"
        | "PutRegistryScanningConfiguration"
        | "PutAccountSetting"
        | "PutSigningConfiguration"
        | "DeleteSigningConfiguration"
        | "RegisterPullTimeUpdateExclusion"
        | "DeregisterPullTimeUpdateExclusion" => Scope::Registry,
        "CreatePullThroughCacheRule" | "UpdatePullThroughCacheRule" | "DeletePullThroughCacheRule" => {
            Scope::Setting(Setting::CacheRule)
        }
        "CreateRepositoryCreationTemplate"
        | "UpdateRepositoryCreationTemplate"
        | "DeleteRepositoryCreationTemplate" => Scope::Setting(Setting::Template),
        "PutImage"
        | "BatchDeleteImage"
        | "UpdateImageStorageClass"
        | "StartImageScan"
        | "StartLifecyclePolicyPreview"
        | "InitiateLayerUpload"
        | "UploadLayerPart"
        | "CompleteLayerUpload" => Scope::Nothing,
        reads
            if ["Get", "List", "Describe", "BatchGet", "BatchCheck", "Validate"]
                .iter()
                .any(|start| reads.starts_with(start)) =>
        {
            Scope::Nothing
        }
        _ => return None,
    })
}

fn api_call(record: Record, home: Home<'_>) -> Read<Meaning> {
    if record.event_source != "ecr.amazonaws.com" {
        return Ok(Meaning::Unknown);
    }
    let Some(scope) = scope(&record.event_name) else {
        return Ok(Meaning::Unknown);
    };
    // A call that was refused changed nothing.
    if record.read_only || record.error_code.is_some() {
        return Ok(Meaning::Nothing);
    }
    if record
        .aws_region
        .as_deref()
        .is_some_and(|region| region != home.region.as_str())
    {
        return Ok(Meaning::Elsewhere);
    }
    let parameters = record.request_parameters;
    // Whoever calls into another account's registry is told of it too.
    let registry = parameters
        .as_ref()
        .and_then(|parameters| parameters.registry_id.as_deref());
    if registry.is_some_and(|registry| registry != home.account.as_str()) {
        return Ok(Meaning::Elsewhere);
    }
    let subject = match scope {
        Scope::Nothing => return Ok(Meaning::Nothing),
        Scope::Registry => Subject::Registry,
        Scope::Setting(setting) => Subject::Setting(setting, prefix(setting, parameters.as_ref())?),
        Scope::Repository => {
            let parameters = parameters.ok_or(Malformed)?;
            let name = match (&parameters.repository_name, &parameters.resource_arn) {
                (Some(name), _) => named(name)?,
                (None, Some(arn)) => match repository_of(arn, home)? {
                    Some(name) => name,
                    None => return Ok(Meaning::Elsewhere),
                },
                (None, None) => return Err(Malformed),
            };
            Subject::Repository(name)
        }
    };
    Ok(Meaning::Changed {
        subjects: vec![subject],
        request: record.request_id.filter(|id| id.len() <= 64),
    })
}

/// The prefix that a call was about. AWS has no example of such a record: one that names none means any.
fn prefix(setting: Setting, parameters: Option<&Parameters>) -> Read<Option<String>> {
    let Some(parameters) = parameters else { return Ok(None) };
    match setting {
        Setting::CacheRule => optional(parameters.ecr_repository_prefix.as_deref(), |text| {
            text.parse::<CachePrefix>().is_ok()
        }),
        Setting::Template => optional(parameters.prefix.as_deref(), |text| {
            text.parse::<TemplatePrefix>().is_ok()
        }),
    }
}

/// The repository of an ARN; `None` if it is of another registry.
fn repository_of(arn: &str, home: Home<'_>) -> Read<Option<RepositoryName>> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", _, "ecr", region, account, resource] = parts.as_slice() else {
        return Err(Malformed);
    };
    let name = named(resource.strip_prefix("repository/").ok_or(Malformed)?)?;
    Ok((*region == home.region.as_str() && *account == home.account.as_str()).then_some(name))
}

fn named(text: &str) -> Read<RepositoryName> {
    text.parse().map_err(|_| Malformed)
}

/// A text that may be absent or empty, but not nonsense.
fn optional(text: Option<&str>, valid: impl Fn(&str) -> bool) -> Read<Option<String>> {
    match text {
        None | Some("") => Ok(None),
        Some(text) if valid(text) => Ok(Some(text.to_owned())),
        Some(_) => Err(Malformed),
    }
}

fn required_digest(text: Option<&str>) -> Read<String> {
    optional(text, is_digest)?.ok_or(Malformed)
}

/// `sha256:` and 64 hexadecimal digits, which is all that ECR makes.
fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// As ECR has it: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,299}`.
fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=300).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
