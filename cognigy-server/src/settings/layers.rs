//! Where a setting's value comes from: a flag, the environment, or the file.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use cognigy_core::SourceName;
use cognigy_crm_http::CrmTemplate;

use super::{
    Hidden, operators, outside,
    per_source::{Own, View},
    table::{SETTINGS, SOURCE_PREFIX, Setting, key},
};

/// A variable must be this similar to a known one to be suggested for it (Jaro-Winkler, 0 to 1).
const SUGGESTION_THRESHOLD: f64 = 0.8;

/// A setting that stops the start, in one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SettingError(pub(super) String);

impl SettingError {
    /// The error that the setting with that key is required here.
    pub(crate) fn missing(key: &str) -> Self {
        Self::missing_variable(name(key))
    }

    pub(super) fn missing_variable(variable: &str) -> Self {
        Self(format!("{variable} is required but not set"))
    }

    pub(super) fn wrong(key: &str, variable: &str, value: &str, expected: &str) -> Self {
        let secret = Setting::by_key(key).is_some_and(|setting| setting.secret);
        // A URL that is refused may hold a password.
        let hidden = secret || key == "client_id" || key.ends_with("_url");
        let shown = if hidden { String::new() } else { format!(", got {value:?}") };
        Self(format!("{variable}: {expected}{shown}"))
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingError {}

pub(super) fn name(key: &str) -> &str {
    Setting::by_key(key).map_or(key, |setting| setting.variable)
}

/// All values are hidden, since some are secrets.
pub(super) type Values = BTreeMap<String, Hidden>;

/// The values that were given, by key.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    flags: Values,
    environment: Values,
    file: Values,
    /// The files that were read.
    files: Vec<PathBuf>,
    /// Variables that begin with `COGNIGY_SOURCE_`. Their sources are known once all sources are
    /// named.
    pub(super) variables_of_sources: Values,
    /// The variables of operators, and those that the file's tables of operators stand for.
    pub(super) operators_environment: Values,
    pub(super) operators_file: Values,
    /// The file's tables of sources.
    pub(super) tables: BTreeMap<SourceName, Values>,
    /// The file's tables `crm_template`: the plain path's, and those of sources.
    pub(super) crm_template: Option<CrmTemplate>,
    pub(super) crm_templates: BTreeMap<SourceName, CrmTemplate>,
    /// The sources beside the plain path's, and the settings of each.
    pub(super) sources: BTreeMap<SourceName, Own>,
}

impl Layers {
    /// Starts with the flags of the command line, by key.
    pub(crate) fn from_flags(flags: BTreeMap<String, String>) -> Self {
        let flags = flags.into_iter().map(|(key, value)| (key, Hidden::new(value))).collect();
        Self { flags, ..Self::default() }
    }

