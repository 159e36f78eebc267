//! The CRM of a source: which one it is, and how it is asked.

use std::{sync::Arc, time::Duration};

use cognigy_core::OnAmbiguous;
use cognigy_crm_http::{
    AuthKind, Batching, CrmPreset, CrmSetupError, CrmTemplate, NotFoundRule, RateLimit,
    TemplateCrm, TemplateCrmBuilder, TemplateError, TokenStore,
};

use super::{
    Hidden, SettingError, parse,
    per_source::View,
    table::{EXAMPLE_CRM, Setting},
};

/// The CRM.
#[derive(Debug, Clone)]
pub(crate) struct CrmSettings {
    /// None for the simple protocol.
    pub(crate) product: Option<Product>,
    pub(crate) base_url: String,
    pub(crate) token: Option<Hidden>,
    pub(crate) not_found: NotFoundRule,
    pub(crate) timeout: Duration,
    pub(crate) concurrency: usize,
    /// How long found contacts are remembered; zero: not at all.
    pub(crate) cache: Duration,
    pub(crate) on_ambiguous: OnAmbiguous,
    /// Whether attempts are held back while it is out of reach.
    pub(crate) breaker: bool,
}

/// A CRM that is asked by a template.
#[derive(Debug, Clone)]
pub(crate) struct Product {
    template: CrmTemplate,
    base_url: Option<String>,
    token: Option<Hidden>,
    auth: Option<AuthKind>,
    auth_header: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Hidden>,
    refresh_token: Option<Hidden>,
    token_url: Option<String>,
    scope: Option<String>,
    external_id_field: Option<String>,
    fields: Vec<String>,
    variables: Vec<(String, String)>,
    rate_limit: Option<RateLimit>,
    batch: Option<Duration>,
    timeout: Duration,
}

