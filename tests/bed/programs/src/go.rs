//! Building the control plane and its tools with Go.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use super::key::Key;
use super::progress::Progress;
use super::{ArgoCdPrograms, ControlPlanePrograms, cache, sources};
use crate::keeper::Keeper;
use crate::process::{Process, tail};

/// Kubernetes takes its own version from here; without it every version check against the apiserver fails.
const KUBERNETES_VERSION: [&str; 3] = ["gitVersion=v1.37.2", "gitMajor=1", "gitMinor=37"];

/// What envtest's directory holds.
const GIVEN: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// The minor version of Go that a machine is expected to have. What asks for a newer one has it fetched.
const COMMON_GO_MINOR: u32 = 26;

/// The compiler writes no debugging information: the linker would only leave it out again, and it is a fifth of the work.
const COMPILER_FLAGS: &str = "all=-dwarf=false";

/// The compiler collects its garbage at four times what it needs, not at twice: an eighth of the work.
const COMPILER_GARBAGE: &str = "400";

/// The longest a build may take, on a slow machine with a slow network.
const LIMIT: Duration = Duration::from_hours(1);

/// One group of programs from one Go module.
struct Build {
    group: &'static str,
    /// The module's folder in `tests/bed/cluster`.
    module: &'static str,
    /// What the module holds beside `go.mod` and `go.sum`.
    sources: &'static [&'static str],
    /// Each package with the name its program gets.
    programs: Vec<(&'static str, &'static str)>,
    link: String,
    /// The minor version of Go that the module asks for.
    go_minor: u32,
    /// What is done with the programs once they are there.
    finish: fn(&Module, &Path) -> Result<()>,
    /// How long it takes on two cores, for the first line.
    about: &'static str,
    /// How many packages are compiled, roughly: progress says by it how much is left.
    packages: usize,
}

/// A Go module of the bed.
struct Module {
    directory: PathBuf,
    /// Whether Go may fetch a newer Go for it, whatever the machine's setting is.
    fetches_go: bool,
}

pub(super) async fn control_plane() -> Result<ControlPlanePrograms> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS")
        .filter(|assets| !assets.is_empty())
        .map(PathBuf::from);
    if let Some(assets) = &assets {
        check_given(assets)?;
    }
    let mut programs = vec![
        (
            "ecr-operator.dev/bed/k8s/kube-controller-manager",
            "kube-controller-manager",
        ),
        ("helm.sh/helm/v4/cmd/helm", "helm"),
    ];
    if assets.is_none() {
        programs.push(("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"));
        programs.push(("k8s.io/kubernetes/cmd/kubectl", "kubectl"));
        programs.push(("go.etcd.io/etcd/server/v3", "etcd"));
    }
    let stamps = KUBERNETES_VERSION.map(|stamp| format!(" -X k8s.io/component-base/version.{stamp}"));
    let built = build(Build {
        group: "control-plane",
        module: "k8s",
        sources: &["kube-controller-manager/main.go"],
        programs,
        link: format!("-s -w{}", stamps.concat()),
        go_minor: 26,
        finish: |_, _| Ok(()),
        about: "about 6 minutes",
        packages: 2_750,
    })
    .await?;
    let [etcd, kube_apiserver, kubectl] = GIVEN.map(|name| assets.as_ref().unwrap_or(&built).join(name));
    Ok(ControlPlanePrograms {
        etcd,
        kube_apiserver,
        kube_controller_manager: built.join("kube-controller-manager"),
        kubectl,
        helm: built.join("helm"),
    })
}

fn check_given(assets: &Path) -> Result<()> {
    for name in GIVEN {
        let program = assets.join(name);
        if !program.is_file() {
            let names = GIVEN.join(", ");
            bail!(
                "there is no {}: KUBEBUILDER_ASSETS must name a directory with {names}",
                program.display()
            );
        }
    }
    Ok(())
}

pub(super) async fn argo_cd() -> Result<ArgoCdPrograms> {
    let directory = build(Build {
        group: "argo-cd",
        module: "argocd",
        sources: &["main.go"],
        programs: vec![("ecr-operator.dev/bed/argocd", "argocd")],
        link: "-s -w".to_owned(),
        go_minor: 27,
        finish: complete_argo_cd,
        about: "about 5 minutes",
        packages: 1_800,
    })
    .await?;
    Ok(ArgoCdPrograms { directory })
}

