//! The settings of each source: its own variables and its table in the file come before what is set
//! for all.
//!
//! A source never inherits a secret. A sender that knows one source's secret must not be able to
//! sign for another source because a variable was forgotten. A CRM's token is inherited only
//! together with the CRM's address.

use std::collections::BTreeMap;

use cognigy_core::SourceName;
use cognigy_crm_http::CrmTemplate;

use super::{
    Hidden, Layers, SettingError,
    layers::{self, Values},
    outside, parse,
    table::{SETTINGS, Setting, key, prefix},
};

/// A variable must be this similar to a known one to be suggested for it (Jaro-Winkler, 0 to 1).
/// The threshold is higher than for plain settings, because the variables of all sources begin
/// alike.
const SUGGESTION_THRESHOLD: f64 = 0.95;

/// The settings that say what the sender is. A source with one of its own has another sender, so that it
/// inherits none of [`OF_THE_SENDER`].
const SENDER: [&str; 3] = ["preset", "auth", "signature_scheme"];

/// The settings that describe one sender.
const OF_THE_SENDER: [&str; 17] = [
    "auth",
    "signature_scheme",
    "signature_header",
    "signature_content",
    "signature_format",
    "signature_prefix",
    "signature_encoding",
    "signature_key",
    "signature_timestamp_header",
    "signature_timestamp_unit",
    "signature_id_header",
    "id_pointer",
    "type_pointer",
    "time_pointer",
    "contact_pointer",
    "conversation_pointer",
    "event_type",
];

/// The settings that belong to one CRM. A source with a CRM of its own inherits none of them.
const OF_THE_CRM: [&str; 11] = [
    "crm_token",
    "crm_auth",
    "crm_auth_header",
    "crm_client_id",
    "crm_client_secret",
    "crm_refresh_token",
    "crm_token_url",
    "crm_scope",
    "crm_external_id_field",
    "crm_fields",
    "crm_variables",
];

/// What is set for one source only, by key.
#[derive(Debug, Default)]
pub(super) struct Own {
    environment: Values,
    file: Values,
}

impl Own {
    fn value(&self, key: &str) -> Option<&str> {
        let layers = [&self.environment, &self.file];
        layers.into_iter().find_map(|layer| layer.get(key)).map(Hidden::as_str)
    }

    /// Every value that was given for `source`, with the name under which it was given.
    pub(super) fn given<'a>(
        &'a self,
        source: &'a SourceName,
    ) -> impl Iterator<Item = (String, &'a Hidden)> {
        let variable = move |key: &String| {
            Setting::by_key(key).map_or_else(|| key.clone(), |setting| setting.variable_of(source))
        };
        let environment = self.environment.iter().map(move |(key, value)| (variable(key), value));
        let in_file = move |key: &String| format!("sources.{source}.{key} in the file");
        environment.chain(self.file.iter().map(move |(key, value)| (in_file(key), value)))
    }

    /// Each value with its key, and whether it is from the file. The environment comes before the file.
    pub(super) fn keyed(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        let environment = self.environment.iter().map(|(key, value)| (key, value, false));
        let own = |key: &String| self.environment.contains_key(key);
        let file = self.file.iter().filter(move |(key, _)| !own(key));
        let all = environment.chain(file.map(|(key, value)| (key, value, true)));
        all.map(|(key, value, is_in_file)| (key.as_str(), value.as_str(), is_in_file))
    }

    /// The values in the file.
    pub(super) fn file(&self) -> &Values {
        &self.file
    }
}

/// The settings of one source: its own, then those of all.
pub(super) struct View<'a> {
    layers: &'a Layers,
    source: Option<(&'a SourceName, &'a Own)>,
}

impl<'a> View<'a> {
    /// The settings of the plain path's source.
    pub(super) fn plain(layers: &'a Layers) -> Self {
        Self { layers, source: None }
    }

    /// The settings of every other source.
    pub(super) fn of_sources(layers: &'a Layers) -> impl Iterator<Item = Self> {
        layers.sources.iter().map(move |source| Self { layers, source: Some(source) })
    }

    pub(super) fn name(&self) -> SourceName {
        self.source.map(|(name, _)| name.clone()).unwrap_or_default()
    }

