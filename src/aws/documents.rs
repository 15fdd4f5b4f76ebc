//! The documents and settings that ECR keeps once for a registry.

use std::collections::BTreeSet;

use aws_sdk_ecr::types::{
    RegistryScanningRule, ScanFrequency, ScanType, ScanningRepositoryFilter, ScanningRepositoryFilterType,
    SigningConfiguration, SigningRepositoryFilter, SigningRepositoryFilterType, SigningRule,
};

use super::{
    client::{Ecr, PAGE, call, unbuildable},
    error::AwsError,
    wire::Wire,
};
use crate::document::{known::Stored, scanning::Scanning, signing::Signing};

impl Ecr {
    /// How the registry's images are scanned.
    pub(crate) async fn scanning(&self) -> Result<Stored<Scanning>, AwsError> {
        const OPERATION: &str = "GetRegistryScanningConfiguration";
        let wire = Wire::default();
        let request = self.client.get_registry_scanning_configuration().customize();
        call!(self, read "GetRegistryScanningConfiguration", request.interceptor(wire.clone()))?;
        let configuration = wire.member(OPERATION, "scanningConfiguration")?;
        Scanning::read(&configuration).map_err(|why| AwsError::incomplete(OPERATION, &format!("sense ({why})")))
    }

    /// Replaces how the registry's images are scanned.
    pub(crate) async fn put_scanning(&self, scanning: &Scanning) -> Result<(), AwsError> {
        const OPERATION: &str = "PutRegistryScanningConfiguration";
        let filter = |filter: &crate::document::scanning::Filter| {
            ScanningRepositoryFilter::builder()
                .filter(&filter.filter)
                .filter_type(ScanningRepositoryFilterType::from(filter.filter_type.as_str()))
                .build()
        };
        let rules = scanning.rules.iter().map(|(frequency, filters)| {
            RegistryScanningRule::builder()
                .scan_frequency(ScanFrequency::from(frequency.as_str()))
                .set_repository_filters(Some(filters.iter().map(filter).collect::<Result<_, _>>()?))
                .build()
        });
        let rules = rules
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unbuildable(OPERATION, &error))?;
        let request = self
            .client
            .put_registry_scanning_configuration()
            .scan_type(ScanType::from(scanning.scan_type.as_str()))
            .set_rules(Some(rules));
        call!(self, write "PutRegistryScanningConfiguration", request).map(drop)
    }

    /// Which of the registry's images are signed.
    pub(crate) async fn signing(&self) -> Result<Stored<Signing>, AwsError> {
        const OPERATION: &str = "GetSigningConfiguration";
        let wire = Wire::default();
        let request = self.client.get_signing_configuration().customize();
        match call!(self, read "GetSigningConfiguration", request.interceptor(wire.clone())) {
            Err(error) if error.is("SigningConfigurationNotFoundException") => return Ok(Signing::absent()),
            answer => answer?,
        };
        let configuration = wire.member(OPERATION, "signingConfiguration")?;
        Signing::read(&configuration).map_err(|why| AwsError::incomplete(OPERATION, &format!("sense ({why})")))
    }

    /// Replaces which of the registry's images are signed.
    pub(crate) async fn put_signing(&self, signing: &Signing) -> Result<(), AwsError> {
        const OPERATION: &str = "PutSigningConfiguration";
        let filter = |filter: &crate::document::scanning::Filter| {
            SigningRepositoryFilter::builder()
                .filter(&filter.filter)
                .filter_type(SigningRepositoryFilterType::from(filter.filter_type.as_str()))
                .build()
        };
        let rules = signing.rules.iter().map(|rule| {
            let filters = match rule.filters.is_empty() {
                true => None,
                false => Some(rule.filters.iter().map(filter).collect::<Result<_, _>>()?),
            };
            SigningRule::builder()
                .signing_profile_arn(&rule.profile)
                .set_repository_filters(filters)
                .build()
        });
        let rules = rules.collect::<Result<Vec<_>, _>>();
        let configuration = rules
            .and_then(|rules| SigningConfiguration::builder().set_rules(Some(rules)).build())
            .map_err(|error| unbuildable(OPERATION, &error))?;
        let request = self
            .client
            .put_signing_configuration()
            .signing_configuration(configuration);
        call!(self, write "PutSigningConfiguration", request).map(drop)
    }

    /// The registry's policy as text, `None` where it has none.
    pub(crate) async fn registry_policy(&self) -> Result<Option<String>, AwsError> {
        match call!(self, read "GetRegistryPolicy", self.client.get_registry_policy()) {
            Ok(answer) => answer
                .policy_text
                .map(Some)
                .ok_or_else(|| AwsError::incomplete("GetRegistryPolicy", "policyText")),
            Err(error) if error.is("RegistryPolicyNotFoundException") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the registry's policy.
    pub(crate) async fn put_registry_policy(&self, text: &str) -> Result<(), AwsError> {
        let request = self.client.put_registry_policy().policy_text(text);
        call!(self, write "PutRegistryPolicy", request).map(drop)
    }

    /// Takes the registry's policy off. None to take off is a success.
    pub(crate) async fn delete_registry_policy(&self) -> Result<(), AwsError> {
        match call!(self, write "DeleteRegistryPolicy", self.client.delete_registry_policy()) {
            Err(error) if error.is("RegistryPolicyNotFoundException") => Ok(()),
            other => other.map(drop),
        }
    }

    /// A setting of the account in this Region, as ECR names it.
    pub(crate) async fn account_setting(&self, name: &str) -> Result<String, AwsError> {
        let answer = call!(self, read "GetAccountSetting", self.client.get_account_setting().name(name))?;
        answer
            .value
            .ok_or_else(|| AwsError::incomplete("GetAccountSetting", "value"))
    }

    /// Sets a setting of the account in this Region.
    pub(crate) async fn put_account_setting(&self, name: &str, value: &str) -> Result<(), AwsError> {
        let request = self.client.put_account_setting().name(name).value(value);
        call!(self, write "PutAccountSetting", request).map(drop)
    }

    /// The principals whose pulls do not count; every page, or an error.
    pub(crate) async fn pull_time_exclusions(&self) -> Result<BTreeSet<String>, AwsError> {
        let mut exclusions = BTreeSet::new();
        let mut token = None;
        loop {
            let request = self
                .client
                .list_pull_time_update_exclusions()
                .max_results(PAGE)
                .set_next_token(token);
            let page = call!(self, read "ListPullTimeUpdateExclusions", request)?;
            exclusions.extend(page.pull_time_update_exclusions.unwrap_or_default());
            token = page.next_token;
            if token.is_none() {
                return Ok(exclusions);
            }
        }
    }

    /// Makes the pulls of a principal not count. One that is there already is a success.
    pub(crate) async fn register_pull_time_exclusion(&self, principal: &str) -> Result<(), AwsError> {
        let request = self
            .client
            .register_pull_time_update_exclusion()
            .principal_arn(principal);
        match call!(self, write "RegisterPullTimeUpdateExclusion", request) {
            Err(error) if error.is("ExclusionAlreadyExistsException") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Makes the pulls of a principal count again. One that is not there is a success.
    pub(crate) async fn deregister_pull_time_exclusion(&self, principal: &str) -> Result<(), AwsError> {
        let request = self
            .client
            .deregister_pull_time_update_exclusion()
            .principal_arn(principal);
        match call!(self, write "DeregisterPullTimeUpdateExclusion", request) {
            Err(error) if error.is("ExclusionNotFoundException") => Ok(()),
            other => other.map(drop),
        }
    }
}
