//! What each setting is and where it comes from, for the console. Secrets are not in it.

use super::{
    Layers, outside,
    table::{SETTINGS, Setting},
};

/// A setting as it is in use.
#[derive(Debug, Clone)]
pub(crate) struct Effective {
    /// The name of its variable.
    pub(crate) variable: String,
    /// The source whose own setting it is. None for what is set for all.
    pub(crate) source: Option<String>,
    pub(crate) value: EffectiveValue,
    /// Where the value comes from, in words.
    pub(crate) origin: String,
    pub(crate) help: &'static str,
}

/// The value of a setting, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EffectiveValue {
    Unset,
    Shown(String),
    /// It is a secret, or may hold one.
    Hidden,
}

impl EffectiveValue {
    fn of(key: &str, value: &str) -> Self {
        // A URL may hold a password or a key. The refusal of a wrong setting hides the same.
        let may_hold_one = value.contains("://") && (value.contains('@') || value.contains('?'));
        match outside::is_secret(key, value) || key == "client_id" || may_hold_one {
            true => Self::Hidden,
            false => Self::Shown(value.to_owned()),
        }
    }
}

/// All settings in the order of their table, then each source's own.
pub(super) fn of(layers: &Layers) -> Vec<Effective> {
    let for_all = SETTINGS.iter().map(|setting| {
        let key = setting.key();
        let value = layers.value(&key);
        let origin = match value {
            Some(_) => layers.set_by(&key),
            None => "not set".to_owned(),
        };
        Effective {
            variable: setting.variable.to_owned(),
            source: None,
            value: value.map_or(EffectiveValue::Unset, |value| EffectiveValue::of(&key, value)),
            origin,
            help: setting.help,
        }
    });
    let of_sources = layers.sources.iter().flat_map(|(source, own)| {
        own.keyed().filter_map(move |(key, value, is_in_file)| {
            let setting = Setting::by_key(key)?;
            let variable = setting.variable_of(source);
            let origin = match is_in_file {
                true => format!("set by sources.{source}.{key} in the settings file"),
                false => format!("set by the variable {variable}"),
            };
            let value = EffectiveValue::of(key, value);
            let (source, help) = (Some(source.to_string()), setting.help);
            Some(Effective { variable, source, value, origin, help })
        })
    });
    for_all.chain(of_sources).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    #[test]
    fn each_value_has_an_origin_and_no_secret_is_shown() {
        let flags = [("lease".to_owned(), "7s".to_owned())];
        let mut layers = Layers::from_flags(flags.into());
        let variables = [
            ("COGNIGY_WEBHOOK_SECRET", "marked-secret"),
            ("COGNIGY_ADMIN_TOKEN", "marked-token"),
            ("COGNIGY_DATABASE_URL", "sqlite:events.db"),
            ("COGNIGY_SOURCES", "shop"),
            ("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET", "marked-secret-of-the-shop"),
            ("COGNIGY_SOURCE_SHOP_MAX_BODY_BYTES", "7"),
        ];
        layers.add_environment(variables.into_iter()).unwrap();
        layers.name_sources().unwrap();
        let settings = Settings::read(&layers).unwrap();
        let line = |variable: &str| {
            let found = settings.effective.iter().find(|it| it.variable == variable);
            let found = found.unwrap_or_else(|| panic!("{variable} is missing"));
            (found.value.clone(), found.origin.as_str())
        };
        let shown = |text: &str| EffectiveValue::Shown(text.to_owned());
        assert_eq!(line("COGNIGY_LEASE"), (shown("7s"), "set by the flag --lease"));
        let database = (shown("sqlite:events.db"), "set by the variable COGNIGY_DATABASE_URL");
        assert_eq!(line("COGNIGY_DATABASE_URL"), database);
        assert_eq!(line("COGNIGY_WORKER").1, "the default of COGNIGY_WORKER");
        assert_eq!(line("COGNIGY_TRUSTED_PROXIES").0, EffectiveValue::Unset);
        let own = line("COGNIGY_SOURCE_SHOP_MAX_BODY_BYTES");
        let origin = "set by the variable COGNIGY_SOURCE_SHOP_MAX_BODY_BYTES";
        assert_eq!(own, (shown("7"), origin));
        assert!(!format!("{:?}", settings.effective).contains("marked"));
        for url in ["postgres://user:password@host/events", "https://host/path?key=secret"] {
            assert_eq!(EffectiveValue::of("database_url", url), EffectiveValue::Hidden);
        }
    }
}
