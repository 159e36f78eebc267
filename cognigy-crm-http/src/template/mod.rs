//! [`CrmTemplate`]: a CRM as data. What is asked, how the answers are read, what each error means.

mod compile;
mod escape;
mod parts;
mod preset;
mod raw;
mod rule;
mod text;

use std::collections::BTreeMap;

use serde::Deserialize;

pub(crate) use parts::{Batch, Confirm, Found, LookUp, Method as RequestMethod, Request};
pub use preset::{CrmPreset, UnknownPreset};
pub(crate) use rule::{Class, Rule, Throttled};
pub(crate) use text::{Names, Place, Text, Values};

use crate::AuthKind;

/// How a CRM is asked for a contact by its external id, as a table. The [presets](CrmPreset) are
/// such tables; the files in `presets/` beside this crate's sources are the best examples.
///
/// ```
/// use cognigy_crm_http::CrmTemplate;
///
/// # fn main() -> Result<(), cognigy_crm_http::TemplateError> {
/// let template = CrmTemplate::from_toml(
///     r#"
///     base_url = "https://crm.example"       # may be left out; then a setting has to name it
///     external_id_field = "external_id"      # likewise
///     fields = ["email", "name"]
///     error_code = "/error/code"             # shown in failures
///
///     [variables]                            # {version} in texts; can be set apart
///     version = "v1"
///
///     [headers]
///     Accept = "application/json"
///
///     [auth]
///     kind = "bearer"
///
///     [[look_up]]                            # the first one that can express the key is used
///     path = "/{version}/people"
///     query = { key = "{external_id}", fields = "{fields}" }
///     found = { pointer = "/data", verify = "/{external_id_field}" }
///     absent = [{ status = [404], pointer = "/error/code", equals = "NO_SUCH_PERSON" }]
///
///     [[throttled]]
///     status = [403]
///     pointer = "/error/code"
///     equals = "DAILY_LIMIT"
///     class = "quota"
///     "#,
/// )?;
/// # Ok(())
/// # }
/// ```
///
/// # Texts
///
/// `path`, `query`, `body`, `headers` and pointers may hold placeholders: `{external_id}` is the
/// contact key, `{external_id_field}` and `{fields}` are the names of fields, `{record_id}` is the
/// CRM's id of a candidate (in `confirm`), and any other name is one of `variables`. Values are
/// encoded for the place they stand in. Where other text surrounds the key, its placeholder names the
/// language of that text, so that the key is escaped for it as well: `{external_id|odata}`,
/// `{external_id|soql}`, `{external_id|criteria}` (Zoho), or `{external_id|plain}`.
///
/// # Look-ups
///
/// `key` says which keys a look-up can express: `without` lists characters, `ascii = true` allows
/// printable ASCII only, `max_chars` limits the length. A key that no look-up can express is a
/// permanent failure. A key that would become an empty path segment, `.` or `..` is never put into a
/// path.
///
/// `found` has the `status` of such answers (200 unless given), the `pointer` to the record or to the
/// list of records, and `verify`, the place of the external id in a record. A record whose external
/// id is another one is not a match. With `fold_case = true`, upper and lower case are the same. One
/// match in a list is the contact, no match means that there is none, and several are ambiguous.
/// A record that lacks the place of its external id is a permanent failure: the field is misnamed.
/// `unverified = true` instead of `verify` believes every record.
///
/// `absent` and `ambiguous` are lists of rules for other answers with these meanings. `moved`
/// (`status`, `rel`) names answers whose `Link` header leads to the record that another one was
/// merged into. It is asked for once, on the same host only, and believed. `confirm` (`path`,
/// `query`, `id`, `pointer`, `verify`, `most`) asks for each record of the list again, where the
/// list does not hold the external id.
///
/// A rule has `status` (a list), and may have `pointer` or `header` with `equals`, `starts_with`,
/// `contains`, `is` (`empty` or `missing`) or `min_items`.
///
/// Everything else keeps its usual meaning: 429 and 503 say that the whole CRM takes no requests, 408,
/// 425, 409, 423 and other 5xx are transient, and the rest, a 404 among it, is permanent.
///
/// # Batches
///
/// `batch` says how many contacts are asked for in one request: `most`, the keys it can express
/// (`key`), the request, `separator` between keys in a text, `found`, `complete` (a rule for answers
/// that hold everything), and `missing`: `none` if a key that is missing in a complete answer is
/// unknown, or `ask` to look it up alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "raw::RawTemplate")]
pub struct CrmTemplate {
    pub(crate) name: String,
    pub(crate) base_url: Option<String>,
    pub(crate) external_id_field: Option<String>,
    pub(crate) fields: Vec<String>,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) fold_case: bool,
    pub(crate) auth: TemplateAuth,
    pub(crate) headers: Vec<(String, Text)>,
    pub(crate) error_code: Option<String>,
    pub(crate) look_ups: Vec<LookUp>,
    pub(crate) throttled: Vec<Throttled>,
    pub(crate) batch: Option<Batch>,
}