    /// The value, and the name of the variable that sets it.
    pub(super) fn value(&self, key: &str) -> (Option<&'a str>, String) {
        let plain = || layers::name(key).to_owned();
        let Some((name, own)) = self.source else { return (self.layers.value(key), plain()) };
        let variable = Setting::by_key(key).map_or_else(plain, |it| it.variable_of(name));
        if let Some(value) = own.value(key) {
            return (Some(value), variable);
        }
        let kept_back = match key {
            "webhook_secret" | "webhook_secret_previous" => true,
            key if OF_THE_CRM.contains(&key) => {
                own.value("crm_base_url").is_some() || own.value("crm_preset").is_some()
            }
            "crm_base_url" => own.value("crm_preset").is_some(),
            "forward_secret" => own.value("forward_url").is_some(),
            // The whole URL of a path is no other path's.
            "public_url" => true,
            key if OF_THE_SENDER.contains(&key) => {
                SENDER.iter().any(|setting| own.value(setting).is_some())
            }
            _ => false,
        };
        let inherited = match kept_back {
            true => Setting::by_key(key).and_then(|setting| setting.default),
            false => self.layers.value(key),
        };
        match inherited {
            Some(value) => (Some(value), plain()),
            None => (None, variable),
        }
    }

    /// The value of a setting that may be absent.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, SettingError> {
        let (Some(text), variable) = self.value(key) else { return Ok(None) };
        let wrong = |expected: String| SettingError::wrong(key, &variable, text, &expected);
        outside::check_ends(key, text).map_err(wrong)?;
        parse(text).map(Some).map_err(wrong)
    }

    /// The table that describes the source's CRM: its own, or else that of all.
    pub(super) fn crm_template(&self) -> Option<CrmTemplate> {
        let own = self.source.and_then(|(name, _)| self.layers.crm_templates.get(name));
        own.or(self.layers.crm_template.as_ref()).cloned()
    }

    /// The error that the setting, as it is, cannot be used.
    pub(super) fn wrong(&self, key: &str, why: &str) -> SettingError {
        SettingError(format!("{}: {why}", self.value(key).1))
    }

    /// The error that the setting is needed and not set.
    pub(super) fn missing(&self, key: &str) -> SettingError {
        let of_source = self
            .source
            .and_then(|(name, _)| Setting::by_key(key).map(|setting| setting.variable_of(name)));
        let variable = of_source.unwrap_or_else(|| layers::name(key).to_owned());
        SettingError::missing_variable(&variable)
    }

    /// The value of a setting that must be there.
    pub(super) fn required<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, SettingError> {
        let missing = || SettingError::missing_variable(&self.value(key).1);
        self.optional(key, parse)?.ok_or_else(missing)
    }
}

impl Layers {
    /// Adds the file's tables `[sources.NAME]`.
    pub(super) fn add_tables(&mut self, tables: toml::Table) -> Result<(), String> {
        for (name, table) in tables {
            let place = format!("sources.{name}");
            let source = parse::source_name(&name).map_err(|why| format!("{place}: {why}"))?;
            let toml::Value::Table(table) = table else {
                return Err(format!("{place}: expected a table"));
            };
            let mut values = Values::new();
            for (name, value) in table {
                if key(&name) == layers::CRM_TEMPLATE {
                    let template = layers::crm_template(&format!("{place}.{name}"), value)?;
                    self.crm_templates.insert(source.clone(), template);
                    continue;
                }
                let setting = Setting::by_key(&key(&name)).filter(|setting| setting.per_source);
                let setting = setting.ok_or_else(|| unknown_key(&place, &name))?;
                let value = layers::scalar(&format!("{place}.{name}"), value)?;
                values.insert(setting.key(), value);
            }
            self.tables.insert(source, values);
        }
        Ok(())
    }

