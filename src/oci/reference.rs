//! Which image in which registry: `HOST/REPOSITORY[:TAG][@DIGEST]`, for Amazon ECR's private registries. Pure.
//!
//! Sources: the endpoints page of the ECR reference (hosts), the image specification of OCI (tags, digests).

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use crate::api::names::{AccountId, Digest, NameError, Region, RepositoryName, Tag};

/// The host of a private registry, which tells its account and Region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RegistryHost {
    pub account: AccountId,
    pub region: Region,
    form: HostForm,
}

/// How the host of a registry is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum HostForm {
    /// `<account>.dkr.ecr.<region>.amazonaws.com`
    Classic,
    /// `<account>.dkr.ecr-fips.<region>.amazonaws.com`
    Fips,
    /// `<account>.dkr-ecr.<region>.on.aws`, by IPv4 and IPv6.
    DualStack,
    /// `<account>.dkr-ecr-fips.<region>.on.aws`
    DualStackFips,
}

/// An image in a private registry of ECR.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ImageReference {
    pub host: RegistryHost,
    pub repository: RepositoryName,
    pub tag: Option<Tag>,
    /// Wins over the tag, which then only says what it was called.
    pub digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReferenceError {
    #[error("{0:?} is not the host of a private registry of ECR, such as 111122223333.dkr.ecr.eu-west-1.amazonaws.com")]
    Host(String),

    #[error("{0:?} names no repository: write HOST/REPOSITORY, and :TAG or @DIGEST where an image is meant")]
    NoRepository(String),

    #[error(transparent)]
    Name(#[from] NameError),
}

impl Digest {
    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    /// Of everything that was put into the hasher.
    pub(crate) fn finish(hasher: Sha256) -> Self {
        Self::from_bytes(&hasher.finalize().into())
    }
}

impl HostForm {
    const ALL: [Self; 4] = [Self::Classic, Self::Fips, Self::DualStack, Self::DualStackFips];

    /// What stands between the account and the Region.
    const fn service(self) -> &'static str {
        match self {
            Self::Classic => "dkr.ecr",
            Self::Fips => "dkr.ecr-fips",
            Self::DualStack => "dkr-ecr",
            Self::DualStackFips => "dkr-ecr-fips",
        }
    }

    /// What follows the Region, which settles it by its partition.
    fn suffix(self, region: &Region) -> &'static str {
        let dual_stack = matches!(self, Self::DualStack | Self::DualStackFips);
        match (region.partition(), dual_stack) {
            ("aws-cn", false) => "amazonaws.com.cn",
            ("aws-cn", true) => "on.amazonwebservices.com.cn",
            ("aws-eusc", false) => "amazonaws.eu",
            ("aws-eusc", true) => "on.amazonwebservices.eu",
            ("aws-iso", _) => "c2s.ic.gov",
            ("aws-iso-b", _) => "sc2s.sgov.gov",
            ("aws-iso-e", _) => "cloud.adc-e.uk",
            ("aws-iso-f", _) => "csp.hci.ic.gov",
            (_, false) => "amazonaws.com",
            (_, true) => "on.aws",
        }
    }
}

impl RegistryHost {
    /// The usual host of the registry of an account in a Region.
    #[allow(dead_code, reason = "for controllers, whose objects name an account and a Region")]
    pub(crate) fn new(account: AccountId, region: Region) -> Self {
        Self {
            account,
            region,
            form: HostForm::Classic,
        }
    }

    /// Whether both are the same registry, by whatever host.
    pub(crate) fn is_same_registry(&self, other: &Self) -> bool {
        self.account == other.account && self.region == other.region
    }
}

