//! The command line: commands, their arguments, and a flag for every setting.

mod subcommands;

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use clap::{Arg, ArgAction, ArgMatches, Command, error::ErrorKind};

use self::subcommands::subcommands;
use crate::{
    error::{DONE, FAILED, WRONG_USE},
    output, papers,
    settings::{self, Layers, SETTINGS, SettingError, add_env_file},
};

/// This file is read if it exists and no other file is named.
const DEFAULT_FILE: &str = "cognigy.toml";

/// Commands that ask the CRM, the queue, Cognigy's API or a server.
const CALLING: [&str; 8] =
    ["serve", "send", "replay", "recorrelate", "redrive", "register", "webhooks", "doctor"];

/// The flag that shows the settings.
const SETTINGS_HELP: &str = "help-settings";

/// The command and the settings that a command line asks for.
pub(crate) struct Invocation {
    pub(crate) command: String,
    pub(crate) arguments: ArgMatches,
    pub(crate) layers: Layers,
    pub(crate) warnings: Vec<String>,
}

/// Reads the command line, the environment and the settings file. If something is wrong, it says so
/// in one line and yields the exit status.
pub(crate) fn parse() -> Result<Invocation, u8> {
    if asks_for_settings(std::env::args_os()) {
        // A closed pipe is no reason to complain.
        let _ = settings_help().print_long_help();
        return Err(DONE);
    }
    let matches = command().try_get_matches().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let code = if error.use_stderr() { WRONG_USE } else { DONE };
            match error.print() {
                // A closed pipe is no reason to complain.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    output::complain(format_args!("stdout: {error}"));
                    FAILED
                }
                _ => code,
            }
        }
        ErrorKind::InvalidUtf8 => {
            eprintln!("cognigy-server: {}", not_utf8(std::env::args_os()));
            WRONG_USE
        }
        _ => {
            output::complain(one_line(&error.to_string()));
            WRONG_USE
        }
    })?;
    let (command, arguments) = matches.subcommand().ok_or(WRONG_USE)?;
    if let Some(written) = papers::write(command, arguments) {
        return Err(written);
    }

    let mut flags = BTreeMap::new();
    // The settings' flags stand behind the last word of a command that has several.
    let mut last = arguments;
    while let Some((_, deeper)) = last.subcommand() {
        last = deeper;
    }
    for setting in SETTINGS {
        if let Some(value) = last.get_one::<String>(&setting.key()) {
            flags.insert(setting.key(), value.clone());
        }
    }
    let mut layers = Layers::from_flags(flags);
    let named = last.get_one::<String>("config").map(Path::new);
    let file = named.or_else(|| Some(Path::new(DEFAULT_FILE)).filter(|file| file.exists()));
    if let Some(file) = file {
        if !file.exists() {
            let file = file.display();
            output::complain(format_args!("the settings file {file} does not exist (--config)"));
            return Err(WRONG_USE);
        }
        layers.add_file(file).map_err(complain)?;
    }
    // The environment is read twice: first it names the file of variables, then it contains them.
    layers.add_environment(std::env::vars_os()).map_err(complain)?;
    let mut warnings = match layers.env_file().map_err(complain)? {
        Some(file) => {
            let warnings = add_env_file(&file).map_err(complain)?;
            layers.forget_environment();
            warnings
        }
        None => Vec::new(),
    };
    warnings.extend(layers.add_environment(std::env::vars_os()).map_err(complain)?);
    warnings.extend(layers.name_sources().map_err(complain)?);
    if last.try_get_one::<String>("server").ok().flatten().is_some() {
        layers.leave_operators_out();
    }
    let calls = CALLING.contains(&command);
    warnings.extend(settings::warnings(&layers, command == "serve", calls).map_err(complain)?);
    if command == "demo" {
        // The demo writes to standard output. The server's log lines would hide that.
        layers.set_default("log", "off");
    }
    let command = command.to_owned();
    Ok(Invocation { command, arguments: arguments.clone(), layers, warnings })
}

fn complain(error: SettingError) -> u8 {
    output::complain(error);
    WRONG_USE
}

/// The first line of clap's message and its tip. The usage is left to `--help`.
fn one_line(message: &str) -> String {
    let mut lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut text = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    if text.ends_with(':') {
        // clap lists what is missing on the lines below such as "the following required arguments
        // were not provided:".
        text = format!("{text} {}", lines.next().unwrap_or_default());
    } else if let Some(tip) = lines.find_map(|line| line.strip_prefix("tip: ")) {
        text = format!("{text} ({tip})");
    }
    text
}

