//! The operator and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    ecr_operator::cli::main()
}