    /// Adds the environment. An empty variable counts as unset, since many platforms write it so.
    /// Yields a warning for each unknown `COGNIGY_` variable, and for each variable of the AWS SDK
    /// that has quotes around it. Refuses variables of this program that are not UTF-8, and
    /// variables of the SDK that the SDK cannot use.
    pub(crate) fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) -> Result<Vec<String>, SettingError> {
        let mut warnings = Vec::new();
        for (variable, value) in variables {
            let Some((variable, value)) = outside::ours(variable.into(), value.into())? else {
                continue;
            };
            warnings.extend(outside::check_aws(&variable, &value)?);
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable == variable) {
                if !value.is_empty() {
                    self.environment.insert(setting.key(), Hidden::new(value));
                }
            } else if variable.starts_with(SOURCE_PREFIX) {
                if !value.is_empty() {
                    self.variables_of_sources.insert(variable, Hidden::new(value));
                }
            } else if operators::is_variable(&variable) {
                if !value.is_empty() {
                    self.operators_environment.insert(variable, Hidden::new(value));
                }
            } else if variable.starts_with("COGNIGY_") {
                warnings.push(match nearest(&variable) {
                    Some(known) => format!("unknown variable {variable}: did you mean {known}?"),
                    None => format!("unknown variable {variable}"),
                });
            } else if let Some(known) = nearest(&variable).filter(|_| !variable.starts_with("AWS_"))
            {
                // Other programs have variables with such names.
                warnings.push(format!("unknown variable {variable}: did you mean {known}?"));
            }
        }
        Ok(warnings)
    }

    /// Leaves out the operators that are set here beside `COGNIGY_ADMIN_TOKEN`. To a command that asks another
    /// server, that token is its user's own, and who the operators of a server here are means nothing to it.
    pub(crate) fn leave_operators_out(&mut self) {
        self.operators_file.clear();
        self.operators_environment.clear();
    }

    /// Forgets the environment, so that it can be read again.
    pub(crate) fn forget_environment(&mut self) {
        self.environment.clear();
        self.variables_of_sources.clear();
        self.operators_environment.clear();
    }

    /// The file of variables, if one is named.
    pub(crate) fn env_file(&self) -> Result<Option<PathBuf>, SettingError> {
        self.optional("env_file", |path| Ok(path.into()))
    }

    /// Adds a file: TOML, one key a setting.
    pub(crate) fn add_file(&mut self, path: &Path) -> Result<(), SettingError> {
        let wrong = |problem: &str| SettingError(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
        self.files.push(path.to_owned());
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // The parser's own message quotes the line, which may hold a secret.
            let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
            wrong(&format!("not valid TOML at line {line}"))
        })?;
        for (name, value) in table {
            if key(&name) == CRM_TEMPLATE {
                self.crm_template = Some(crm_template(&name, value).map_err(|it| wrong(&it))?);
                continue;
            }
            if key(&name) == "operators" {
                self.operators_file = operators::tables(value).map_err(|it| wrong(&it))?;
                continue;
            }
            let Some(setting) = Setting::by_key(&key(&name)) else {
                let hint = nearest(&format!("COGNIGY_{}", key(&name).to_ascii_uppercase()))
                    .map(|known| format!(": did you mean {}?", key(known)))
                    .unwrap_or_default();
                return Err(wrong(&format!("unknown key {name}{hint}")));
            };
            match value {
                toml::Value::Table(tables) if setting.key() == "sources" => {
                    self.add_tables(tables).map_err(|problem| wrong(&problem))?;
                }
                value => {
                    let value = scalar(&name, value).map_err(|problem| wrong(&problem))?;
                    self.file.insert(setting.key(), value);
                }
            }
        }
        Ok(())
    }

    /// The values of these settings alone, for a command that chooses all others itself.
    pub(crate) fn only(&self, keys: &[&str]) -> Self {
        let chosen = |values: &Values| -> Values {
            let chosen = values.iter().filter(|(key, _)| keys.contains(&key.as_str()));
            chosen.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        Self {
            flags: chosen(&self.flags),
            environment: chosen(&self.environment),
            file: chosen(&self.file),
            ..Self::default()
        }
    }

    /// Sets a value that has not been set.
    pub(crate) fn set_default(&mut self, key: &str, value: &str) {
        if ![&self.flags, &self.environment, &self.file].iter().any(|layer| layer.contains_key(key))
        {
            self.set(key, value);
        }
    }

    /// Sets a value as a flag would.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) {
        self.flags.insert(key.to_owned(), Hidden::new(value));
    }

    /// Every value that was given, with the name under which it was given.
    pub(super) fn given(&self) -> impl Iterator<Item = (String, &Hidden)> {
        let named = |setting: &str, name: fn(&Setting) -> String| {
            Setting::by_key(setting).map_or_else(|| setting.to_owned(), name)
        };
        let flags = self.flags.iter().map(move |(key, value)| {
            (named(key, |setting| format!("--{}", setting.flag())), value)
        });
        let environment = self
            .environment
            .iter()
            .map(move |(key, value)| (named(key, |setting| setting.variable.to_owned()), value));
        let file = self.file.iter().map(|(key, value)| (format!("{key} in the file"), value));
        let sources = self.sources.iter().flat_map(|(source, own)| own.given(source));
        let operators = self.operators_environment.iter().chain(&self.operators_file);
        let operators = operators.map(|(variable, value)| (variable.clone(), value));
        flags.chain(environment).chain(file).chain(sources).chain(operators)
    }

    /// The settings file, if it holds a secret.
    pub(super) fn secret_file(&self) -> Option<&Path> {
        let own = self.sources.values().flat_map(Own::file);
        let unused = self.tables.values().flatten();
        let mut values = self.file.iter().chain(own).chain(unused);
        let holds = !self.operators_file.is_empty()
            || values.any(|(key, value)| outside::is_secret(key, value.as_str()));
        self.files.first().filter(|_| holds).map(PathBuf::as_path)
    }

    pub(super) fn value(&self, key: &str) -> Option<&str> {
        [&self.flags, &self.environment, &self.file]
            .into_iter()
            .find_map(|layer| layer.get(key))
            .map(Hidden::as_str)
            .or_else(|| Setting::by_key(key)?.default)
    }

    /// Where the value of a setting comes from, in words.
    pub(super) fn set_by(&self, key: &str) -> String {
        let variable = name(key);
        if self.flags.contains_key(key) {
            let flag = Setting::by_key(key).map(Setting::flag).unwrap_or_default();
            format!("set by the flag --{flag}")
        } else if self.environment.contains_key(key) {
            format!("set by the variable {variable}")
        } else if self.file.contains_key(key) {
            format!("set by {key} in the settings file")
        } else {
            format!("the default of {variable}")
        }
    }

    /// The value of a setting that may be absent.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, SettingError> {
        View::plain(self).optional(key, parse)
    }

    /// The value of a setting that must be there.
    pub(super) fn required<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, SettingError> {
        View::plain(self).required(key, parse)
    }
}

/// The key of the table that describes a CRM.
pub(super) const CRM_TEMPLATE: &str = "crm_template";

/// Reads that table.
pub(super) fn crm_template(name: &str, value: toml::Value) -> Result<CrmTemplate, String> {
    value.try_into().map_err(|error: toml::de::Error| format!("{name}: {}", error.message()))
}