    /// Determines the sources and their settings, once every layer has been added. The sources are
    /// those in `COGNIGY_SOURCES`, or else those with a table in the file. Yields a warning for
    /// each variable and table that belongs to no source.
    pub(crate) fn name_sources(&mut self) -> Result<Vec<String>, SettingError> {
        let listed = self.optional("sources", parse::source_names)?;
        let mut tables = std::mem::take(&mut self.tables);
        let names = listed.unwrap_or_else(|| tables.keys().cloned().collect());
        let mut prefixes = BTreeMap::new();
        for name in names {
            if let Some(other) = prefixes.insert(prefix(&name), name.clone()) {
                let shared = prefix(&name);
                let problem =
                    format!("the variables of {other} and {name} would both be {shared}…");
                return Err(SettingError(format!("COGNIGY_SOURCES: {problem}")));
            }
            let file = tables.remove(&name).unwrap_or_default();
            self.sources.insert(name, Own { file, ..Own::default() });
        }
        self.check_variables()?;
        let unlisted = tables.keys().map(|name| {
            format!("the file's table sources.{name} is not used: COGNIGY_SOURCES does not name it")
        });
        let mut warnings: Vec<_> = unlisted.collect();
        for (variable, value) in std::mem::take(&mut self.variables_of_sources) {
            match self.owner_of(&variable) {
                Some((source, key)) => {
                    if let Some(own) = self.sources.get_mut(&source) {
                        own.environment.insert(key, value);
                    }
                }
                None => warnings.push(self.unknown_variable(&variable)),
            }
        }
        Ok(warnings)
    }

    /// No variable may belong to two sources: `COGNIGY_SOURCE_A_CRM_AUTH` is the `crm_auth` of a source
    /// `a` and the `auth` of a source `a-crm`.
    fn check_variables(&self) -> Result<(), SettingError> {
        let mut owners = BTreeMap::new();
        for (variable, source, _) in self.variables() {
            if let Some(other) = owners.insert(variable.clone(), source) {
                let problem = format!("{variable} would be of both {other} and {source}");
                return Err(SettingError(format!("COGNIGY_SOURCES: {problem}")));
            }
        }
        Ok(())
    }

    /// Adds a source with these settings.
    pub(crate) fn add_source(&mut self, name: SourceName, settings: &[(&str, &str)]) {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), Hidden::new(*value));
        let environment = settings.iter().map(own).collect();
        self.sources.insert(name, Own { environment, ..Own::default() });
    }

    fn variables(&self) -> impl Iterator<Item = (String, &SourceName, &'static Setting)> {
        self.sources.keys().flat_map(|source| {
            let each = SETTINGS.iter().filter(|setting| setting.per_source);
            each.map(move |setting| (setting.variable_of(source), source, setting))
        })
    }

    fn owner_of(&self, variable: &str) -> Option<(SourceName, String)> {
        self.variables()
            .find(|(known, ..)| known == variable)
            .map(|(_, source, setting)| (source.clone(), setting.key()))
    }

    fn unknown_variable(&self, variable: &str) -> String {
        let similar =
            self.variables().map(|(known, ..)| (strsim::jaro_winkler(variable, &known), known));
        let nearest = similar
            .filter(|(similarity, _)| *similarity >= SUGGESTION_THRESHOLD)
            .max_by(|one, other| one.0.total_cmp(&other.0));
        let of_a_source = |setting: &&Setting| {
            self.sources.keys().any(|source| setting.variable_of(source) == variable)
        };
        match nearest {
            _ if SETTINGS.iter().any(|setting| of_a_source(&setting)) => {
                format!("{variable} is not used: no source can have that for itself")
            }
            Some((_, known)) => format!("unknown variable {variable}: did you mean {known}?"),
            None => format!(
                "unknown variable {variable}: it is of no source that COGNIGY_SOURCES or the file names"
            ),
        }
    }
}