/// Gives the one program the names by which it acts, and puts the manifests of its version beside it.
fn complete_argo_cd(module: &Module, directory: &Path) -> Result<()> {
    for name in ["argocd-repo-server", "argocd-application-controller", "redis"] {
        std::os::unix::fs::symlink("argocd", directory.join(name))?;
    }
    let mut list = module.go();
    list.args(["list", "-m", "-f", "{{.Dir}}", "github.com/argoproj/argo-cd/v3"]);
    let source = PathBuf::from(output(&mut list)?);
    for manifest in [
        "crds/application-crd.yaml",
        "crds/appproject-crd.yaml",
        "base/config/argocd-cm.yaml",
    ] {
        let from = source.join("manifests").join(manifest);
        let name = from.file_name().unwrap_or_default();
        // Its content alone: what lies in Go's cache may not be written.
        fs::write(
            directory.join(name),
            fs::read(&from).with_context(|| format!("reading {}", from.display()))?,
        )?;
    }
    Ok(())
}

async fn build(build: Build) -> Result<PathBuf> {
    let module = Module {
        directory: sources("cluster").join(build.module),
        fetches_go: build.go_minor > COMMON_GO_MINOR,
    };
    let version = go_version(&module, build.go_minor)?;
    let mut key = Key::default();
    for file in ["go.mod", "go.sum"].iter().chain(build.sources) {
        key.add_file(&module.directory.join(file))?;
    }
    for ingredient in [&version, COMPILER_FLAGS, &build.link, &format!("{:?}", build.programs)] {
        key.add(ingredient.as_bytes());
    }
    let progress = Progress::new(build.group);
    cache::entry(build.group, &key.finish(), &progress, async |directory, keeper| {
        compile(&build, &module, directory, keeper, &progress).await
    })
    .await
}

async fn compile(
    build: &Build,
    module: &Module,
    directory: &Path,
    keeper: Arc<Keeper>,
    progress: &Progress,
) -> Result<()> {
    let packages: Vec<&str> = build.programs.iter().map(|(package, _)| *package).collect();
    let mut go = module.go();
    go.env("GOGC", COMPILER_GARBAGE)
        .args([
            "build",
            "-v",
            "-mod=readonly",
            "-buildvcs=false",
            "-trimpath",
            "-gcflags",
            COMPILER_FLAGS,
            "-ldflags",
            &build.link,
            "-o",
        ])
        .arg(directory)
        .args(&packages);
    let log = directory.join("build.log");
    let output = File::create(&log)?;
    let child = keeper.spawn(&go, output.try_clone()?.into(), output.into(), b"")?;
    let process = Process::new("go build", child, log.clone(), keeper);

    let names: Vec<&str> = build.programs.iter().map(|(_, name)| *name).collect();
    let what = format!("{} ({} the first time)", names.join(", "), build.about);
    let status = progress
        .follow(
            &what,
            || measure(&process.log(), build.packages),
            process.wait_exit(LIMIT),
        )
        .await?;
    if !status.success() {
        bail!("building {} failed:\n{}", names.join(", "), tail(&process.log(), 20));
    }
    for (package, name) in &build.programs {
        let program = directory.join(program_name(package));
        fs::rename(&program, directory.join(name)).with_context(|| format!("naming {}", program.display()))?;
    }
    fs::remove_file(log)?;
    (build.finish)(module, directory)
}

/// What Go calls a package's program: its last path element that is not a major version.
fn program_name(package: &str) -> &str {
    let is_version = |part: &str| {
        part.strip_prefix('v')
            .is_some_and(|digits| digits.parse::<u32>().is_ok())
    };
    package.rsplit('/').find(|part| !is_version(part)).unwrap_or(package)
}

/// `go build -v` prints the path of each package it compiles, and a line for each module it fetches.
fn measure(log: &str, packages: usize) -> String {
    let fetched = log.lines().filter(|line| line.starts_with("go: downloading")).count();
    let compiled = log.lines().filter(|line| !line.starts_with("go: ")).count();
    if compiled == 0 && fetched > 0 {
        return format!("{fetched} modules fetched");
    }
    format!("{compiled} of about {packages} packages compiled")
}

