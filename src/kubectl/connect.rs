//! The way to the cluster, as kubectl goes it.

use std::path::PathBuf;

use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{api::ImagePromotion, terminal};

/// Where promotions are looked for.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The namespace of the promotion. Default: that of the kubeconfig's context.
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,

    /// The context of the kubeconfig. Default: the current one.
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,

    /// The kubeconfig. Default: KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// A cluster, and a namespace of it.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
}

impl Args {
    pub(super) async fn connect(self) -> Result<Cluster, String> {
        let options = KubeConfigOptions {
            context: self.context,
            ..KubeConfigOptions::default()
        };
        let unusable = |error: &dyn std::fmt::Display| format!("the kubeconfig cannot be used: {error}");
        let config = match self.kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file).map_err(|error| unusable(&error))?;
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(|error| unusable(&error))?
            }
            None if options.context.is_some() => Config::from_kubeconfig(&options)
                .await
                .map_err(|error| unusable(&error))?,
            None => terminal::cluster().await?,
        };
        let namespace = self.namespace.unwrap_or_else(|| config.default_namespace.clone());
        Ok(Cluster {
            client: terminal::client(config)?,
            namespace,
        })
    }
}

impl Cluster {
    pub(super) fn promotions(&self) -> Api<ImagePromotion> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A promotion by name.
    pub(super) async fn promotion(&self, name: &str) -> Result<ImagePromotion, String> {
        let found = self.promotions().get_opt(name).await.map_err(|error| prose(&error))?;
        found.ok_or_else(|| self.missing(name))
    }

    pub(super) fn missing(&self, name: &str) -> String {
        format!(
            "there is no ImagePromotion {name} in namespace {}; kubectl ecr status -A shows those there are",
            self.namespace
        )
    }
}

/// What the apiserver says, in words. Of a refusal by an admission policy, its sentence alone.
pub(super) fn prose(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => sentence(&status.message).to_owned(),
        kube::Error::SerdeError(error) => {
            format!(
                "an ImagePromotion is not as this version of kubectl-ecr knows them, so use the operator's: {error}"
            )
        }
        error => format!("the cluster does not answer: {error}"),
    }
}

fn sentence(message: &str) -> &str {
    match message.split_once("denied request: ") {
        Some((_, sentence)) => sentence,
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_refusal_the_sentence_is_told() {
        let message = "imagepromotions.ecr-operator.dev \"app\" is forbidden: ValidatingAdmissionPolicy 'x' with binding \
                       'x' denied request: nobody approves in another's name";
        assert_eq!(sentence(message), "nobody approves in another's name");
        assert_eq!(sentence("User \"jane\" cannot get"), "User \"jane\" cannot get");
    }
}
