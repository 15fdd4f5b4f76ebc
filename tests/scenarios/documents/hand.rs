//! The hand that looks into ECR for itself, and edits documents behind the operator's back.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_ecr::{
    Client,
    types::{
        RegistryScanningRule, ScanFrequency, ScanType, ScanningRepositoryFilter, ScanningRepositoryFilterType,
        SigningConfiguration, SigningRepositoryFilter, SigningRule,
    },
};
use serde_json::{Value, json};

use crate::support::{REGION, Scene};

pub(super) struct Hand {
    ecr: Client,
    account: String,
}

/// A statement of a registry's policy.
pub(super) fn statement(sid: &str, action: &str) -> Value {
    json!({
        "Sid": sid,
        "Effect": "Allow",
        "Principal": { "AWS": "arn:aws:iam::444455556666:root" },
        "Action": action,
        "Resource": "arn:aws:ecr:eu-west-1:111122223333:repository/*",
    })
}

/// Every part, as [`Hand::is_as_asked`] looks for it.
pub(super) fn all(account: &str) -> Value {
    let profile = |name: &str| format!("arn:aws:signer:{REGION}:{account}:/signing-profiles/{name}");
    json!({
        "scanning": { "scanType": "BASIC", "rules": [
            { "scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{ "filter": "team" }, { "filter": "prod-*" }] } ] },
        "policy": { "document": { "Version": "2012-10-17", "Statement": [
            statement("EcrOperatorReplicate", "ecr:ReplicateImage"), statement("Named", "ecr:CreateRepository") ] } },
        "signing": { "rules": [
            { "signingProfileArn": profile("release"), "repositoryFilters": [{ "filter": "prod/*" }] },
            { "signingProfileArn": profile("all") } ] },
        "settings": { "blobMounting": "ENABLED", "basicScanTypeVersion": "AWS_NATIVE", "registryPolicyScope": "V2" },
        "pullTimeUpdateExclusions": [
            format!("arn:aws:iam::{account}:role/scanner"), format!("arn:aws:iam::{account}:role/mirror") ],
    })
}

impl Hand {
    pub(super) async fn new(scene: &Scene) -> Result<Self> {
        Ok(Self {
            ecr: scene.ecr().await?,
            account: scene.account.clone(),
        })
    }

    /// ECR has all that [`all`] asks for.
    pub(super) async fn is_as_asked(&self) -> Result<()> {
        let scanning = self.scanning().await?;
        for part in ["Basic", "ScanOnPush", "\"team\"", "\"prod-*\""] {
            ensure!(scanning.contains(part), "{part}: {scanning}");
        }
        ensure!(!scanning.contains("theirs"), "{scanning}");
        let read = self.ecr.get_signing_configuration().send().await?;
        let rules = read.signing_configuration().context("none")?.rules().to_vec();
        ensure!(rules.len() == 2, "{rules:?}");
        for rule in rules {
            let name = rule.signing_profile_arn().rsplit('/').next().unwrap_or_default();
            let filters: Vec<&str> = rule
                .repository_filters()
                .iter()
                .map(SigningRepositoryFilter::filter)
                .collect();
            let expected: &[&str] = if name == "release" { &["prod/*"] } else { &[] };
            ensure!(["release", "all"].contains(&name) && filters == expected, "{rule:?}");
        }
        let sids = self.sids().await?;
        ensure!(
            sids.contains("EcrOperatorReplicate") && sids.contains("Named"),
            "{sids:?}"
        );
        for (name, value) in [
            ("BLOB_MOUNTING", "ENABLED"),
            ("BASIC_SCAN_TYPE_VERSION", "AWS_NATIVE"),
            ("REGISTRY_POLICY_SCOPE", "V2"),
        ] {
            ensure!(self.setting(name).await? == value, "{name}");
        }
        let excluded = self.excluded().await?;
        for name in ["scanner", "mirror"] {
            ensure!(excluded.contains(&self.principal(name)), "{excluded:?}");
        }
        Ok(())
    }

    pub(super) fn principal(&self, name: &str) -> String {
        format!("arn:aws:iam::{}:role/{name}", self.account)
    }

    pub(super) async fn scanning(&self) -> Result<String> {
        let read = self.ecr.get_registry_scanning_configuration().send().await?;
        Ok(format!("{:?}", read.scanning_configuration().context("none")?))
    }

    fn rule(filters: &[&str]) -> Result<RegistryScanningRule> {
        let mut rule = RegistryScanningRule::builder()
            .scan_frequency(ScanFrequency::ScanOnPush)
            .set_repository_filters(Some(Vec::new()));
        for filter in filters {
            let filter = ScanningRepositoryFilter::builder().filter(*filter);
            rule = rule.repository_filters(filter.filter_type(ScanningRepositoryFilterType::Wildcard).build()?);
        }
        Ok(rule.build()?)
    }

    pub(super) async fn put_scanning(&self, kind: &str, filters: &[&str]) -> Result<()> {
        let put = self
            .ecr
            .put_registry_scanning_configuration()
            .scan_type(ScanType::from(kind))
            .rules(Self::rule(filters)?);
        put.send().await?;
        Ok(())
    }

    /// A rule with a member that the SDK's model does not have.
    pub(super) async fn put_scanning_of_tomorrow(&self, filter: &str) -> Result<()> {
        let put = self
            .ecr
            .put_registry_scanning_configuration()
            .scan_type(ScanType::Basic)
            .rules(Self::rule(&[filter])?);
        let tomorrow = put.customize().mutate_request(|request| {
            let mut body: Value =
                serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
            body["rules"][0]["schedule"] = json!("daily");
            let body = body.to_string().into_bytes();
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = body.into();
        });
        tomorrow.send().await?;
        Ok(())
    }

    pub(super) async fn signing(&self) -> Result<String> {
        let read = self.ecr.get_signing_configuration().send().await?;
        let rules = read.signing_configuration().context("none")?.rules();
        ensure!(rules.len() == 1, "{rules:?}");
        Ok(rules[0].signing_profile_arn().to_owned())
    }

    fn signing_of(&self, profile: &str) -> Result<SigningConfiguration> {
        let profile = format!("arn:aws:signer:{REGION}:{}:/signing-profiles/{profile}", self.account);
        let rule = SigningRule::builder().signing_profile_arn(profile).build()?;
        Ok(SigningConfiguration::builder().rules(rule).build()?)
    }

    pub(super) async fn put_signing(&self, profile: &str) -> Result<()> {
        let put = self.ecr.put_signing_configuration();
        put.signing_configuration(self.signing_of(profile)?).send().await?;
        Ok(())
    }

    pub(super) async fn put_signing_of_tomorrow(&self, profile: &str) -> Result<()> {
        let put = self
            .ecr
            .put_signing_configuration()
            .signing_configuration(self.signing_of(profile)?);
        let tomorrow = put.customize().mutate_request(|request| {
            let mut body: Value =
                serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
            body["signingConfiguration"]["expiry"] = json!("30d");
            let body = body.to_string().into_bytes();
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = body.into();
        });
        tomorrow.send().await?;
        Ok(())
    }

    pub(super) async fn sids(&self) -> Result<BTreeSet<String>> {
        let read = self.ecr.get_registry_policy().send().await?;
        let policy: Value = serde_json::from_str(read.policy_text().context("none")?)?;
        let statements = policy["Statement"].as_array().context("no statements")?;
        let sids = statements.iter().filter_map(|statement| statement["Sid"].as_str());
        Ok(sids.map(str::to_owned).collect())
    }

    pub(super) async fn put_policy(&self, statements: &[Value]) -> Result<()> {
        let policy = json!({ "Version": "2012-10-17", "Statement": statements });
        let put = self.ecr.put_registry_policy().policy_text(policy.to_string());
        put.send().await?;
        Ok(())
    }

    /// A policy with a key that IAM does not have yet.
    pub(super) async fn put_policy_of_tomorrow(&self) -> Result<()> {
        let mut theirs = statement("Theirs", "ecr:ReplicateImage");
        theirs["Until"] = json!("2030-01-01");
        self.put_policy(&[theirs]).await
    }

    pub(super) async fn setting(&self, name: &str) -> Result<String> {
        let read = self.ecr.get_account_setting().name(name).send().await?;
        Ok(read.value().context("none")?.to_owned())
    }

    pub(super) async fn put_setting(&self, name: &str, value: &str) -> Result<()> {
        self.ecr.put_account_setting().name(name).value(value).send().await?;
        Ok(())
    }

    pub(super) async fn excluded(&self) -> Result<BTreeSet<String>> {
        let read = self.ecr.list_pull_time_update_exclusions().send().await?;
        Ok(read.pull_time_update_exclusions().iter().cloned().collect())
    }

    pub(super) async fn register(&self, name: &str) -> Result<()> {
        let register = self.ecr.register_pull_time_update_exclusion();
        register.principal_arn(self.principal(name)).send().await?;
        Ok(())
    }

    pub(super) async fn deregister(&self, name: &str) -> Result<()> {
        let deregister = self.ecr.deregister_pull_time_update_exclusion();
        deregister.principal_arn(self.principal(name)).send().await?;
        Ok(())
    }
}
