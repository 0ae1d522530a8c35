//! The program: reads the command line, hands over to [`leasehold::cli`], and ends with its exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    leasehold::cli::main()
}
