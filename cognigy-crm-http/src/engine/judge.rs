//! What an answer means. Pure: no I/O, and the time is a parameter.

use std::time::SystemTime;

use bytes::Bytes;
use cognigy_core::Contact;
use cognigy_http::retry_after;
use reqwest::{
    StatusCode,
    header::{HeaderMap, LINK},
};

use super::CrmError;
use crate::{
    json::Json,
    template::{CrmTemplate, Found, LookUp, Names, Place, Rule, Text, Values},
};

/// The longest code of an error that a message repeats, in bytes.
const CODE_BYTES: usize = 60;

/// An answer, read to its end or as far as it is wanted.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What an answer to a look-up says.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Contact(Contact),
    NoContact,
    /// The CRM's own ids of records that might be the contact.
    Candidates(Vec<String>),
    /// The record was merged into the one at this link.
    Moved(String),
}

/// The external id of a record.
enum Id {
    Known(String),
    None,
    /// The template does not say where it is.
    Believed,
}

/// The template and the names it is used with.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub(crate) template: &'a CrmTemplate,
    pub(crate) names: &'a Names,
    pub(crate) fold_case: bool,
    pub(crate) now: SystemTime,
}

impl Judge<'_> {
    /// The verdict on the first answer to a look-up of `key`.
    pub(crate) fn look_up(
        &self,
        look_up: &LookUp,
        key: &str,
        reply: &Reply,
    ) -> Result<Verdict, CrmError> {
        self.check_throttle(key, reply)?;
        let told = |rules: &[Rule]| rules.iter().any(|rule| self.matches(rule, reply));
        if told(&look_up.absent) {
            return Ok(Verdict::NoContact);
        }
        if told(&look_up.ambiguous) {
            return Err(CrmError::Ambiguous(None, None));
        }
        let status = reply.status.as_u16();
        if let Some(moved) = look_up.moved.as_ref().filter(|it| it.status.contains(&status)) {
            let link = link(&reply.headers, &moved.rel);
            return link.map(Verdict::Moved).ok_or(CrmError::NoLink);
        }
        if let Some(confirm) = &look_up.confirm {
            let ids = self.records(&look_up.found, key, reply, |records| {
                if records.len() > confirm.most {
                    return Err(CrmError::TooManyCandidates(confirm.most));
                }
                let id = self.render(&confirm.id);
                let ids = records.iter().map(|it| it.at(&id).and_then(Json::scalar));
                ids.collect::<Option<Vec<_>>>().ok_or(CrmError::NoRecordId)
            })?;
            return Ok(if ids.is_empty() { Verdict::NoContact } else { Verdict::Candidates(ids) });
        }
        self.one_of(&look_up.found, key, reply)
    }

    /// The records of an answer whose external id is `key`: none, the contact, or several.
    pub(crate) fn one_of(
        &self,
        found: &Found,
        key: &str,
        reply: &Reply,
    ) -> Result<Verdict, CrmError> {
        let matches = self.records(found, key, reply, |records| {
            let ids = self.external_ids(found, &records)?;
            self.with_id(key, &ids, &records)
        })?;
        one(matches)
    }

    /// The record of an answer, believed whatever its external id: the CRM's link led to it.
    pub(crate) fn believed(
        &self,
        found: &Found,
        key: &str,
        reply: &Reply,
    ) -> Result<Verdict, CrmError> {
        self.check_throttle(key, reply)?;
        one(self.records(found, key, reply, |records| records.iter().map(contact).collect())?)
    }

    /// For each of `keys`, the matching records of an answer to a batch.
    pub(crate) fn batch(
        &self,
        found: &Found,
        keys: &[&str],
        reply: &Reply,
    ) -> Result<Vec<Result<Verdict, CrmError>>, CrmError> {
        self.check_throttle("", reply)?;
        if reply.status == StatusCode::NO_CONTENT && found.status.contains(&204) {
            return Ok(keys.iter().map(|_| Ok(Verdict::NoContact)).collect());
        }
        self.records(found, "", reply, |records| {
            let ids = self.external_ids(found, &records)?;
            Ok(keys.iter().map(|key| one(self.with_id(key, &ids, &records)?)).collect())
        })
    }

    pub(crate) fn matches(&self, rule: &Rule, reply: &Reply) -> bool {
        let text = text(reply).ok();
        let json = text.and_then(|text| Json::parse(text).ok());
        rule.matches(reply.status.as_u16(), &reply.headers, json)
    }

    /// Fails where a rule says that the CRM takes no requests.
    pub(crate) fn check_throttle(&self, key: &str, reply: &Reply) -> Result<(), CrmError> {
        let rules = &self.template.throttled;
        let Some(throttled) = rules.iter().find(|it| self.matches(&it.rule, reply)) else {
            return Ok(());
        };
        let reset = || throttled.reset.as_ref()?.wait(&reply.headers, self.now);
        let wait = retry_after(&reply.headers, self.now).or_else(reset);
        let (class, status) = (throttled.class, reply.status);
        Err(CrmError::Throttled { class, status, code: self.code(key, reply), retry_after: wait })
    }

    fn records<T>(
        &self,
        found: &Found,
        key: &str,
        reply: &Reply,
        read: impl FnOnce(Vec<Json<'_>>) -> Result<T, CrmError>,
    ) -> Result<T, CrmError> {
        if !found.status.contains(&reply.status.as_u16()) {
            let wait = retry_after(&reply.headers, self.now);
            return Err(CrmError::of_status(reply.status, self.code(key, reply), wait));
        }
        let json =
            Json::parse(text(reply)?).map_err(|error| CrmError::NotJson(error.to_string()))?;
        let place = json.at(&self.render(&found.pointer)).ok_or(CrmError::NoRecord)?;
        match place.items() {
            Some(records) => read(records),
            None if place.is_object() => read(vec![place]),
            None => Err(CrmError::NoRecord),
        }
    }

    /// The external id of each record.
    fn external_ids(&self, found: &Found, records: &[Json<'_>]) -> Result<Vec<Id>, CrmError> {
        let pointer = found.verify.as_ref().map(|verify| self.render(verify));
        let id = |record: &Json<'_>| {
            if !record.is_object() {
                return Err(CrmError::NoRecord);
            }
            let Some(pointer) = &pointer else { return Ok(Id::Believed) };
            match record.at(pointer).ok_or(CrmError::NoExternalId)? {
                // The record of a contact without an external id.
                id if id.is_null() => Ok(Id::None),
                id => id.scalar().map(Id::Known).ok_or(CrmError::NoExternalId),
            }
        };
        records.iter().map(id).collect()
    }

    fn with_id(
        &self,
        key: &str,
        ids: &[Id],
        records: &[Json<'_>],
    ) -> Result<Vec<Contact>, CrmError> {
        let records = ids.iter().zip(records).filter(|(id, _)| match id {
            Id::Believed => true,
            Id::None => false,
            Id::Known(id) => self.is_key(key, id),
        });
        records.map(|(_, record)| contact(record)).collect()
    }

    fn is_key(&self, key: &str, id: &str) -> bool {
        id == key || (self.fold_case && id.to_lowercase() == key.to_lowercase())
    }

    fn render(&self, pointer: &Text) -> String {
        pointer.render(Place::Pointer, Values::new(self.names, &[]))
    }

    /// The CRM's code for an error, if it looks like a code and is not what was asked for.
    fn code(&self, key: &str, reply: &Reply) -> Option<String> {
        let json = Json::parse(text(reply).ok()?).ok()?;
        let code = json.at(self.template.error_code.as_ref()?)?.scalar()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let is_code = (1..=CODE_BYTES).contains(&code.len()) && code.chars().all(plain);
        (is_code && (key.is_empty() || !code.contains(key))).then_some(code)
    }
}

fn one(mut contacts: Vec<Contact>) -> Result<Verdict, CrmError> {
    match contacts.len() {
        0 => Ok(Verdict::NoContact),
        1 => Ok(Verdict::Contact(contacts.remove(0))),
        count => Err(CrmError::Ambiguous(Some(count), Some(contacts.remove(0)))),
    }
}

fn contact(record: &Json<'_>) -> Result<Contact, CrmError> {
    Contact::from_json(record.text()).map_err(|error| CrmError::NotJson(error.to_string()))
}

fn text(reply: &Reply) -> Result<&str, CrmError> {
    let text = std::str::from_utf8(&reply.body).map_err(|_| CrmError::NotUtf8)?;
    // Some servers put a byte order mark first; RFC 8259, section 8.1, lets a reader skip it.
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The target with the relation `rel` in the `Link` headers (RFC 8288).
fn link(headers: &HeaderMap, rel: &str) -> Option<String> {
    let values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split('<').skip(1)).find_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        let mut parameters = parameters.split([';', ',']).filter_map(|it| it.split_once('='));
        let has_rel = parameters.any(|(name, value)| {
            let rels = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && rels.split(' ').any(|it| it.eq_ignore_ascii_case(rel))
        });
        has_rel.then(|| target.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_link_is_found_by_its_relation() {
        let link = |value: &'static str| {
            link(&HeaderMap::from_iter([(LINK, value.parse().unwrap())]), "canonical")
        };
        let found = Some("/contacts/1".to_owned());
        assert_eq!(link("</contacts/1>; rel=\"canonical\""), found);
        assert_eq!(link("</contacts/1>;rel=canonical"), found);
        assert_eq!(
            link("</a>; rel=\"next\", </contacts/1>; title=\"a\"; REL=\"x canonical\""),
            found
        );
        for none in ["", "/contacts/1", "</contacts/1>", "</contacts/1>; rel=\"next\"", "</a"] {
            assert_eq!(link(none), None, "{none}");
        }
    }
}