impl Module {
    fn go(&self) -> Command {
        let mut go = go(&self.directory);
        if self.fetches_go {
            go.env("GOTOOLCHAIN", "auto");
        }
        go
    }
}

/// The Go command in a module, unaffected by a workspace around it or by settings for another platform. Without C: no
/// compiler is needed and the programs do not depend on the machine's C library.
fn go(module: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(module)
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .env_remove("GOOS")
        .env_remove("GOARCH");
    go
}

/// The version of Go that will build a module, as in `go1.26.8`, or one sentence on what to do.
fn go_version(module: &Module, needed: u32) -> Result<String> {
    // Asked outside of any module, Go answers for itself; inside, newer toolchains are fetched where that is allowed.
    let own = match ask(go(Path::new("/")).env("GOTOOLCHAIN", "local"), "GOVERSION") {
        Ok(version) => version,
        Err(error) if error.downcast_ref().is_some_and(is_missing) => {
            bail!(
                "Go 1.26 or newer builds the bed's programs and was not found: install it from https://go.dev/dl and put `go` on PATH"
            )
        }
        Err(error) => return Err(error.context("asking Go for its version")),
    };
    ask(&mut module.go(), "GOVERSION").map_err(|error| {
        let setting = ask(&mut go(Path::new("/")), "GOTOOLCHAIN").unwrap_or_default();
        let setting = if module.fetches_go { "auto" } else { &setting };
        anyhow!("{}", too_old(&own, needed, setting, &error.to_string()))
    })
}

fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

fn too_old(own: &str, needed: u32, setting: &str, error: &str) -> String {
    let own_minor: Option<u32> = own
        .strip_prefix("go1.")
        .and_then(|rest| rest.split('.').next())
        .and_then(|minor| minor.parse().ok());
    let newer = format!("Go 1.{needed} or newer builds the bed's programs");
    match own_minor {
        None => format!("Go ({own}) does not accept the bed's modules: {error}"),
        Some(minor) if minor >= needed => format!("Go ({own}) does not accept the bed's modules: {error}"),
        // Since 1.21 Go fetches the toolchain that a module asks for, unless it is told not to.
        Some(21..) if setting == "local" => format!(
            "{newer} and `go` is {own}: install a newer one from https://go.dev/dl, or set GOTOOLCHAIN=auto so that Go fetches it"
        ),
        Some(21..) => format!(
            "{newer}, `go` is {own} and fetching a newer one failed ({error}): install one from https://go.dev/dl"
        ),
        Some(_) => format!("{newer} and `go` is {own}: install a newer one from https://go.dev/dl"),
    }
}

fn ask(go: &mut Command, variable: &str) -> Result<String> {
    output(go.args(["env", variable]))
}

fn output(go: &mut Command) -> Result<String> {
    let output = go.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_as_go_names_them() {
        assert_eq!(program_name("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(program_name("k8s.io/kubernetes/cmd/kubectl"), "kubectl");
    }

    #[test]
    fn progress_counts_packages_and_before_them_modules() {
        assert_eq!(measure("go: downloading k8s.io/api v0.37.2\n", 9), "1 modules fetched");
        assert_eq!(
            measure("go: downloading k8s.io/api v0.37.2\nnet/http\nk8s.io/api/core/v1\n", 9),
            "2 of about 9 packages compiled"
        );
    }

    #[test]
    fn an_old_go_that_may_not_fetch_a_newer_one_is_told_how() {
        let told = too_old("go1.24.1", 26, "local", "go.mod requires go >= 1.26.0");
        assert!(
            told.contains("`go` is go1.24.1") && told.contains("GOTOOLCHAIN=auto"),
            "{told}"
        );
    }

    #[test]
    fn a_newer_go_that_cannot_be_fetched_is_told_with_the_reason() {
        let told = too_old("go1.26.8", 27, "auto", "no route to host");
        assert!(told.contains("Go 1.27") && told.contains("no route to host"), "{told}");
    }

    #[test]
    fn a_go_from_before_toolchains_is_told_to_install() {
        let told = too_old("go1.19", 26, "", "invalid go version");
        assert!(
            told.contains("install a newer one") && !told.contains("GOTOOLCHAIN"),
            "{told}"
        );
    }
}
