//! The operators: who may use the operator API, and what each of them may do.
//!
//! `COGNIGY_ADMIN_TOKEN` is the token of the operator `admin`, who may do everything. Each further
//! operator has a variable `COGNIGY_OPERATOR_{NAME}_TOKEN`, and one with the role, or a table
//! `[operators.NAME]` in the file.

use std::collections::BTreeMap;

pub(crate) use cognigy_operator::Role;

use super::{
    Hidden, Layers, SettingError,
    layers::{Values, scalar},
    outside, parse,
};

/// The beginning of the variables of all operators.
const PREFIX: &str = "COGNIGY_OPERATOR_";
const TOKEN: &str = "_TOKEN";
const ROLE: &str = "_ROLE";

/// The operator with the token in `COGNIGY_ADMIN_TOKEN`.
pub(super) const ADMIN: &str = "admin";

/// An operator, as set.
#[derive(Debug, Clone)]
pub(crate) struct OperatorSettings {
    /// In lower case.
    pub(crate) name: String,
    pub(crate) token: Hidden,
    pub(crate) role: Role,
}

/// Reads a role, as [`Role::as_str`] writes it.
fn role(text: &str) -> Result<Role, String> {
    let known = Role::ALL.into_iter().find(|role| role.as_str() == text);
    known.ok_or_else(|| format!("expected reader, \"reader,bodies\" or operator, got {text:?}"))
}

/// Whether a variable belongs to an operator.
pub(super) fn is_variable(variable: &str) -> bool {
    name_of(variable).is_some()
}

/// The operator's part of `COGNIGY_OPERATOR_{NAME}_TOKEN` and `…_ROLE`.
fn name_of(variable: &str) -> Option<&str> {
    let rest = variable.strip_prefix(PREFIX)?;
    let name = rest.strip_suffix(TOKEN).or_else(|| rest.strip_suffix(ROLE))?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    Some(name).filter(|name| !name.is_empty() && name.chars().all(fits))
}

/// Reads the file's tables of operators, as the variables that would say the same.
pub(super) fn tables(tables: toml::Value) -> Result<Values, String> {
    let expected = || "operators: expected a table for each operator".to_owned();
    let toml::Value::Table(tables) = tables else { return Err(expected()) };
    let mut values = Values::new();
    for (name, table) in tables {
        let toml::Value::Table(table) = table else { return Err(expected()) };
        for (key, value) in table {
            let place = format!("operators.{name}.{key}");
            let end = match key.as_str() {
                "token" => TOKEN,
                "role" => ROLE,
                _ => return Err(format!("unknown key {place}")),
            };
            let upper = name.to_ascii_uppercase().replace('-', "_");
            let variable = format!("{PREFIX}{upper}{end}");
            if !is_variable(&variable) {
                return Err(format!("operators.{name}: expected a name of letters and digits"));
            }
            values.insert(variable, scalar(&place, value)?);
        }
    }
    Ok(values)
}

/// The settings of all operators, the administrator's first.
pub(super) fn read(layers: &Layers) -> Result<Vec<OperatorSettings>, SettingError> {
    let mut operators = Vec::new();
    let admin = "COGNIGY_ADMIN_TOKEN".to_owned();
    if let Some(token) = layers.optional("admin_token", parse::admin_token)? {
        operators
            .push((admin, OperatorSettings { name: ADMIN.into(), token, role: Role::Operator }));
    }
    // The environment's values take the place of the file's.
    let values: BTreeMap<&String, &Hidden> =
        layers.operators_file.iter().chain(&layers.operators_environment).collect();
    let names: std::collections::BTreeSet<_> =
        values.keys().filter_map(|variable| name_of(variable)).collect();
    for own in names {
        let variable = format!("{PREFIX}{own}{TOKEN}");
        let name = own.to_ascii_lowercase();
        let token =
            values.get(&variable).ok_or_else(|| SettingError::missing_variable(&variable))?;
        let wrong = |variable: &str, why: String| SettingError(format!("{variable}: {why}"));
        if name == ADMIN {
            let why = "the operator admin has the token in COGNIGY_ADMIN_TOKEN: use another name";
            return Err(wrong(&variable, why.to_owned()));
        }
        outside::no_white_space_at_ends(token.as_str()).map_err(|why| wrong(&variable, why))?;
        let token = parse::admin_token(token.as_str()).map_err(|why| wrong(&variable, why))?;
        let role_variable = format!("{PREFIX}{own}{ROLE}");
        let role = match values.get(&role_variable) {
            Some(role) => self::role(role.as_str()).map_err(|why| wrong(&role_variable, why))?,
            // An operator without a role set is a reader, who may change nothing.
            None => Role::Reader,
        };
        let same = |(_, other): &&(String, OperatorSettings)| {
            other.token.as_str() == token.as_str() || other.name == name
        };
        if let Some((other, it)) = operators.iter().find(same) {
            let why = match it.name == name {
                true => format!("names the same operator as {other}"),
                false => {
                    format!("is the token in {other} too: each operator needs one of their own")
                }
            };
            return Err(wrong(&variable, why));
        }
        operators.push((variable, OperatorSettings { name, token, role }));
    }
    Ok(operators.into_iter().map(|(_, operator)| operator).collect())
}

