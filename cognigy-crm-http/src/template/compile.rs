//! From a table to a checked template.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::header::HeaderName;
use serde_json::Value;

use super::{
    CrmTemplate, Place, TemplateAuth, TemplateError, Text, Throttled, check_name, check_pointer,
    parts::{Batch, Confirm, Found, LookUp, Method, Request},
    raw::{RawBatch, RawConfirm, RawFound, RawLookUp, RawTemplate, RawThrottled},
    rule::Rule,
    text::Body,
};

type Checked<T> = Result<T, TemplateError>;

/// So many candidates are confirmed, unless the template says otherwise.
const CONFIRMED: usize = 10;

impl TryFrom<RawTemplate> for CrmTemplate {
    type Error = TemplateError;

    fn try_from(raw: RawTemplate) -> Checked<Self> {
        let refuse = |key: String, why: String| TemplateError::new(key, why);
        for field in raw.fields.iter().chain(&raw.external_id_field) {
            check_name(field)
                .map_err(|why| refuse(format!("the field `{}`", field.escape_debug()), why))?;
        }
        for (name, value) in &raw.variables {
            check_name(value).map_err(|why| refuse(format!("variables.{name}"), why))?;
        }
        if let Some(pointer) = &raw.error_code {
            check_pointer(pointer).map_err(|why| refuse("error_code".to_owned(), why))?;
        }
        check_auth(&raw.auth)?;
        if raw.look_up.is_empty() {
            return Err(TemplateError::new("look_up", "is missing: nothing would be asked"));
        }
        let mut headers = Vec::new();
        for (name, text) in raw.headers {
            let key = format!("headers.{name}");
            if HeaderName::try_from(&name).is_err() {
                return Err(TemplateError::new(key, "is not the name of a header"));
            }
            if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
                return Err(TemplateError::new(key, "must be visible ASCII characters"));
            }
            headers.push((name, parse(&key, &text, Place::Header)?));
        }
        let look_ups = raw.look_up.into_iter().enumerate();
        let template = Self {
            name: raw.name.unwrap_or_else(|| "template".to_owned()),
            base_url: raw.base_url,
            external_id_field: raw.external_id_field,
            fields: raw.fields,
            variables: raw.variables,
            fold_case: raw.fold_case,
            auth: raw.auth,
            headers,
            error_code: raw.error_code,
            look_ups: look_ups
                .map(|(n, raw)| look_up(&format!("look_up[{n}]"), raw))
                .collect::<Result<_, _>>()?,
            throttled: raw
                .throttled
                .into_iter()
                .enumerate()
                .map(|(n, raw)| throttled(&format!("throttled[{n}]"), raw))
                .collect::<Result<_, _>>()?,
            batch: raw.batch.map(batch).transpose()?,
        };
        template.check_variables()?;
        Ok(template)
    }
}

impl CrmTemplate {
    /// Every name in braces must be known, or a misspelt one would vanish from a request.
    fn check_variables(&self) -> Checked<()> {
        let mut texts: Vec<&Text> = self.headers.iter().map(|(_, text)| text).collect();
        for look_up in &self.look_ups {
            texts.extend(look_up.request.texts());
            texts.extend(look_up.found.texts());
            if let Some(confirm) = &look_up.confirm {
                texts.extend(confirm.request.texts().chain(confirm.found.texts()));
                texts.push(&confirm.id);
            }
        }
        if let Some(batch) = &self.batch {
            texts.extend(batch.request.texts().chain(batch.found.texts()));
        }
        let named: BTreeSet<_> = texts.iter().flat_map(|text| text.variables()).collect();
        match named.into_iter().find(|name| !self.variables.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(TemplateError::new(
                format!("{{{}}}", name.escape_debug()),
                "is no placeholder and not one of `variables`",
            )),
        }
    }
}

fn check_auth(auth: &TemplateAuth) -> Checked<()> {
    if HeaderName::try_from(&auth.header).is_err() {
        return Err(TemplateError::new("auth.header", "is not the name of a header"));
    }
    if auth.scheme.is_empty() || !auth.scheme.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TemplateError::new("auth.scheme", "must be one word"));
    }
    Ok(())
}

fn parse(key: &str, text: &str, place: Place) -> Checked<Text> {
    Text::parse(text, place).map_err(|why| TemplateError::new(key, why))
}

fn pointer(key: &str, text: &str) -> Checked<Text> {
    check_pointer(text).map_err(|why| TemplateError::new(key, why))?;
    parse(key, text, Place::Pointer)
}