pub(crate) fn command() -> Command {
    let mut root = Command::new("cognigy-server")
        .about("Receives signed Cognigy webhooks, stores them durably, processes and replays them")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("Settings file (default: cognigy.toml, if it is there)")
                .global(true),
        );
    root = root.arg(
        Arg::new(SETTINGS_HELP)
            .long(SETTINGS_HELP)
            .action(ArgAction::SetTrue)
            .help(
                "Print the settings: each is a variable (COGNIGY_LISTEN), a flag (--listen) and a key \
                 of the file (listen)",
            )
            .global(true),
    );
    // In every help they would hide the few options of the command itself.
    let settings = flags().map(|setting| setting.global(true).hide(true));
    root.args(settings).subcommands(subcommands())
}

/// A flag for every setting.
fn flags() -> impl Iterator<Item = Arg> {
    SETTINGS.iter().map(|setting| {
        let mut help = format!("{} [{}]", setting.help, setting.variable);
        if let Some(default) = setting.default {
            help = format!("{help} [default: {default}]");
        }
        if setting.secret {
            help.push_str(" [better in the environment: flags show in process lists]");
        }
        Arg::new(setting.key()).long(setting.flag()).value_name("VALUE").help(help)
    })
}

/// The settings, in the form of a command's help.
fn settings_help() -> Command {
    Command::new("cognigy-server")
        .about(
            "Settings. Each is a flag, an environment variable, or a key in cognigy.toml; a flag beats \
             the environment beats the file.",
        )
        .override_usage("cognigy-server <COMMAND> [SETTINGS]")
        .next_help_heading("Settings")
        .disable_help_flag(true)
        .args(flags())
}

/// Whether the command line asks for the settings. Other arguments may be missing then.
fn asks_for_settings(arguments: impl Iterator<Item = OsString>) -> bool {
    let flag = format!("--{SETTINGS_HELP}");
    arguments.skip(1).take_while(|argument| argument != "--").any(|argument| argument == *flag)
}

/// Names the argument that is not UTF-8, without its value.
fn not_utf8(arguments: impl Iterator<Item = OsString>) -> String {
    let mut before = OsString::new();
    for argument in arguments.skip(1) {
        if argument.to_str().is_none() {
            let shown = argument.to_string_lossy();
            let flag = match shown.split_once('=') {
                Some((flag, _)) if flag.starts_with("--") => flag.to_owned(),
                _ => before.to_string_lossy().into_owned(),
            };
            let flag = if flag.starts_with("--") { flag } else { "an argument".to_owned() };
            return format!("{flag} is not UTF-8");
        }
        before = argument;
    }
    "an argument is not UTF-8".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_help_has_an_example() {
        command().debug_assert();
        for subcommand in subcommands() {
            let help = subcommand.clone().render_help().to_string();
            assert!(help.contains("Example:"), "{}", subcommand.get_name());
        }
    }

    #[test]
    fn a_command_s_help_shows_its_own_options_and_the_settings_have_a_help_of_their_own() {
        let help = command().find_subcommand_mut("list").map(|it| it.render_help().to_string());
        let help = help.unwrap_or_default();
        assert!(help.contains("--status") && !help.contains("--crm-base-url"), "{help}");
        let settings = settings_help().render_long_help().to_string();
        for setting in SETTINGS {
            assert!(settings.contains(&format!("--{}", setting.flag())), "{}", setting.variable);
            assert!(settings.contains(&format!("[{}]", setting.variable)), "{}", setting.variable);
        }
        let asks = |line: &str| asks_for_settings(line.split(' ').map(OsString::from));
        assert!(asks("cognigy-server show --help-settings") && asks("x --help-settings"));
        assert!(!asks("cognigy-server show -- --help-settings") && !asks("cognigy-server list"));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf_8_is_named_by_its_flag() {
        use std::os::unix::ffi::OsStringExt;

        let told = |arguments: &[&[u8]]| {
            let arguments =
                [b"x"].iter().map(|it| it.to_vec()).chain(arguments.iter().map(|it| it.to_vec()));
            not_utf8(arguments.map(OsString::from_vec))
        };
        assert_eq!(told(&[b"serve", b"--crm-token", b"marked\xff"]), "--crm-token is not UTF-8");
        assert_eq!(told(&[b"--crm-token=marked\xff"]), "--crm-token is not UTF-8");
        assert_eq!(told(&[b"show", b"marked\xff"]), "an argument is not UTF-8");
    }

    #[test]
    fn complaints_fit_on_one_line() {
        for arguments in [
            vec!["serve", "--listn", "x"],
            vec!["show"],
            vec!["nonsense"],
            vec!["list", "--limit", "x"],
        ] {
            let arguments = std::iter::once("cognigy-server").chain(arguments);
            let error = command().try_get_matches_from(arguments).unwrap_err();
            let line = one_line(&error.to_string());
            assert!(!line.contains('\n') && line.len() > 10, "{line}");
        }
    }
}