#[cfg(test)]
mod tests {
    use super::{super::Settings, *};

    fn read(environment: &[(&str, &str)]) -> Result<Vec<(String, Role)>, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut layers = Layers::default();
        let warnings = layers.add_environment(environment.iter().map(own)).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let settings = Settings::read(&layers).map_err(|error| error.to_string())?;
        assert!(!format!("{settings:?} {layers:?}").contains("marked"), "a token is shown");
        Ok(settings.operators.into_iter().map(|it| (it.name, it.role)).collect())
    }

    #[test]
    fn operators_have_names_and_roles_and_the_default_is_to_read() {
        let operators = read(&[
            ("COGNIGY_OPERATOR_ANNA_ROLE", "operator"),
            ("COGNIGY_OPERATOR_ANNA_TOKEN", "marked-anna"),
            ("COGNIGY_OPERATOR_NIGHT_SHIFT_TOKEN", "marked-night"),
            ("COGNIGY_OPERATOR_AUDIT_TOKEN", "marked-audit"),
            ("COGNIGY_OPERATOR_AUDIT_ROLE", "reader,bodies"),
            ("COGNIGY_ADMIN_TOKEN", "marked-admin"),
        ]);
        let expected = [
            ("admin", Role::Operator),
            ("anna", Role::Operator),
            ("audit", Role::ReaderOfBodies),
            ("night_shift", Role::Reader),
        ];
        assert_eq!(operators.unwrap(), expected.map(|(name, role)| (name.to_owned(), role)));
    }

    #[test]
    fn what_is_wrong_with_an_operator_is_named_and_no_token_is_shown() {
        let token = ("COGNIGY_OPERATOR_ANNA_TOKEN", "marked-anna");
        for (environment, variable) in [
            (vec![token, ("COGNIGY_OPERATOR_ANNA_ROLE", "root")], "COGNIGY_OPERATOR_ANNA_ROLE"),
            (vec![token, ("COGNIGY_OPERATOR_ANNA_ROLE", "Reader")], "COGNIGY_OPERATOR_ANNA_ROLE"),
            (vec![("COGNIGY_OPERATOR_ANNA_ROLE", "reader")], "COGNIGY_OPERATOR_ANNA_TOKEN"),
            (vec![("COGNIGY_OPERATOR_ANNA_TOKEN", "marked\n")], "COGNIGY_OPERATOR_ANNA_TOKEN"),
            (vec![("COGNIGY_OPERATOR_ADMIN_TOKEN", "marked")], "COGNIGY_OPERATOR_ADMIN_TOKEN"),
            (vec![token, ("COGNIGY_ADMIN_TOKEN", "marked-anna")], "COGNIGY_OPERATOR_ANNA_TOKEN"),
            (
                vec![token, ("COGNIGY_OPERATOR_BO_TOKEN", "marked-anna")],
                "COGNIGY_OPERATOR_BO_TOKEN",
            ),
        ] {
            let refused = read(&environment).unwrap_err();
            assert!(refused.starts_with(variable), "{refused}");
            assert!(!refused.contains("marked") && !refused.contains('\n'), "{refused}");
        }
    }

    #[test]
    fn the_file_names_operators_and_the_environment_beats_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cognigy.toml");
        let text = "[operators.night-shift]\ntoken = \"marked\"\nrole = \"operator\"";
        std::fs::write(&path, text).unwrap();
        let mut layers = Layers::default();
        layers.add_file(&path).unwrap();
        let role = ("COGNIGY_OPERATOR_NIGHT_SHIFT_ROLE", "reader");
        layers.add_environment([role].into_iter()).unwrap();
        let operators = Settings::read(&layers).unwrap().operators;
        assert_eq!((operators[0].name.as_str(), operators[0].role), ("night_shift", Role::Reader));
        std::fs::write(&path, "[operators.anna]\ntokn = \"marked\"").unwrap();
        let refused = Layers::default().add_file(&path).unwrap_err().to_string();
        assert!(refused.ends_with("unknown key operators.anna.tokn"), "{refused}");
    }
}
