//! The names AWS and this operator use, each parsed once where it enters the program.
//!
//! A value of one of these types is known to be well-formed; the JSON schema of each carries the same rule, so that
//! `kubectl apply` refuses what the parser would refuse. Sources: the ECR API reference (`CreateRepository`,
//! `ReplicationDestination`) and the IAM identifiers page.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Why a text is not a name of the wanted sort.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {what}: {rule}")]
pub struct NameError {
    what: &'static str,
    rule: &'static str,
    value: String,
}

/// Declares a string type with its parser, its schema and its conversions.
macro_rules! name {
    (
        $(#[$doc:meta])*
        $name:ident, what: $what:literal, rule: $rule:literal,
        length: $min:literal..=$max:literal, pattern: $pattern:literal, valid: $valid:expr
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if ($min..=$max).contains(&text.len()) && valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    // A hostile manifest must not be able to fill conditions and logs.
                    let value = text.chars().take(80).collect();
                    Err(NameError { what: $what, rule: $rule, value })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "minLength": $min, "maxLength": $max, "pattern": $pattern })
            }
        }
    };
}

name! {
    /// An AWS account id: twelve digits. ECR calls the account of a private registry its registry id.
    AccountId, what: "an AWS account id", rule: "twelve digits",
    length: 12..=12, pattern: "^[0-9]{12}$", valid: |text| text.bytes().all(|b| b.is_ascii_digit())
}

name! {
    /// An AWS Region, such as `eu-west-1`.
    Region, what: "an AWS Region", rule: "2 to 25 lowercase letters, digits and hyphens, such as eu-west-1",
    length: 2..=25, pattern: "^[a-z][a-z0-9-]*[0-9a-z]$",
    valid: |text| text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

name! {
    /// The name of a repository, with its namespaces: `team-a/web`.
    RepositoryName, what: "an ECR repository name",
    rule: "2 to 256 characters in segments separated by '/'; a segment is lowercase letters and digits, with single '.', '_', \
           '__' or hyphens between them",
    length: 2..=256,
    pattern: r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$",
    valid: |text| text.split('/').all(is_repository_segment)
}

name! {
    /// What a tenant's repository names begin with, compared by whole path segments; `{namespace}` stands for the
    /// namespace of the object, and `*` alone for every name.
    RepositoryPrefix, what: "a repository prefix",
    rule: "path segments of repository names separated by '/', with '{namespace}' for the object's namespace, or '*' for every name",
    length: 1..=256,
    pattern: r"^(\*|(\{namespace\}|[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)(/(\{namespace\}|[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*))*/?)$",
    valid: |text| text == "*"
        || text.strip_suffix('/').unwrap_or(text).split('/').all(|s| s == "{namespace}" || is_repository_segment(s))
}

name! {
    /// What the names of repositories begin with that a pull-through cache rule makes; `ROOT` means every name.
    CachePrefix, what: "a prefix of a pull-through cache rule",
    rule: "ROOT, or 2 to 30 characters in segments of repository names separated by '/'",
    length: 2..=30,
    pattern: r"^(ROOT|[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*/?)$",
    valid: is_prefix_or_root
}

name! {
    /// What the names of repositories begin with that a creation template is for; `ROOT` means every name.
    TemplatePrefix, what: "a prefix of a creation template",
    rule: "ROOT, or 1 to 256 characters in segments of repository names separated by '/'",
    length: 1..=256,
    pattern: r"^(ROOT|[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*/?)$",
    valid: is_prefix_or_root
}

name! {
    /// The ARN of a key of AWS KMS.
    KmsKeyArn, what: "the ARN of a KMS key", rule: "arn:aws:kms:<region>:<account>:key/<id>",
    length: 30..=2048, pattern: r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$",
    valid: |text| matches!(text.split(':').collect::<Vec<_>>().as_slice(), ["arn", partition, "kms", region, account, key]
        if partition.starts_with("aws") && !region.is_empty() && account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && key.strip_prefix("key/").is_some_and(|id| !id.is_empty()
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')))
}

name! {
    /// The ARN of a secret with credentials for an upstream registry.
    SecretArn, what: "the ARN of a secret for pull-through",
    rule: "arn:aws:secretsmanager:<region>:<account>:secret:ecr-pullthroughcache/<name>",
    length: 50..=612,
    pattern: r"^arn:aws(-\w+)*:secretsmanager:[a-zA-Z0-9-:]+:secret:ecr-pullthroughcache/[a-zA-Z0-9/_+=.@-]+$",
    valid: |text| text.starts_with("arn:aws")
        && text.split_once(":secretsmanager:").and_then(|(_, rest)| rest.split_once(":secret:ecr-pullthroughcache/"))
            .is_some_and(|(place, name)| !place.is_empty() && !name.is_empty()
                && place.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':'))
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b)))
}

