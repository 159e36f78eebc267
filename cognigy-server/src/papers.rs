//! Shell completions and the manual page: both are made of the command line itself.

use std::io::Write;

use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;

use crate::{
    cli,
    error::{DONE, FAILED, WRONG_USE},
    output,
};

const SHELLS: [(&str, Shell); 5] = [
    ("bash", Shell::Bash),
    ("elvish", Shell::Elvish),
    ("fish", Shell::Fish),
    ("powershell", Shell::PowerShell),
    ("zsh", Shell::Zsh),
];

/// The arguments of `completions`.
pub(crate) fn completions(command: Command) -> Command {
    command.arg(
        Arg::new("shell")
            .value_name("SHELL")
            .required(true)
            .value_parser(SHELLS.map(|(name, _)| name))
            .help("The shell"),
    )
}

/// The arguments of `man`.
pub(crate) fn man(command: Command) -> Command {
    command.arg(Arg::new("of").value_name("COMMAND").help("The command (default: the program)"))
}

/// Writes what `command` asks for, if it is one of these two. They need no settings. Yields the exit
/// status.
pub(crate) fn write(command: &str, arguments: &ArgMatches) -> Option<u8> {
    let mut text = Vec::new();
    let written = match command {
        "completions" => {
            let name = arguments.get_one::<String>("shell").map(String::as_str);
            let (_, shell) = SHELLS.into_iter().find(|(known, _)| Some(*known) == name)?;
            clap_complete::generate(shell, &mut cli::command(), "cognigy-server", &mut text);
            Ok(())
        }
        "man" => {
            let mut root = cli::command();
            root.build();
            let page = match arguments.get_one::<String>("of") {
                None => root,
                Some(name) => {
                    let Some(command) = root.find_subcommand(name) else {
                        output::complain(format_args!("{name} is not a command"));
                        return Some(WRONG_USE);
                    };
                    command.clone()
                }
            };
            clap_mangen::Man::new(page).render(&mut text)
        }
        _ => return None,
    };
    let written = written.and_then(|()| std::io::stdout().lock().write_all(&text));
    match written {
        Ok(()) => Some(DONE),
        // A closed pipe is no reason to complain.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Some(DONE),
        Err(error) => {
            output::complain(format_args!("stdout: {error}"));
            Some(FAILED)
        }
    }
}
