//! What the bed's programs may not inherit from the shell that started them.

use std::path::Path;
use std::process::Command;

/// Proxies would be asked for 127.0.0.1; a kubeconfig or credentials of the developer must never be used by accident.
/// `AWS_CA_BUNDLE`, one of the `AWS_` ones, breaks some AWS clients against plain http.
const FOREIGN: [&str; 9] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "KUBECONFIG",
];

/// Families of variables, by how they begin, that are taken away as a whole.
const FOREIGN_FAMILIES: [&str; 3] = ["AWS_", "KUBERNETES_", "HELM_"];

/// What `cargo run` and `cargo test` set for one package. Left in place, some build scripts of a nested build would see a
/// change and be run again each time.
const CARGO_FAMILIES: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];

/// `command`, with the shell's proxies, credentials and cluster taken out and `home` as its home directory.
/// What `command` sets itself stays.
pub fn isolated(command: &Command, home: &Path) -> Command {
    let inherited = inherited(&FOREIGN_FAMILIES);
    let mut isolated = again(command, FOREIGN.into_iter().map(str::to_owned).chain(inherited));
    if !sets(command, "HOME") {
        isolated.env("HOME", home);
    }
    isolated
}

/// A command as it would be started by hand, also from within `cargo run` or `cargo test`.
#[must_use]
pub fn as_by_hand(command: &Command) -> Command {
    again(command, inherited(&CARGO_FAMILIES).into_iter())
}

/// The same command again, with `removed` taken from its environment unless it sets them itself.
fn again(command: &Command, removed: impl Iterator<Item = String>) -> Command {
    let mut again = Command::new(command.get_program());
    again.args(command.get_args());
    for name in removed {
        again.env_remove(name);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => again.env(name, value),
            None => again.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        again.current_dir(directory);
    }
    again
}

fn sets(command: &Command, name: &str) -> bool {
    command.get_envs().any(|(set, _)| set == name)
}

fn inherited(families: &[&str]) -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| families.iter().any(|family| name.starts_with(family)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_sets_itself_stays() {
        let mut command = Command::new("true");
        command
            .env("HTTP_PROXY", "http://127.0.0.1:1")
            .env("HOME", "/elsewhere");
        let isolated = isolated(&command, Path::new("/home-of-the-bed"));
        let set = |name: &str| {
            isolated
                .get_envs()
                .find(|(key, _)| *key == name)
                .and_then(|(_, value)| value)
        };
        assert_eq!(set("HTTP_PROXY"), Some("http://127.0.0.1:1".as_ref()));
        assert_eq!(set("HOME"), Some("/elsewhere".as_ref()));
        assert_eq!(set("https_proxy"), None);
    }
}