/// A value in the file.
pub(super) fn scalar(name: &str, value: toml::Value) -> Result<Hidden, String> {
    Ok(Hidden::new(match value {
        toml::Value::String(text) => text,
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(on) => if on { "on" } else { "off" }.to_owned(),
        _ => return Err(format!("{name}: expected a string or a number")),
    }))
}

fn nearest(variable: &str) -> Option<&'static str> {
    let similar = SETTINGS
        .iter()
        .map(|known| (strsim::jaro_winkler(&key(variable), &known.key()), known.variable));
    similar
        .filter(|(similarity, _)| *similarity >= SUGGESTION_THRESHOLD)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn layers(flags: &[(&str, &str)], environment: &[(&str, &str)]) -> (Layers, Vec<String>) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut layers = Layers::from_flags(flags.iter().map(own).collect());
        let warnings = layers.add_environment(environment.iter().map(own)).unwrap();
        (layers, warnings)
    }

    fn refusal(environment: &[(&str, &str)]) -> String {
        Settings::read(&layers(&[], environment).0).unwrap_err().to_string()
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cognigy.toml");
        std::fs::write(&path, "lease = \"7s\"\nCOGNIGY_RETENTION = \"7d\"\nmax_body_bytes = 7")
            .unwrap();
        let (mut layers, _) =
            layers(&[("lease", "5s")], &[("COGNIGY_LEASE", "6s"), ("COGNIGY_RETENTION", "6d")]);
        layers.add_file(&path).unwrap();
        let settings = Settings::read(&layers).unwrap();
        assert_eq!(settings.lease.as_secs(), 5);
        assert_eq!(settings.retention.as_secs(), 6 * 86_400);
        assert_eq!(settings.plain.max_body_bytes, 7);
        assert_eq!(settings.plain.retry.max_attempts, 4);
        assert!(settings.plain.webhook().is_err(), "the secret has no default");
    }

    #[test]
    fn what_is_wrong_is_named_in_one_line_and_secrets_are_not_shown() {
        let refused = refusal(&[("COGNIGY_LEASE", "soon")]);
        assert!(
            refused.starts_with("COGNIGY_LEASE: ") && refused.contains("\"soon\""),
            "{refused}"
        );
        let refused = refusal(&[("COGNIGY_WEBHOOK_SECRET", "shhh")]);
        assert!(refused.starts_with("COGNIGY_WEBHOOK_SECRET: ") && !refused.contains("shhh"));
        for variable in
            ["CRM_TIMEOUT", "CRM_CONCURRENCY", "COGNIGY_RETENTION", "COGNIGY_MAX_BODY_BYTES"]
        {
            let refused = refusal(&[(variable, "0")]);
            assert!(refused.starts_with(variable) && !refused.contains('\n'), "{refused}");
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let secrets: Vec<_> = SETTINGS.iter().filter(|setting| setting.secret).collect();
        assert!(secrets.len() >= 6, "{secrets:?}");
        let marked = |setting: &Setting| match setting.variable {
            "COGNIGY_DATABASE_URL" => "postgres://user:marked@host/name",
            "COGNIGY_FORWARD_URL" | "COGNIGY_NOTIFY_URL" => "https://h.example/marked?token=marked",
            // `marked` is a part of it, as base64 of a secret.
            "COGNIGY_FORWARD_SECRET" | "COGNIGY_NOTIFY_SECRET" => "whsec_markedmarkedmarkedmarked",
            _ => "marked-secret",
        };
        let environment: Vec<_> =
            secrets.iter().map(|setting| (setting.variable, marked(setting))).collect();
        let (layers, _) = layers(&[("admin_token", "marked-flag")], &environment);
        let settings = Settings::read(&layers).unwrap();
        let shown = format!("{layers:?} {settings:?}");
        assert!(shown.contains("admin_token") && !shown.contains("marked"), "{shown}");
        // Numbers would be bytes: of 'm', 'a', 'r'.
        assert!(!shown.contains("109, 97, 114"), "{shown}");
    }

    #[test]
    fn an_unknown_variable_is_a_warning_with_the_nearest_name() {
        let (_, warnings) =
            layers(&[], &[("COGNIGY_LISTENS", "x"), ("COGNIGY_PORT_80_TCP", "x"), ("PATH", "x")]);
        assert_eq!(warnings[0], "unknown variable COGNIGY_LISTENS: did you mean COGNIGY_LISTEN?");
        assert_eq!(warnings.len(), 2);
    }

    #[test]
    fn an_unknown_key_or_broken_file_stops_the_start_without_quoting_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cognigy.toml");
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Layers::default().add_file(&path).unwrap_err().to_string()
        };
        assert!(refused("leese = \"1s\"").ends_with("unknown key leese: did you mean lease?"));
        let broken = refused("listen = \"x\"\nwebhook_secret = marked");
        assert!(broken.contains("line 2") && !broken.contains("marked"), "{broken}");
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let (layers, _) = layers(&[], &[("COGNIGY_ADMIN_TOKEN", ""), ("COGNIGY_LEASE", "")]);
        let settings = Settings::read(&layers).unwrap();
        assert!(settings.operators.is_empty());
        assert_eq!(settings.lease.as_secs(), 60);
    }
}
