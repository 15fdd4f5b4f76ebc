//! The terminal: exit codes, standard output and the cluster of the kubeconfig, for the operator's command line and for
//! the plugin of kubectl.

pub(crate) mod table;

use std::process::ExitCode;

use clap::Parser;

/// The end of a command: an exit code, or the sentence that says why it failed.
pub(crate) type Outcome = Result<ExitCode, String>;

/// Parses the command line and runs it. A usage error exits with 1, so that the 2 of `plan` always means changes.
pub(crate) fn start<C: Parser>(run: impl FnOnce(C) -> Outcome) -> ExitCode {
    match C::try_parse() {
        Ok(command) => exit_code(run(command)),
        Err(error) => {
            // Help and version are no errors. That standard output is closed is nothing to report.
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}

/// The exit code of a command, after its error was printed.
pub(crate) fn exit_code(outcome: Outcome) -> ExitCode {
    outcome.unwrap_or_else(|message| {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "error: {message}");
        ExitCode::FAILURE
    })
}

/// Prints to standard output. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) -> Outcome {
    write(text).map(|_| ExitCode::SUCCESS)
}

/// Prints to standard output, and returns whether somebody still reads it.
pub(crate) fn write(text: &str) -> Result<bool, String> {
    use std::io::Write as _;
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("standard output could not be written: {error}")),
    }
}

/// Runs a command that uses the network.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime could not be started: {error}"))?;
    let outcome = runtime.block_on(work);
    // A lookup of a name that hangs would delay the exit, and with it a leader that lost its lead.
    runtime.shutdown_background();
    outcome
}

/// The cluster of the kubeconfig, or of the pod's service account.
pub(crate) async fn cluster() -> Result<kube::Config, String> {
    kube::Config::infer().await.map_err(|error| {
        format!(
            "no way to a Kubernetes cluster was found: {error}; set KUBECONFIG, or run in a pod with a ServiceAccount"
        )
    })
}

/// A client whose writes pass no gate: for the Lease itself, and for what people ask of the plugin.
pub(crate) fn client(cluster: kube::Config) -> Result<kube::Client, String> {
    kube::Client::try_from(cluster).map_err(|error| unusable(&error))
}

/// The sentence for a kubeconfig that no client can be made of.
pub(crate) fn unusable(error: &kube::Error) -> String {
    format!("the way to the Kubernetes cluster cannot be used: {error}")
}