impl CrmTemplate {
    /// Reads a template from a TOML document.
    ///
    /// # Errors
    /// Names the key that cannot be used, and why.
    pub fn from_toml(text: &str) -> Result<Self, TemplateError> {
        let raw: raw::RawTemplate = toml::from_str(text)
            .map_err(|error| TemplateError::new("the template", error.message().trim()))?;
        Self::try_from(raw)
    }

    /// What the template is called in failures and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The base URL that is used unless another one is set.
    #[must_use]
    pub fn default_base_url(&self) -> Option<&str> {
        self.base_url.as_deref()
    }

    /// The field with the external id that is used unless another one is set.
    #[must_use]
    pub fn default_external_id_field(&self) -> Option<&str> {
        self.external_id_field.as_deref()
    }

    /// The fields that are asked for unless others are set.
    #[must_use]
    pub fn default_fields(&self) -> &[String] {
        &self.fields
    }

    /// The way of authentication that is used unless another one is set.
    #[must_use]
    pub fn default_auth(&self) -> AuthKind {
        self.auth.kind
    }

    /// Whether the external id can be in another field than the default one.
    #[must_use]
    pub fn external_id_field_can_change(&self) -> bool {
        self.look_ups.iter().any(LookUp::names_field)
    }
}

/// How a template authenticates unless settings say otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TemplateAuth {
    pub(crate) kind: AuthKind,
    /// The word before a bearer token.
    pub(crate) scheme: String,
    /// The header of a token that is shown as it is.
    pub(crate) header: String,
    /// Where OAuth tokens are fetched: a URL, or a path below the base URL.
    pub(crate) token_url: Option<String>,
    /// The scope that is asked for; `{base_url}` stands for the base URL.
    pub(crate) scope: Option<String>,
    /// Whether client id and secret are sent as Basic credentials rather than in the form.
    pub(crate) client_basic: bool,
}

impl Default for TemplateAuth {
    fn default() -> Self {
        Self {
            kind: AuthKind::Bearer,
            scheme: "Bearer".to_owned(),
            header: "X-API-Key".to_owned(),
            token_url: None,
            scope: None,
            client_basic: false,
        }
    }
}

/// A template cannot be used.
///
/// ```
/// use cognigy_crm_http::CrmTemplate;
///
/// let error = CrmTemplate::from_toml("nmae = \"acme\"").unwrap_err();
/// assert!(error.to_string().contains("nmae"), "{error}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {problem}")]
pub struct TemplateError {
    key: String,
    problem: String,
}

impl TemplateError {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }

    /// The key in the template, as in `look_up[0].path`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Whether `name` can be the name of a field or the value of a variable. Such names stand in URLs and
/// in the CRMs' languages, and these characters mean the same in all of them.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let dots_only = name.chars().all(|c| c == '.');
    if name.is_empty() || dots_only || name.len() > 200 || !name.chars().all(plain) {
        return Err("must be 1 to 200 letters, digits, `_`, `-` or `.`".to_owned());
    }
    Ok(())
}

fn check_pointer(pointer: &str) -> Result<(), String> {
    if pointer.is_empty() || pointer.starts_with('/') {
        return Ok(());
    }
    Err("must be a JSON pointer: empty, or beginning with `/`".to_owned())
}