name! {
    /// The ARN of an IAM role.
    RoleArn, what: "the ARN of an IAM role", rule: "arn:aws:iam::<account>:role/<name>",
    length: 20..=2048, pattern: r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$",
    valid: |text| is_iam_arn(text, "role/")
}

name! {
    /// Who manages a registry: the name under which an installation claims registries and marks what is its own. It
    /// survives the cluster it runs in. It goes into tag values of at most 256 characters together with a namespace and
    /// a name, hence its limit of 40.
    OwnerId, what: "an owner id", rule: "1 to 40 letters, digits and '.', '_', '-'",
    length: 1..=40, pattern: "^[A-Za-z0-9._-]+$",
    valid: |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

name! {
    /// The digest of a manifest: what an image is, whatever its tags say.
    Digest, what: "an image digest", rule: "sha256: and 64 lowercase hexadecimal digits",
    length: 71..=71, pattern: "^sha256:[0-9a-f]{64}$",
    valid: |text| text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

name! {
    /// A tag of an image, as the OCI distribution specification has it.
    Tag, what: "an image tag", rule: "1 to 128 letters, digits, '_', '.', '-', not beginning with '.' or '-'",
    length: 1..=128, pattern: "^[A-Za-z0-9_][A-Za-z0-9._-]*$",
    valid: |text| !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

name! {
    /// A platform of an image: operating system, architecture and, where there is one, the variant, such as
    /// `linux/arm64/v8`.
    Platform, what: "a platform", rule: "os/architecture or os/architecture/variant, such as linux/amd64",
    length: 3..=64, pattern: "^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9_]+)?$",
    valid: |text| (2..=3).contains(&text.split('/').count())
        && text.split('/').all(|part| !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
}

/// The namespace of repository names that belongs to the operator itself (the claim, the report of images in use).
pub const RESERVED_PREFIX: &str = "ecr-operator/";

impl Region {
    /// The partition of the Region, the second part of its ARNs.
    #[must_use]
    pub fn partition(&self) -> &'static str {
        match self.0.split('-').next() {
            Some("cn") => "aws-cn",
            Some("eusc") => "aws-eusc",
            Some("us") if self.0.starts_with("us-gov-") => "aws-us-gov",
            Some("us") if self.0.starts_with("us-isob-") => "aws-iso-b",
            Some("us") if self.0.starts_with("us-isof-") => "aws-iso-f",
            Some("us") if self.0.starts_with("us-iso-") => "aws-iso",
            Some("eu") if self.0.starts_with("eu-isoe-") => "aws-iso-e",
            _ => "aws",
        }
    }
}

impl Digest {
    /// The first twelve digits, for people; enough to tell the images of a repository apart.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(7..19).unwrap_or(&self.0)
    }

    /// The tag that keeps the image in use: `in-use.<hex>`.
    pub(crate) fn in_use_tag(&self) -> Tag {
        Tag(self.0.replacen("sha256:", super::IN_USE_TAG_PREFIX, 1))
    }

    /// The hash itself.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        let digits = self.0.as_bytes().iter().skip("sha256:".len()).map(|digit| match digit {
            b'0'..=b'9' => digit - b'0',
            _ => digit - b'a' + 10,
        });
        let mut bytes = [0; 32];
        for (index, digit) in digits.enumerate() {
            bytes[index / 2] = bytes[index / 2] << 4 | digit;
        }
        bytes
    }

    /// The digest with this hash.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in bytes {
            // Writing into a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The tag under which the tools of before OCI 1.1 keep what belongs to an image: `sha256-<hex>` and a suffix, such as
    /// `.sig`.
    pub(crate) fn companion(&self, suffix: &'static str) -> Tag {
        Tag(format!("{}{suffix}", self.0.replacen(':', "-", 1)))
    }
}

impl Tag {
    /// The image that the tag keeps in use, where it is a tag of the operator's: `in-use.` and 64 digits, nothing else.
    pub(crate) fn keeps(&self) -> Option<Digest> {
        format!("sha256:{}", self.0.strip_prefix(super::IN_USE_TAG_PREFIX)?)
            .parse()
            .ok()
    }
}

impl RepositoryName {
    /// Whether the name belongs to the operator itself, so that no object may use it.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_PREFIX)
    }
}

impl RepositoryPrefix {
    /// Whether the name lies under this prefix for an object of the given namespace. Segments are compared whole:
    /// `team-a/` and `team-a` hold `team-a/web` and not `team-ab/web`; `team-a` also holds the repository `team-a`.
    #[must_use]
    pub fn holds(&self, namespace: &str, name: &RepositoryName) -> bool {
        if self.0 == "*" {
            return true;
        }
        let resolved = self.0.replace("{namespace}", namespace);
        let (prefix, exact) = match resolved.strip_suffix('/') {
            Some(prefix) => (prefix, false),
            None => (resolved.as_str(), true),
        };
        match name.as_str().strip_prefix(prefix) {
            Some("") => exact,
            Some(rest) => rest.starts_with('/'),
            None => false,
        }
    }
}

