//! The tables of a template, as they are written. [`CrmTemplate`](super::CrmTemplate) explains them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{
    Class, Rule, TemplateAuth,
    parts::{KeyRule, Method, Missing, Moved},
    rule::Reset,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTemplate {
    pub(super) name: Option<String>,
    pub(super) base_url: Option<String>,
    pub(super) external_id_field: Option<String>,
    #[serde(default)]
    pub(super) fields: Vec<String>,
    #[serde(default)]
    pub(super) variables: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) fold_case: bool,
    #[serde(default)]
    pub(super) auth: TemplateAuth,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) error_code: Option<String>,
    pub(super) look_up: Vec<RawLookUp>,
    #[serde(default)]
    pub(super) throttled: Vec<RawThrottled>,
    pub(super) batch: Option<RawBatch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLookUp {
    #[serde(default)]
    pub(super) method: Method,
    pub(super) path: String,
    #[serde(default)]
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: Option<Value>,
    #[serde(default)]
    pub(super) key: KeyRule,
    pub(super) found: RawFound,
    #[serde(default)]
    pub(super) absent: Vec<Rule>,
    #[serde(default)]
    pub(super) ambiguous: Vec<Rule>,
    pub(super) moved: Option<Moved>,
    pub(super) confirm: Option<RawConfirm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFound {
    pub(super) status: Option<Vec<u16>>,
    #[serde(default)]
    pub(super) pointer: String,
    pub(super) verify: Option<String>,
    #[serde(default)]
    pub(super) unverified: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfirm {
    pub(super) path: String,
    #[serde(default)]
    pub(super) query: BTreeMap<String, String>,
    pub(super) id: String,
    #[serde(default)]
    pub(super) pointer: String,
    pub(super) verify: String,
    pub(super) most: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawThrottled {
    pub(super) status: Vec<u16>,
    pub(super) pointer: Option<String>,
    pub(super) header: Option<String>,
    pub(super) equals: Option<String>,
    pub(super) starts_with: Option<String>,
    pub(super) contains: Option<String>,
    #[serde(default)]
    pub(super) class: Class,
    pub(super) reset: Option<Reset>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBatch {
    pub(super) most: usize,
    #[serde(default)]
    pub(super) method: Method,
    pub(super) path: String,
    #[serde(default)]
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: Option<Value>,
    pub(super) separator: Option<String>,
    #[serde(default)]
    pub(super) key: KeyRule,
    pub(super) found: RawFound,
    pub(super) complete: Option<Rule>,
    pub(super) missing: Missing,
}
