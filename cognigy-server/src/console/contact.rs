//! Everything that is stored about one person, in order, and its erasure.

use actix_web::HttpRequest;
use cognigy_core::Person;
use maud::{Markup, html};

use super::{
    event::named,
    events::status,
    page::{Place, Shown, Sorry, change, may_change, page},
    session::{Act, Fields, Viewer},
    text::{Seen, count, link, user, when},
};
use crate::{
    http::{ProblemResponse, Shared},
    view::{Contact, ErasureLine},
};

fn key_of(request: &HttpRequest) -> Result<String, Sorry> {
    let query = Fields::read(request.query_string().as_bytes());
    let key = query.map(|query| query.get("key").to_owned()).filter(|key| !key.is_empty());
    key.ok_or_else(|| ProblemResponse::bad_request("The address names no contact").into())
}

pub(super) async fn show(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    let contact = service.app.api.contact(&viewer.operator, key_of(&request)?).await?;
    let is_known = !contact.events.is_empty() || !contact.quarantine.is_empty();
    let content = html! {
        p.lead { span.mono { (user(&contact.key)) } }
        @if is_known {
            p { (count(contact.events.len() as u64, "event", "events"))
                @if !contact.conversations.is_empty() {
                    " in "
                    (count(contact.conversations.len() as u64, "conversation", "conversations"))
                }
                ", "
                (count(contact.dead_letters.len() as u64, "dead letter", "dead letters")) ", "
                (count(contact.quarantine.len() as u64, "body", "bodies")) " in quarantine."
                @if contact.more { " There are older events, which are not shown." } }
            (conversations(&contact))
            (history(&contact))
        } @else {
            div.empty {
                p { strong { "Nothing is stored about this contact." } }
                p {
                    "Ids are compared exactly. " a href="/console/events" { "Search the events" }
                    " for a part of it."
                }
            }
        }
        @if may_change(&viewer) { (erasure(&viewer, &contact.key)) }
    };
    Ok(page(&viewer, Place::Events, "Contact", content))
}

fn conversations(contact: &Contact) -> Markup {
    if contact.conversations.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="conversations" {
            h2 #conversations { "Conversations" }
            table.cards {
                caption.spoken { "Conversations of this contact" }
                thead {
                    tr {
                        th scope="col" { "Conversation" } th.number scope="col" { "Events" }
                        th scope="col" { "First" } th scope="col" { "Last" }
                    }
                }
                tbody {
                    @for it in &contact.conversations {
                        tr {
                            th.id scope="row" {
                                a href=(link("/console/events", &[("conversation", &it.conversation)])) {
                                    (user(&it.conversation))
                                }
                            }
                            td.number data-label="Events" { (it.events) }
                            td data-label="First" { (when(&it.first)) }
                            td data-label="Last" { (when(&it.last)) }
                        }
                    }
                }
            }
        }
    }
}

/// Events, replays, dead letters and quarantined bodies in one order of time.
fn history(contact: &Contact) -> Markup {
    let source_of = |id: &str| {
        let event = contact.events.iter().find(|event| event.event_id == id);
        event.and_then(|event| event.source.as_deref())
    };
    let mut steps: Vec<(&str, Markup)> = Vec::new();
    for event in &contact.events {
        steps.push((
            &event.received_at,
            html! {
                strong { (user(event.kind.as_str())) } " "
                (named(event.source.as_deref(), &event.event_id)) " " (status(event.status))
            },
        ));
    }
    for replay in &contact.replays {
        steps.push((
            &replay.at,
            html! {
                strong { (match replay.outcome {
                    "recorrelated" => "Recorrelation",
                    "imported" => "Import",
                    _ => "Replay",
                }) }
                ", run " (replay.run) " of "
                (named(source_of(&replay.event_id), &replay.event_id)) " " (status(replay.outcome))
            },
        ));
    }
    for dead in &contact.dead_letters {
        steps.push((
            dead.at.as_deref().unwrap_or_default(),
            html! {
                strong { "Given up" } " " (named(source_of(&dead.event_id), &dead.event_id)) " "
                (status(dead.status))
                @if let Some(error) = &dead.error { p.error { (user(error)) } }
            },
        ));
    }
    for item in &contact.quarantine {
        let id = item.id.to_string();
        steps.push((
            &item.received_at,
            html! {
                strong { "Quarantined" } " "
                a href=(link("/console/quarantined", &[("id", &id)])) { "body " (id) } " "
                (status(item.reason))
                p.error { (user(&item.detail)) }
            },
        ));
    }
    steps.sort_by(|one, other| one.0.cmp(other.0));
    html! {
        section aria-labelledby="history" {
            h2 #history { "History" }
            ol.timeline { @for (at, what) in steps { li { (when(at)) div { (what) } } } }
        }
    }
}

fn erasure(viewer: &Viewer, key: &str) -> Markup {
    html! {
        section aria-labelledby="erase" {
            h2 #erase { "Erase this person" }
            p { "Bodies, contacts and errors that quote them go, on the disk too. Ids and digests stay, so that "
                "repetitions are still recognised. This cannot be undone." }
            details.danger {
                summary { "Erase …" }
                (change(viewer, &link("/console/contact/erase", &[("key", key)]), html! {
                    fieldset {
                        legend { "What kind of id is " (user(key)) "?" }
                        label {
                            input type="radio" name="kind" value="external_id" required;
                            " An external id"
                        }
                        label { input type="radio" name="kind" value="user_id"; " A user id" }
                    }
                    label {
                        input type="checkbox" name="confirmed" value="yes" required;
                        " Erase everything about this person, for good"
                    }
                    button.danger { "Erase" }
                }))
            }
        }
    }
}

pub(super) async fn erase(request: HttpRequest, act: Act, service: Shared) -> Shown {
    let key = key_of(&request)?;
    let refused = |detail: &str| {
        let problem = Sorry::from(ProblemResponse::bad_request(detail));
        Err(problem.back_to(super::events::of_contact(&key)))
    };
    if act.fields.get("confirmed") != "yes" {
        return refused("The erasure was not confirmed, so nothing was erased");
    }
    let person = match act.fields.get("kind") {
        "external_id" => Person::ExternalId(key.clone()),
        "user_id" => Person::UserId(key.clone()),
        _ => return refused("The kind of the id was not chosen, so nothing was erased"),
    };
    let receipt = service.app.api.erase(&act.viewer.operator, &person).await?;
    let viewer = &act.viewer;
    Ok(page(viewer, Place::Events, "Erased", receipt_of(&receipt)))
}

fn receipt_of(receipt: &ErasureLine) -> Markup {
    html! {
        div.note.good role="status" {
            p { "Erased: " (count(receipt.events, "event", "events")) ", "
                (count(receipt.quarantined, "body in quarantine", "bodies in quarantine")) ", "
                (count(receipt.dead_letters, "dead letter", "dead letters")) "." }
        }
        p {
            "The number of this receipt is " strong { (receipt.id) } ". It stands in the "
            a href="/console/audit" { "audit" } "."
        }
        @if !receipt.sent_dead_letters.is_empty() {
            h2 { "Messages that are in the queue" }
            p {
                "The dead letters of these events were sent to the queue. Delete their messages there, too:"
            }
            ul { @for id in &receipt.sent_dead_letters { li.mono { bdi { (Seen(id)) } } } }
        }
    }
}
