//! The templates of well-known CRMs.

use std::{fmt, str::FromStr};

use super::{CrmTemplate, TemplateError};

/// A CRM whose template comes with this crate.
///
/// | preset | base URL | external id in | authentication | OAuth tokens from |
/// |---|---|---|---|---|
/// | `hubspot` | `https://api.hubapi.com` | to be set: a property with unique values | `bearer` | the base URL |
/// | `salesforce` | to be set: the My Domain URL | to be set | `bearer` | the base URL |
/// | `zendesk` | to be set | `external_id`, always | `basic`: `{email}/token:{key}` | the base URL |
/// | `dynamics` | to be set: the organization's URL | to be set: a column with an alternate key | `bearer` | to be set: it holds the tenant |
/// | `pipedrive` | `https://api.pipedrive.com` | to be set: the 40-digit key of a custom field | `header`: `x-api-token` | `https://oauth.pipedrive.com` |
/// | `freshdesk` | to be set | `unique_external_id` | `basic`: `{key}:X` | – |
/// | `intercom` | `https://api.intercom.io` | `external_id`, always | `bearer` | – |
/// | `zoho` | `https://www.zohoapis.com` | to be set | `bearer`, with the word `Zoho-oauthtoken` | `https://accounts.zoho.com` |
///
/// Some details could not be confirmed in the vendors' public documents; the templates mark them with
/// "unconfirmed". Check a preset against a tenant of your own before you rely on it, and override what
/// differs: by settings, or by a copy of the template.
///
/// ```
/// use cognigy_crm_http::{CrmPreset, TemplateCrm};
///
/// let preset: CrmPreset = "zendesk".parse()?;
/// let crm = TemplateCrm::builder(preset.template()?)
///     .base_url("https://example.zendesk.com")
///     .token("ada@example.com/token:a-key")
///     .build()?;
/// # let _ = crm;
///
/// // The template as text, to begin a template of your own with.
/// assert!(preset.as_toml().contains("external_id"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CrmPreset {
    /// HubSpot contacts, by a property with unique values.
    HubSpot,
    /// Salesforce contacts, by a field, with a SOQL query.
    Salesforce,
    /// Zendesk users, by their `external_id`.
    Zendesk,
    /// Contacts of Dynamics 365 (Dataverse), by an alternate key.
    Dynamics,
    /// Pipedrive persons, by a custom field.
    Pipedrive,
    /// Freshdesk contacts, by their `unique_external_id`.
    Freshdesk,
    /// Intercom contacts of the role "user", by their `external_id`.
    Intercom,
    /// Contacts of Zoho CRM, by an external field.
    Zoho,
}

impl CrmPreset {
    /// Every preset.
    pub const ALL: [Self; 8] = [
        Self::HubSpot,
        Self::Salesforce,
        Self::Zendesk,
        Self::Dynamics,
        Self::Pipedrive,
        Self::Freshdesk,
        Self::Intercom,
        Self::Zoho,
    ];

    /// The name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HubSpot => "hubspot",
            Self::Salesforce => "salesforce",
            Self::Zendesk => "zendesk",
            Self::Dynamics => "dynamics",
            Self::Pipedrive => "pipedrive",
            Self::Freshdesk => "freshdesk",
            Self::Intercom => "intercom",
            Self::Zoho => "zoho",
        }
    }

    /// The template, as a TOML document: a start for one of your own.
    #[must_use]
    pub fn as_toml(self) -> &'static str {
        match self {
            Self::HubSpot => include_str!("../../presets/hubspot.toml"),
            Self::Salesforce => include_str!("../../presets/salesforce.toml"),
            Self::Zendesk => include_str!("../../presets/zendesk.toml"),
            Self::Dynamics => include_str!("../../presets/dynamics.toml"),
            Self::Pipedrive => include_str!("../../presets/pipedrive.toml"),
            Self::Freshdesk => include_str!("../../presets/freshdesk.toml"),
            Self::Intercom => include_str!("../../presets/intercom.toml"),
            Self::Zoho => include_str!("../../presets/zoho.toml"),
        }
    }

    /// The template.
    ///
    /// # Errors
    /// None in practice: the tests read every preset.
    pub fn template(self) -> Result<CrmTemplate, TemplateError> {
        CrmTemplate::from_toml(self.as_toml())
    }
}

impl fmt::Display for CrmPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no [`CrmPreset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `hubspot`, `salesforce`, `zendesk`, `dynamics`, `pipedrive`, `freshdesk`, `intercom` or \
     `zoho`"
)]
pub struct UnknownPreset;

impl FromStr for CrmPreset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|it| it.as_str() == name).ok_or(UnknownPreset)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_preset_is_a_template_by_its_name() {
        for preset in CrmPreset::ALL {
            preset.template().unwrap_or_else(|error| panic!("{preset}: {error}"));
            assert_eq!(preset.as_str().parse(), Ok(preset));
        }
        assert_eq!("HubSpot".parse::<CrmPreset>(), Err(UnknownPreset));
    }

    #[test]
    fn a_field_can_change_where_the_request_names_it() {
        for preset in CrmPreset::ALL {
            let fixed = matches!(preset, CrmPreset::Zendesk | CrmPreset::Intercom);
            assert_eq!(
                preset.template().unwrap().external_id_field_can_change(),
                !fixed,
                "{preset}"
            );
        }
    }
}