fn is_prefix_or_root(text: &str) -> bool {
    text == "ROOT"
        || text
            .strip_suffix('/')
            .unwrap_or(text)
            .split('/')
            .all(is_repository_segment)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_repository_segment(segment: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = segment.as_bytes();
    let ends_well = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    ends_well
        && bytes
            .split(alphanumeric)
            .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

/// `arn:<partition>:iam::<account>:<kind><name>`
fn is_iam_arn(text: &str, kind: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, service, region, account, resource] = parts.as_slice() else {
        return false;
    };
    let name = resource.strip_prefix(kind).unwrap_or_default();
    *arn == "arn"
        && partition.starts_with("aws")
        && partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        && *service == "iam"
        && region.is_empty()
        && account.parse::<AccountId>().is_ok()
        && !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+=,.@_/-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(text: &str) -> Result<RepositoryName, NameError> {
        text.parse()
    }

    #[test]
    fn repository_names_follow_ecrs_grammar() {
        for good in ["ab", "0a", "team-a/web", "a.b/c_d/e__f", "a---b", "a1/2b"] {
            assert!(repository(good).is_ok(), "{good}");
        }
        for bad in [
            "", "a", "A/b", "a/", "/ab", "a//b", "a..b", "a___b", "a._b", "-ab", "ab-", "a/-b", "a b", "ab\n", "äb",
        ] {
            assert!(repository(bad).is_err(), "{bad}");
        }
        assert!(repository(&"a".repeat(256)).is_ok());
        assert!(repository(&"a".repeat(257)).is_err());
    }

    #[test]
    fn the_error_names_the_rule_and_cuts_a_long_value() {
        let error = repository(&"A".repeat(4000)).unwrap_err().to_string();
        assert!(error.contains("is not an ECR repository name"), "{error}");
        assert!(error.len() < 500, "{}", error.len());
    }

    #[test]
    fn prefixes_are_compared_by_path_segment() {
        let name = repository("team-a/web").unwrap();
        let holds = |prefix: &str| prefix.parse::<RepositoryPrefix>().unwrap().holds("team-a", &name);
        assert!(holds("team-a/"));
        assert!(holds("team-a"));
        assert!(holds("{namespace}/"));
        assert!(holds("{namespace}/web"));
        assert!(holds("*"));
        assert!(!holds("team/"));
        assert!(!holds("team-"[..4].trim_end_matches('-')));
        assert!(!holds("team-a/we"));
        assert!(!holds("team-a/web/"));
        let longer = repository("team-ab/web").unwrap();
        assert!(!"team-a".parse::<RepositoryPrefix>().unwrap().holds("team-a", &longer));
        assert!(
            !"{namespace}/"
                .parse::<RepositoryPrefix>()
                .unwrap()
                .holds("team-a", &longer)
        );
        let exact = repository("team-a").unwrap();
        assert!("team-a".parse::<RepositoryPrefix>().unwrap().holds("x", &exact));
        assert!(!"team-a/".parse::<RepositoryPrefix>().unwrap().holds("x", &exact));
    }

    #[test]
    fn prefixes_that_could_hold_more_than_they_say_are_refused() {
        for bad in ["", "/", "a*", "team-", "{namespace", "{name}/", "../", "A/"] {
            assert!(bad.parse::<RepositoryPrefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_is_its_hash() {
        let text = "sha256:0123456789abcdeffedcba98765432100123456789abcdeffedcba9876543210";
        let digest: Digest = text.parse().unwrap();
        let bytes = digest.to_bytes();
        assert_eq!((bytes[0], bytes[1], bytes[7], bytes[31]), (0x01, 0x23, 0xef, 0x10));
        assert_eq!(Digest::from_bytes(&bytes), digest);
    }

    #[test]
    fn the_operators_own_names_are_reserved() {
        assert!(repository("ecr-operator/registry").unwrap().is_reserved());
        assert!(!repository("ecr-operators/registry").unwrap().is_reserved());
    }

    #[test]
    fn account_ids_regions_roles_and_owner_ids_are_checked() {
        assert!("111122223333".parse::<AccountId>().is_ok());
        assert!("11112222333".parse::<AccountId>().is_err());
        assert!("11112222333a".parse::<AccountId>().is_err());
        assert!("eu-west-1".parse::<Region>().is_ok());
        assert!("EU-west-1".parse::<Region>().is_err());
        assert!("eu west".parse::<Region>().is_err());
        assert!("arn:aws:iam::111122223333:role/path/ecr".parse::<RoleArn>().is_ok());
        assert!("arn:aws-us-gov:iam::111122223333:role/ecr".parse::<RoleArn>().is_ok());
        assert!("arn:aws:iam::111122223333:user/ecr".parse::<RoleArn>().is_err());
        assert!("arn:aws:iam::1:role/ecr".parse::<RoleArn>().is_err());
        assert!("platform".parse::<OwnerId>().is_ok());
        assert!("a/b".parse::<OwnerId>().is_err());
    }
}
