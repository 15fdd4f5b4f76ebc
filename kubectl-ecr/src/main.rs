//! The plugin of kubectl.

use std::process::ExitCode;

fn main() -> ExitCode {
    ecr_operator::kubectl::main()
}
