//! Where a registry's data plane is. Pure.

use reqwest::Url;

use crate::oci::reference::RegistryHost;

/// The address of the data plane of `host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// By the registry's own host, whoever asked for the token.
    OfHost(Url),
    /// What the token was given out with, which stands for the registry of whoever asked for it, and for no other.
    OfCaller(Url),
}

/// `offered` is what came with the token. ECR offers the registry of the caller's account, and its tokens are good for
/// others too; something that stands in for ECR (a test bed, a proxy in a closed network) offers what it has.
pub(super) fn endpoint(offered: &str, host: &RegistryHost) -> Result<Endpoint, String> {
    let unusable = |why: &dyn std::fmt::Display| format!("proxyEndpoint {offered:?} cannot be used: {why}");
    let url = Url::parse(offered).map_err(|error| unusable(&error))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unusable(&"it is neither http nor https"));
    }
    let of_ecr = url.host_str().is_some_and(|name| name.parse::<RegistryHost>().is_ok());
    match of_ecr {
        true => Url::parse(&format!("https://{host}/"))
            .map(Endpoint::OfHost)
            .map_err(|error| unusable(&error)),
        false => Ok(Endpoint::OfCaller(url)),
    }
}

/// Whether `url` is of the registry itself, so that its token may be sent there: the server `base`, or another of the hosts
/// that AWS has for the registry (`base` may be its dual-stack one).
pub(super) fn is_own(base: &Url, host: &RegistryHost, url: &Url) -> bool {
    let of_registry = |url: &Url| {
        let named = url.host_str().and_then(|name| name.parse::<RegistryHost>().ok());
        url.scheme() == "https" && url.port().is_none() && named.is_some_and(|named| named.is_same_registry(host))
    };
    let same_server = base.scheme() == url.scheme()
        && url.host_str().is_some()
        && base.host_str() == url.host_str()
        && base.port_or_known_default() == url.port_or_known_default();
    same_server || (of_registry(base) && of_registry(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_token_of_ecr_is_used_at_the_host_that_was_asked_for() {
        let host: RegistryHost = "444455556666.dkr-ecr.eu-west-1.on.aws".parse().unwrap();
        let offered = "https://111122223333.dkr.ecr.eu-west-1.amazonaws.com";
        let wanted = Endpoint::OfHost(url("https://444455556666.dkr-ecr.eu-west-1.on.aws/"));
        assert_eq!(endpoint(offered, &host), Ok(wanted));
    }

    #[test]
    fn what_is_not_ecr_is_used_as_it_is_offered() {
        let host: RegistryHost = "444455556666.dkr.ecr.eu-west-1.amazonaws.com".parse().unwrap();
        let offered = "http://127.0.0.1:4711";
        assert_eq!(endpoint(offered, &host), Ok(Endpoint::OfCaller(url(offered))));
        for bad in ["", "127.0.0.1:4711", "ftp://127.0.0.1", "file:///etc"] {
            assert!(endpoint(bad, &host).is_err(), "{bad}");
        }
    }

    #[test]
    fn another_scheme_host_or_port_is_another_server() {
        let host: RegistryHost = "111122223333.dkr-ecr.eu-west-1.on.aws".parse().unwrap();
        let own = url("https://registry.example/v2/");
        assert!(is_own(&own, &host, &url("https://registry.example:443/other?x=1")));
        for other in [
            "http://registry.example/v2/",
            "https://registry.example:8443/v2/",
            "https://registry.example.evil.example/v2/",
            "https://sub.registry.example/v2/",
            "https://bucket.s3.eu-west-1.amazonaws.com/blob",
            "https://111122223333.dkr.ecr.eu-west-1.amazonaws.com/v2/",
        ] {
            assert!(!is_own(&own, &host, &url(other)), "{other}");
        }
    }

    #[test]
    fn all_hosts_of_the_registry_may_have_its_token_and_those_of_other_registries_not() {
        let host: RegistryHost = "111122223333.dkr-ecr.eu-west-1.on.aws".parse().unwrap();
        let own = url("https://111122223333.dkr-ecr.eu-west-1.on.aws/");
        assert!(is_own(
            &own,
            &host,
            &url("https://111122223333.dkr.ecr.eu-west-1.amazonaws.com/v2/")
        ));
        for other in [
            "http://111122223333.dkr.ecr.eu-west-1.amazonaws.com/v2/",
            "https://111122223333.dkr.ecr.eu-west-1.amazonaws.com:8443/v2/",
            "https://444455556666.dkr.ecr.eu-west-1.amazonaws.com/v2/",
            "https://111122223333.dkr.ecr.us-east-1.amazonaws.com/v2/",
            "https://prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com/blob",
        ] {
            assert!(!is_own(&own, &host, &url(other)), "{other}");
        }
    }
}