impl FromStr for RegistryHost {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refused = || ReferenceError::Host(cut(text));
        let (account, rest) = text.split_once('.').ok_or_else(refused)?;
        let account = account.parse().map_err(|_| refused())?;
        for form in HostForm::ALL {
            let Some((region, suffix)) = rest
                .strip_prefix(form.service())
                .and_then(|rest| rest.strip_prefix('.'))
                .and_then(|rest| rest.split_once('.'))
            else {
                continue;
            };
            let region: Region = region.parse().map_err(|_| refused())?;
            // The whole of it: a token must never go to what only begins like a host of AWS.
            if suffix == form.suffix(&region) {
                return Ok(Self { account, region, form });
            }
        }
        Err(refused())
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, region, form } = self;
        write!(f, "{account}.{}.{region}.{}", form.service(), form.suffix(region))
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (host, path) = text
            .split_once('/')
            .ok_or_else(|| ReferenceError::NoRepository(cut(text)))?;
        let (path, digest) = match path.split_once('@') {
            Some((path, digest)) => (path, Some(digest.parse()?)),
            None => (path, None),
        };
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag.parse()?)),
            None => (path, None),
        };
        if repository.is_empty() {
            return Err(ReferenceError::NoRepository(cut(text)));
        }
        Ok(Self {
            host: host.parse()?,
            repository: repository.parse()?,
            tag,
            digest,
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Enough of a text to recognise it by; messages must not grow with what they are about.
fn cut(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parsed(text: &str) -> ImageReference {
        text.parse().unwrap()
    }

    /// Every combination of parts that are valid by themselves.
    fn valid_references() -> Vec<String> {
        let hosts = [
            "111122223333.dkr.ecr.eu-west-1.amazonaws.com",
            "111122223333.dkr.ecr-fips.us-east-1.amazonaws.com",
            "111122223333.dkr-ecr.eu-west-1.on.aws",
            "111122223333.dkr-ecr-fips.us-gov-west-1.on.aws",
            "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn",
            "111122223333.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
            "111122223333.dkr.ecr.eusc-de-east-1.amazonaws.eu",
            "111122223333.dkr.ecr.us-iso-east-1.c2s.ic.gov",
        ];
        let names = ["web", "team-a/web", "a/b/c/d-e_f.g"];
        let tags = ["", ":v1.2.3", ":latest", ":_x", ":sha256-abc.sig"];
        let digests = [String::new(), format!("@sha256:{HEX}")];
        let mut all = Vec::new();
        for host in hosts {
            for name in names {
                for tag in tags {
                    all.extend(digests.iter().map(|digest| format!("{host}/{name}{tag}{digest}")));
                }
            }
        }
        all
    }

    #[test]
    fn what_is_parsed_is_printed_as_it_was_written() {
        for text in valid_references() {
            assert_eq!(parsed(&text).to_string(), text);
        }
    }

    #[test]
    fn a_reference_with_one_character_taken_out_or_doubled_is_another_one_or_none() {
        for text in valid_references() {
            for at in 0..text.len() {
                let without = [&text[..at], &text[at + 1..]].concat();
                let doubled = [&text[..=at], &text[at..]].concat();
                for other in [without, doubled] {
                    // Never silently taken for the first.
                    if let Ok(reference) = other.parse::<ImageReference>() {
                        assert_eq!(reference.to_string(), other);
                    }
                }
            }
        }
    }

    #[test]
    fn the_host_tells_account_and_region() {
        let reference = parsed("111122223333.dkr-ecr.eu-west-1.on.aws/team/web:v1");
        assert_eq!(reference.host.account.as_str(), "111122223333");
        assert_eq!(reference.host.region.as_str(), "eu-west-1");
        let usual = RegistryHost::new(reference.host.account.clone(), reference.host.region.clone());
        assert_eq!(usual.to_string(), "111122223333.dkr.ecr.eu-west-1.amazonaws.com");
        assert!(usual.is_same_registry(&reference.host) && usual != reference.host);
    }

    #[test]
    fn hosts_that_only_look_like_those_of_aws_are_refused() {
        for host in [
            "docker.io",
            "localhost:5000",
            "public.ecr.aws",
            "11112222333.dkr.ecr.eu-west-1.amazonaws.com",
            "111122223333.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
            "111122223333.dkr.ecr.eu-west-1.amazonaws.com.cn",
            "111122223333.dkr.ecr.cn-north-1.amazonaws.com",
            "111122223333.dkr.ecr.eu-west-1.on.aws",
            "111122223333.dkr.ecr.eu-west-1.amazonaws.com:443",
            "111122223333.dkr.ecr.EU-WEST-1.amazonaws.com",
            "user@111122223333.dkr.ecr.eu-west-1.amazonaws.com",
            "111122223333.dkr.ecr..amazonaws.com",
            "111122223333.dkr.ecr.evil.example/.amazonaws.com",
        ] {
            assert!(host.parse::<RegistryHost>().is_err(), "{host}");
            assert!(format!("{host}/web:v1").parse::<ImageReference>().is_err(), "{host}");
        }
    }

    #[test]
    fn what_is_not_a_tag_or_a_digest_is_refused() {
        for tag in ["", ".a", "-a", "a b", "a/b", "a:b", "ä", &"a".repeat(129)] {
            assert!(tag.parse::<Tag>().is_err(), "{tag}");
        }
        assert!("a".repeat(128).parse::<Tag>().is_ok());
        let short = &HEX[1..];
        for digest in [
            HEX.to_owned(),
            format!("sha256:{short}"),
            format!("sha256:{HEX}0"),
            format!("sha256:{}", HEX.to_uppercase()),
            format!("sha512:{HEX}"),
            format!("sha256:{short}g"),
        ] {
            assert!(digest.parse::<Digest>().is_err(), "{digest}");
        }
        let host = "111122223333.dkr.ecr.eu-west-1.amazonaws.com";
        for text in [
            host.to_owned(),
            format!("{host}/"),
            format!("{host}/:v1"),
            format!("{host}/web:"),
            format!("{host}/web@"),
            format!("{host}/web@v1"),
            format!("https://{host}/web:v1"),
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
    }

    #[test]
    fn digests_are_those_of_sha_256_and_name_their_companions() {
        let empty = Digest::of(b"");
        assert_eq!(empty.as_str(), format!("sha256:{HEX}"));
        assert_eq!(empty.companion(".sig").as_str(), format!("sha256-{HEX}.sig"));
        assert!(empty.companion(".sbom").as_str().parse::<Tag>().is_ok());
    }
}