fn request(
    key: &str,
    method: Method,
    path: &str,
    query: BTreeMap<String, String>,
    body: Option<Value>,
) -> Checked<Request> {
    let at = format!("{key}.path");
    if !path.starts_with('/')
        || !path.chars().all(|c| c.is_ascii_graphic())
        || path.contains(['?', '#', '\\'])
    {
        return Err(TemplateError::new(
            at,
            "must begin with `/` and hold no blank, `?`, `#` or `\\`",
        ));
    }
    if path.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(TemplateError::new(at, "must hold no empty segment, `.` or `..`"));
    }
    let path = parse(&at, path, Place::Path)?;
    if !path.is_url_path() {
        return Err(TemplateError::new(at, "holds a character that has to be percent-encoded"));
    }
    let mut texts = Vec::new();
    for (name, text) in query {
        let at = format!("{key}.query.{name}");
        if name.is_empty()
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || "$_-.[]{}".contains(c))
        {
            return Err(TemplateError::new(at, "is not the name of a parameter"));
        }
        texts.push((parse(&at, &name, Place::Header)?, parse(&at, &text, Place::Query)?));
    }
    if body.is_some() && method == Method::Get {
        return Err(TemplateError::new(format!("{key}.body"), "needs `method = \"POST\"`"));
    }
    let body = body.as_ref().map(Body::parse).transpose();
    let body = body.map_err(|why| TemplateError::new(format!("{key}.body"), why))?;
    Ok(Request { method, path, query: texts, body })
}

fn found(key: &str, raw: RawFound, verified_later: bool) -> Checked<Found> {
    let status = raw.status.unwrap_or_else(|| vec![200]);
    if status.is_empty() {
        return Err(TemplateError::new(format!("{key}.status"), "must name at least one status"));
    }
    let verify = match (raw.verify, raw.unverified, verified_later) {
        (Some(text), false, false) => Some(pointer(&format!("{key}.verify"), &text)?),
        (None, true, false) | (None, false, true) => None,
        (None, false, false) => {
            let why = "is missing: it is the pointer to the external id in a record";
            return Err(TemplateError::new(format!("{key}.verify"), why));
        }
        _ => {
            let why = "is given twice: by `verify`, `unverified` and `confirm`, one counts";
            return Err(TemplateError::new(format!("{key}.verify"), why));
        }
    };
    let pointer = pointer(&format!("{key}.pointer"), &raw.pointer)?;
    Ok(Found { status, pointer, verify })
}

fn look_up(key: &str, raw: RawLookUp) -> Checked<LookUp> {
    let request = request(key, raw.method, &raw.path, raw.query, raw.body)?;
    if !request.texts().any(Text::holds_key) {
        return Err(TemplateError::new(
            key,
            "does not hold {external_id}: it would not ask for the contact",
        ));
    }
    if request.texts().any(Text::holds_record_id) {
        return Err(TemplateError::new(key, "cannot hold {record_id}, which only `confirm` knows"));
    }
    for (name, rules) in [("absent", &raw.absent), ("ambiguous", &raw.ambiguous)] {
        for (n, rule) in rules.iter().enumerate() {
            rule.check(&format!("{key}.{name}[{n}]"))?;
        }
    }
    let confirm = raw.confirm.map(|raw| confirm(&format!("{key}.confirm"), raw)).transpose()?;
    Ok(LookUp {
        found: found(&format!("{key}.found"), raw.found, confirm.is_some())?,
        request,
        key: raw.key,
        absent: raw.absent,
        ambiguous: raw.ambiguous,
        moved: raw.moved,
        confirm,
    })
}

fn confirm(key: &str, raw: RawConfirm) -> Checked<Confirm> {
    let request = request(key, Method::Get, &raw.path, raw.query, None)?;
    if !request.texts().any(Text::holds_record_id) {
        return Err(TemplateError::new(key, "does not hold {record_id}"));
    }
    let most = raw.most.unwrap_or(CONFIRMED);
    if most == 0 {
        return Err(TemplateError::new(format!("{key}.most"), "must be at least 1"));
    }
    let checked = RawFound {
        status: None,
        pointer: raw.pointer,
        verify: Some(raw.verify),
        unverified: false,
    };
    Ok(Confirm {
        request,
        id: pointer(&format!("{key}.id"), &raw.id)?,
        found: found(key, checked, false)?,
        most,
    })
}

fn throttled(key: &str, raw: RawThrottled) -> Checked<Throttled> {
    let RawThrottled { status, pointer, header, equals, starts_with, contains, class, reset } = raw;
    let rule = Rule::about(status, pointer, header, [equals, starts_with, contains]);
    rule.check(key)?;
    if let Some(reset) = &reset {
        reset.check(&format!("{key}.reset"))?;
    }
    Ok(Throttled { rule, class, reset })
}

fn batch(raw: RawBatch) -> Checked<Batch> {
    let key = "batch";
    let request = request(key, raw.method, &raw.path, raw.query, raw.body)?;
    if !request.texts().any(Text::holds_key) {
        return Err(TemplateError::new(key, "does not hold {external_id}"));
    }
    if raw.most < 2 {
        return Err(TemplateError::new("batch.most", "must be at least 2"));
    }
    if raw.found.unverified {
        return Err(TemplateError::new("batch.found.verify", "is missing: it tells records apart"));
    }
    if let Some(rule) = &raw.complete {
        rule.check("batch.complete")?;
    }
    Ok(Batch {
        most: raw.most,
        request,
        separator: raw.separator.unwrap_or_else(|| ",".to_owned()),
        key: raw.key,
        found: found("batch.found", raw.found, false)?,
        complete: raw.complete,
        missing: raw.missing,
    })
}
