//! The settings as they are in use, and where each comes from. Secrets are not shown.

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
                (table("Settings that are set", &set))
            }
        }
        section aria-labelledby="operators" {
            h2 #operators { "Operators" }
            table.cards {
                caption.spoken { "Operators and their roles" }
                thead { tr { th scope="col" { "Name" } th scope="col" { "Role" } th scope="col" { "May" } } }
                tbody { @for operator in service.tokens.operators() {
                    tr {
                        th scope="row" { (user(&operator.name)) }
                        td data-label="Role" { (operator.role.as_str()) }
                        td data-label="May" { (may(operator.role)) }
                    }
                } }
            }
        }
        section aria-labelledby="defaults" {
            h2 #defaults { "Defaults" }
            (table("Settings with their defaults", &left))
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

fn table(caption: &str, settings: &[&Effective]) -> Markup {
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
                        EffectiveValue::Shown(value) => { code { (user(value)) } }
                        EffectiveValue::Hidden => { span.help { "set, and not shown" } }
                        EffectiveValue::Unset => { (super::text::none()) }
                    } }
                    td data-label="Comes from" { (setting.origin) }
                }
            } }
        }
    }
}
