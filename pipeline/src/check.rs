//! `tracescale check`: every problem of the configuration at once, and what is off though nothing is wrong.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use tracescale_documents::Problem;

use crate::cli::{CheckArgs, EXIT_USAGE, ListenArgs};
use crate::config::Config;
use crate::{console, unpromised};

/// Runs the command.
///
/// # Errors
/// When the runtime or standard output fails.
pub fn main(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A port of 0 stands for "whatever is free": checking binds nothing.
    let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let listen = ListenArgs { grpc: any, http: any, metrics: any };
    match runtime.block_on(Config::load(&args.paths, &listen, None)) {
        Ok(config) => {
            note(&config, args.json)?;
            let (targets, rules, views) = config.counts();
            if args.json {
                console::print_line(&serde_json::json!({"type": "ok", "targets": targets, "rules": rules, "views": views}).to_string())?;
            } else {
                console::print_line(&format!("ok: {targets} targets, {rules} rules, {views} views"))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => refuse(&problems, args.json),
    }
}

/// Prints what is off because nothing was promised, a line for each target.
fn note(config: &Config, json: bool) -> anyhow::Result<()> {
    let (targets, rules) = config.specs();
    for known in unpromised::all(&targets, &rules) {
        let line = if json {
            serde_json::json!({"type": "note", "target": known.target.as_str(), "off": known.off}).to_string()
        } else {
            format!("note: {known}")
        };
        console::print_line(&line)?;
    }
    Ok(())
}

/// Prints problems and gives the exit code that says so.
///
/// # Errors
/// When standard output fails.
pub fn refuse(problems: &[Problem], json: bool) -> anyhow::Result<ExitCode> {
    for problem in problems {
        if json {
            let Problem { file, line, path, value, message, hint } = problem;
            let line = serde_json::json!({
                "type": "problem", "file": file, "line": line, "path": path, "value": value, "message": message, "hint": hint
            });
            console::print_line(&line.to_string())?;
        } else {
            console::print_error(&problem.to_string());
        }
    }
    if !json {
        console::print_error(&format!("{} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" }));
    }
    Ok(ExitCode::from(EXIT_USAGE))
}
