//! The settings as they are in use, and where each comes from. Secrets are not shown. Of URLs, and of the
//! database's path, a reader sees only where they lead: the rest may name accounts, queues and customers.

use maud::{Markup, html};

use super::{
    page::{Place, Shown, page},
    session::Viewer,
    text::user,
};
use crate::{
    http::Shared,
    settings::{Effective, EffectiveValue, Role},
};

pub(super) async fn show(viewer: Viewer, service: Shared) -> Shown {
    let all = &service.console.settings;
    let (set, left): (Vec<_>, Vec<_>) = all.iter().partition(|it| is_set(it));
    let content = html! {
        p { "A flag comes before a variable, a variable before the settings file, and the file before the default. "
            "A change takes effect with the next start." }
        section aria-labelledby="set" {
            h2 #set { "Set here" }
            @if set.is_empty() {
                p.help { "Every setting has its default." }
            } @else {
                (table("Settings that are set", &set, viewer.operator.role()))
            }
        }
        section aria-labelledby="operators" {
            h2 #operators { "Operators" }
            table.cards {
                caption.spoken { "Operators and their roles" }
                thead { tr { th scope="col" { "Name" } th scope="col" { "Role" } th scope="col" { "May" } } }
                tbody { @for operator in service.tokens.operators() {
                    tr {
                        th scope="row" { (user(operator.name())) }
                        td data-label="Role" { (operator.role().as_str()) }
                        td data-label="May" { (may(operator.role())) }
                    }
                } }
            }
        }
        section aria-labelledby="defaults" {
            h2 #defaults { "Defaults" }
            (table("Settings with their defaults", &left, viewer.operator.role()))
        }
    };
    Ok(page(&viewer, Place::Settings, "Settings", content))
}

fn may(role: Role) -> &'static str {
    match role {
        Role::Reader => "read, without what people wrote",
        Role::ReaderOfBodies => "read everything",
        Role::Operator => "read and change everything",
    }
}

fn is_set(setting: &Effective) -> bool {
    setting.origin.starts_with("set by")
}

/// The value as an operator of that role sees it.
fn seen(value: &str, role: Role) -> String {
    if role.may_change() {
        return value.to_owned();
    }
    match value.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let left_out = if end < rest.len() { "/…" } else { "" };
            format!("{scheme}://{}{left_out}", &rest[..end])
        }
        None if value.starts_with("sqlite:") => "sqlite:…".to_owned(),
        None => value.to_owned(),
    }
}

fn table(caption: &str, settings: &[&Effective], role: Role) -> Markup {
    html! {
        table.cards.settings {
            caption.spoken { (caption) }
            thead {
                tr {
                    th scope="col" { "Setting" } th scope="col" { "Value" }
                    th scope="col" { "Comes from" }
                }
            }
            tbody { @for setting in settings {
                tr {
                    th scope="row" {
                        code { (setting.variable) }
                        @if let Some(source) = &setting.source {
                            span.help { "of " (user(source)) }
                        }
                        p.help { (setting.help) }
                    }
                    td.id data-label="Value" { @match &setting.value {
                        EffectiveValue::Shown(value) => { code { (user(&seen(value, role))) } }
                        EffectiveValue::Hidden => { span.help { "set, and not shown" } }
                        EffectiveValue::Unset => { (super::text::none()) }
                    } }
                    td data-label="Comes from" { (setting.origin) }
                }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Role, seen};

    #[test]
    fn a_reader_sees_where_a_url_leads_and_no_more() {
        for (value, shown) in [
            ("https://crm.example.com", "https://crm.example.com"),
            ("https://crm.example.com/tenants/acme", "https://crm.example.com/…"),
            ("http://hooks.example.com:8443?customer=7", "http://hooks.example.com:8443/…"),
            (
                "https://sqs.eu-west-1.amazonaws.com/123456789012/dead",
                "https://sqs.eu-west-1.amazonaws.com/…",
            ),
            ("postgres://db.example.com:5432/events", "postgres://db.example.com:5432/…"),
            ("sqlite:/srv/customers/acme.db", "sqlite:…"),
            ("100/10s", "100/10s"),
        ] {
            for role in [Role::Reader, Role::ReaderOfBodies] {
                assert_eq!(seen(value, role), shown);
            }
            assert_eq!(seen(value, Role::Operator), value);
        }
    }
}