/// The simple protocol as a template: its own client knows bearer tokens only, and no rate limit.
fn simple(not_found: NotFoundRule, has_token: bool) -> Result<CrmTemplate, TemplateError> {
    let kind = if has_token { "bearer" } else { "none" };
    let mut absent = Vec::new();
    if not_found.status_404 {
        absent.push("{ status = [404] }");
    }
    if not_found.empty {
        absent.push(r#"{ status = [204] }, { status = [200], pointer = "", is = "empty" }"#);
    }
    CrmTemplate::from_toml(&format!(
        r#"
        name = "generic"
        external_id_field = "external_id"
        [auth]
        kind = "{kind}"
        [[look_up]]
        path = "/v1/contacts"
        query = {{ external_id = "{{external_id}}" }}
        found = {{ unverified = true }}
        absent = [{}]
        "#,
        absent.join(", ")
    ))
}

impl CrmSettings {
    pub(super) fn read(view: &View<'_>) -> Result<Self, SettingError> {
        let timeout = view.required("crm_timeout", parse::positive_duration)?;
        let not_found =
            view.required("crm_not_found", |text| text.parse().map_err(|e| format!("{e}")))?;
        let product = Product::read(view, timeout, not_found)?;
        let of_product = product.is_some() && view.value("crm_preset").0 != Some("generic");
        let token = match product {
            // Each kind of credential has rules of its own; the product has checked it.
            Some(_) => None,
            None => view.optional("crm_token", parse::bearer_token)?,
        };
        Ok(Self {
            product,
            base_url: view.required("crm_base_url", parse::http_url)?,
            token,
            not_found,
            timeout,
            concurrency: view.required("crm_concurrency", |t| parse::number(t, 1, 4096))?,
            cache: view.required("crm_cache", parse::duration)?,
            on_ambiguous: view.required("crm_ambiguous", parse::on_ambiguous)?,
            breaker: view.optional("crm_breaker", parse::switch)?.unwrap_or(of_product),
        })
    }
}

impl Product {
    fn read(
        view: &View<'_>,
        timeout: Duration,
        not_found: NotFoundRule,
    ) -> Result<Option<Self>, SettingError> {
        let hidden = |key| view.optional(key, |text| Ok(Hidden::new(text)));
        let text = |key| view.optional(key, |text| Ok(text.to_owned()));
        let auth: Option<AuthKind> = view.optional("crm_auth", parse::with_from_str)?;
        let rate_limit = view.optional("crm_rate_limit", parse::with_from_str)?;
        let template = match view.required("crm_preset", |text| Ok(text.to_owned()))?.as_str() {
            "generic" => match auth {
                None | Some(AuthKind::Bearer) if rate_limit.is_none() => return Ok(None),
                _ => simple(not_found, view.value("crm_token").0.is_some()),
            },
            "template" => Ok(view.crm_template().ok_or_else(|| {
                view.wrong("crm_preset", "template needs the table crm_template in the file")
            })?),
            name => match name.parse::<CrmPreset>() {
                Ok(preset) => preset.template(),
                Err(error) => {
                    let why = format!("{error}, or `generic` or `template`, got {name:?}");
                    return Err(view.wrong("crm_preset", &why));
                }
            },
        };
        let template = template.map_err(|error| view.wrong("crm_preset", &error.to_string()))?;
        let product = Self {
            template,
            base_url: view
                .optional("crm_base_url", parse::http_url)?
                .filter(|url| url != EXAMPLE_CRM),
            token: hidden("crm_token")?,
            auth,
            auth_header: view.optional("crm_auth_header", parse::header_name)?,
            client_id: text("crm_client_id")?,
            client_secret: hidden("crm_client_secret")?,
            refresh_token: hidden("crm_refresh_token")?,
            token_url: text("crm_token_url")?,
            scope: text("crm_scope")?,
            external_id_field: text("crm_external_id_field")?,
            fields: view.optional("crm_fields", parse::names)?.unwrap_or_default(),
            variables: view.optional("crm_variables", parse::pairs)?.unwrap_or_default(),
            rate_limit,
            batch: view.required("crm_batch", parse::duration_or_off)?,
            timeout,
        };
        product.builder(false).build().map_err(|error| complaint(view, &error))?;
        Ok(Some(product))
    }

    fn builder(&self, proxy_from_env: bool) -> TemplateCrmBuilder {
        let mut builder = TemplateCrm::builder(self.template.clone())
            .fields(self.fields.clone())
            .timeout(self.timeout);
        for (name, value) in &self.variables {
            builder = builder.variable(name, value);
        }
        macro_rules! set {
            ($($name:ident),+) => {$(
                if let Some(value) = &self.$name {
                    builder = builder.$name(value.as_str());
                }
            )+};
        }
        set!(base_url, token, auth_header, client_id, client_secret, refresh_token);
        set!(token_url, scope, external_id_field);
        if let Some(auth) = self.auth {
            builder = builder.auth(auth);
        }
        if let Some(limit) = self.rate_limit {
            builder = builder.rate_limit(limit);
        }
        if let Some(window) = self.batch {
            builder = builder.batching(Batching::new(window));
        }
        if proxy_from_env { builder.proxy_from_env() } else { builder }
    }

    /// The client. Its tokens are kept in `tokens`.
    pub(crate) fn client(
        &self,
        proxy_from_env: bool,
        tokens: Arc<dyn TokenStore>,
    ) -> Result<TemplateCrm, CrmSetupError> {
        self.builder(proxy_from_env).token_store(tokens).build()
    }
}

/// The error for the setting that it is about.
fn complaint(view: &View<'_>, error: &CrmSetupError) -> SettingError {
    const SETTINGS: [(&str, &str); 10] = [
        ("base URL", "crm_base_url"),
        ("token URL", "crm_token_url"),
        ("refresh token", "crm_refresh_token"),
        ("client id", "crm_client_id"),
        ("client secret", "crm_client_secret"),
        ("external id", "crm_external_id_field"),
        ("name of a field", "crm_fields"),
        ("variable", "crm_variables"),
        ("batching", "crm_batch"),
        ("CRM token", "crm_token"),
    ];
    let text = error.to_string();
    let key = SETTINGS.iter().find(|(words, _)| text.contains(words)).map(|(_, key)| *key);
    let key = key.filter(|key| Setting::by_key(key).is_some()).unwrap_or("crm_preset");
    match error {
        CrmSetupError::Missing(_) => view.missing(key),
        _ => view.wrong(key, &text),
    }
}