fn unknown_key(place: &str, name: &str) -> String {
    let each = SETTINGS.iter().filter(|setting| setting.per_source);
    let similar = each.map(|known| (strsim::jaro_winkler(&key(name), &known.key()), known.key()));
    let nearest = similar.max_by(|one, other| one.0.total_cmp(&other.0));
    match (Setting::by_key(&key(name)), nearest) {
        (Some(_), _) => format!("{place}.{name}: no source can have that for itself"),
        (None, Some((similarity, known))) if similarity >= 0.8 => {
            format!("unknown key {place}.{name}: did you mean {known}?")
        }
        _ => format!("unknown key {place}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, SourceSettings};
    use super::*;

    type Read = Result<(Settings, Vec<String>), String>;

    /// Reads the settings from an environment and a file.
    fn read(environment: &[(&str, &str)], file: &str) -> Read {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cognigy.toml");
        std::fs::write(&path, file).unwrap();
        let mut layers = Layers::default();
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut warnings = layers
            .add_environment(environment.iter().map(own))
            .map_err(|error| error.to_string())?;
        layers.add_file(&path).map_err(|error| error.to_string())?;
        warnings.extend(layers.name_sources().map_err(|error| error.to_string())?);
        let settings = Settings::read(&layers).map_err(|error| error.to_string())?;
        Ok((settings, warnings))
    }

    fn source<'a>(settings: &'a Settings, name: &str) -> &'a SourceSettings {
        settings.source(&name.parse().unwrap()).expect("it is configured")
    }

    #[test]
    fn a_source_has_its_own_settings_and_else_the_plain_ones() {
        let (settings, warnings) = read(
            &[
                ("COGNIGY_SOURCES", "shop, call-centre"),
                ("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET", "secret-of-shop"),
                ("COGNIGY_SOURCE_SHOP_CRM_TIMEOUT", "3s"),
                ("COGNIGY_SOURCE_CALL_CENTRE_MAX_IN_FLIGHT", "5"),
                ("CRM_TIMEOUT", "7s"),
                ("COGNIGY_MAX_IN_FLIGHT", "9"),
            ],
            "crm_concurrency = 11\n[sources.shop]\ncrm_timeout = \"4s\"\nmax_body_bytes = 100\n\
             crm_cache = \"1m\"\n[sources.call-centre]\ncrm_concurrency = 2",
        )
        .unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let (shop, calls) = (source(&settings, "shop"), source(&settings, "call-centre"));
        let seconds = |it: &SourceSettings| it.crm.timeout.as_secs();
        assert_eq!([seconds(&settings.plain), seconds(shop), seconds(calls)], [7, 3, 7]);
        let concurrency = [&settings.plain, shop, calls].map(|it| it.crm.concurrency);
        assert_eq!(concurrency, [11, 11, 2]);
        let in_flight = [&settings.plain, shop, calls].map(|it| it.max_in_flight);
        assert_eq!(in_flight, [Some(9), Some(9), Some(5)]);
        assert_eq!((shop.max_body_bytes, calls.max_body_bytes), (100, 1_048_576));
        assert_eq!((shop.crm.cache.as_secs(), calls.crm.cache.as_secs()), (60, 0));
        assert_eq!(
            (shop.path(), settings.plain.path()),
            ("/webhooks/cognigy/shop".into(), "/webhooks/cognigy".into())
        );
    }

    #[test]
    fn no_source_gets_another_s_secrets() {
        let (settings, _) = read(
            &[
                ("COGNIGY_SOURCES", "shop,own-crm"),
                ("COGNIGY_WEBHOOK_SECRET", "the-plain-secret"),
                ("COGNIGY_WEBHOOK_SECRET_PREVIOUS", "the-plain-secret-before"),
                ("CRM_BASE_URL", "https://crm.example"),
                ("CRM_TOKEN", "token-for-crm.example"),
                ("COGNIGY_SOURCE_OWN_CRM_CRM_BASE_URL", "https://other.example"),
                ("COGNIGY_SOURCE_OWN_CRM_WEBHOOK_SECRET", "secret-of-own-crm"),
            ],
            "",
        )
        .unwrap();
        let shop = source(&settings, "shop");
        let missing = shop.webhook().unwrap_err().to_string();
        assert_eq!(missing, "COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET is required but not set");
        assert!(shop.crm.token.is_some(), "it asks the plain CRM");
        let own_crm = source(&settings, "own-crm");
        assert!(own_crm.webhook().unwrap().previous.is_none());
        assert!(own_crm.crm.token.is_none(), "the plain token is for another host");
    }

    #[test]
    fn tables_name_sources_unless_a_list_does() {
        let tables = "[sources.shop]\n[sources.support]\ncrm_timeout = \"1s\"";
        let (settings, warnings) = read(&[], tables).unwrap();
        let names: Vec<_> = settings.all().map(|source| source.name.to_string()).collect();
        assert_eq!(
            (names, warnings.len()),
            (vec!["cognigy".into(), "shop".into(), "support".into()], 0)
        );
        let (settings, warnings) = read(&[("COGNIGY_SOURCES", "shop")], tables).unwrap();
        assert_eq!(settings.all().count(), 2);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("sources.support is not used"), "{warnings:?}");
    }

    #[test]
    fn what_is_wrong_with_a_source_is_named_in_one_line() {
        let refused = |environment: &[(&str, &str)], file: &str| {
            let refused = read(environment, file).unwrap_err();
            assert!(!refused.contains('\n') && !refused.contains("marked"), "{refused}");
            refused
        };
        for list in ["Shop", "a b", "shop,shop", "cognigy", ",", "shop/x", &"x".repeat(65)] {
            let refused = refused(&[("COGNIGY_SOURCES", list)], "");
            assert!(refused.starts_with("COGNIGY_SOURCES: "), "{refused}");
        }
        let clash = refused(&[("COGNIGY_SOURCES", "a-b,a_b")], "");
        assert!(clash.contains("COGNIGY_SOURCE_A_B_"), "{clash}");
        let own = [("COGNIGY_SOURCES", "shop"), ("COGNIGY_SOURCE_SHOP_CRM_TIMEOUT", "soon")];
        assert!(refused(&own, "").starts_with("COGNIGY_SOURCE_SHOP_CRM_TIMEOUT: "));
        let inherited = [("COGNIGY_SOURCES", "shop"), ("CRM_TIMEOUT", "soon")];
        assert!(refused(&inherited, "").starts_with("CRM_TIMEOUT: "));
        let short = [("COGNIGY_SOURCES", "shop"), ("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET", "mark")];
        assert!(refused(&short, "").starts_with("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET: "));
        for (file, complaint) in [
            (
                "[sources.shop]\ncrm_timeoot = 1",
                "unknown key sources.shop.crm_timeoot: did you mean crm_timeout?",
            ),
            (
                "[sources.shop]\nlisten = \"marked\"",
                "sources.shop.listen: no source can have that for itself",
            ),
            ("[sources.Shop]\n", "sources.Shop: a source name is 1-64 characters"),
            ("[sources.cognigy]\n", "sources.cognigy: is the plain path's own source"),
            ("[sources]\nshop = \"marked\"", "sources.shop: expected a table"),
            ("[sources.shop]\ncrm_timeout = [1]", "sources.shop.crm_timeout: expected a string"),
        ] {
            let refused = refused(&[], file);
            assert!(refused.contains(complaint), "{refused}");
        }
    }

    #[test]
    fn a_variable_of_no_source_is_a_warning() {
        let (_, warnings) = read(
            &[
                ("COGNIGY_SOURCES", "shop"),
                ("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRETT", "marked"),
                ("COGNIGY_SOURCE_OTHER_SQS_DLQ_URL", "marked"),
                ("COGNIGY_SOURCE_SHOP_CRM_TIMEOUT", ""),
            ],
            "",
        )
        .unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("COGNIGY_SOURCE_OTHER_SQS_DLQ_URL: it is of no source"));
        assert!(warnings[1].ends_with("did you mean COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET?"));
    }

    #[test]
    fn debug_output_shows_no_source_s_secret() {
        let mut environment = vec![("COGNIGY_SOURCES".to_owned(), "shop".to_owned())];
        let shop: SourceName = "shop".parse().unwrap();
        for setting in SETTINGS.iter().filter(|setting| setting.secret && setting.per_source) {
            let marked = match setting.variable {
                "COGNIGY_FORWARD_URL" => "https://h.example/marked?token=marked",
                "COGNIGY_FORWARD_SECRET" => "whsec_markedmarkedmarkedmarked",
                _ => "marked-secret",
            };
            environment.push((setting.variable_of(&shop), marked.to_owned()));
        }
        assert!(environment.len() >= 4);
        let mut layers = Layers::default();
        layers.add_environment(environment.into_iter()).unwrap();
        let before = format!("{layers:?}");
        layers.name_sources().unwrap();
        let settings = Settings::read(&layers).unwrap();
        let shown = format!("{before} {layers:?} {settings:?}");
        assert!(shown.contains("shop") && !shown.contains("marked"), "{shown}");
        assert!(!shown.contains("109, 97, 114"), "{shown}");
    }
}
