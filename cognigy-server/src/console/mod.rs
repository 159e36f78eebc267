//! The console: the operator API for eyes, at `/console`.
//!
//! The server renders every page. The files of the pages are part of the program, and nothing is fetched
//! from another host. Whatever a page shows or changes goes through the functions of the operator API
//! (`crate::http`), so that roles, limits and the audit are the same. The script only writes times in the
//! viewer's zone and keeps pages up to date: without it every page works.
//!
//! A page that lists by a filter refuses a parameter that it does not know, as the operator API does. The
//! other pages ignore it. What is at no page is a page, too, that says so.
//!
//! [`session`] knows who looks; [`page`] has the frame and the headers; [`text`] shows what others wrote;
//! each other file is a page or a few.

mod assets;
mod audit;
mod body;
mod chart;
mod contact;
mod dead_letters;
mod discards;
mod download;
mod errors;
mod event;
mod events;
mod filters;
mod live;
mod overview;
mod page;
mod quarantine;
mod rehearsal;
mod replays;
mod session;
mod settings;
mod sign_in;
mod sources;
mod text;

use std::sync::Arc;

use actix_web::{Resource, web};

pub(crate) use assets::FOLDER;

use crate::settings::{Effective, Settings};

/// How long a form may be, in bytes: a token and a few fields.
const LONGEST_FORM: usize = 64 * 1024;

/// What the console's pages share.
pub(crate) struct Console {
    live: live::Live,
    settings: Arc<[Effective]>,
}

impl Console {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { live: live::Live::default(), settings: settings.effective.clone().into() }
    }
}

/// Adds the console's routes. `resource` makes one that answers other methods as the server does.
pub(crate) fn configure(
    config: &mut web::ServiceConfig,
    resource: fn(&str, &'static str) -> Resource,
) {
    let page = |path: &str| resource(path, "GET");
    let action = |path: &str| resource(path, "POST");
    config
        .service(page("/console").route(web::get().to(overview::show)))
        .service(
            resource("/console/sign-in", "GET, POST")
                .route(web::get().to(sign_in::form))
                .route(web::post().to(sign_in::sign_in)),
        )
        .service(action("/console/sign-out").route(web::post().to(sign_in::sign_out)))
        .service(page("/console/live").route(web::get().to(live::live)))
        .service(page(&format!("{FOLDER}{{name}}")).route(web::get().to(assets::asset)))
        .service(page("/console/events").route(web::get().to(events::show)))
        .service(page("/console/event").route(web::get().to(event::show)))
        .service(page("/console/event/body").route(web::get().to(download::of_event)))
        .service(action("/console/event/replay").route(web::post().to(event::replay)))
        .service(action("/console/event/rehearse").route(web::post().to(rehearsal::rehearse)))
        .service(action("/console/event/discard").route(web::post().to(event::discard)))
        .service(page("/console/contact").route(web::get().to(contact::show)))
        .service(action("/console/contact/erase").route(web::post().to(contact::erase)))
        .service(page("/console/errors").route(web::get().to(errors::show)))
        .service(page("/console/dead-letters").route(web::get().to(dead_letters::show)))
        .service(
            resource("/console/replays", "GET, POST")
                .route(web::get().to(replays::list))
                .route(web::post().to(replays::begin)),
        )
        .service(page("/console/replays/new").route(web::get().to(replays::preview)))
        .service(page("/console/replay").route(web::get().to(replays::show)))
        .service(action("/console/replay/cancel").route(web::post().to(replays::cancel)))
        .service(page("/console/discards/new").route(web::get().to(discards::preview)))
        .service(action("/console/discards").route(web::post().to(discards::discard)))
        .service(page("/console/quarantine").route(web::get().to(quarantine::list)))
        .service(page("/console/quarantined").route(web::get().to(quarantine::show)))
        .service(page("/console/quarantined/body").route(web::get().to(download::of_item)))
        .service(action("/console/quarantine/discard").route(web::post().to(quarantine::discard)))
        .service(action("/console/quarantine/retry").route(web::post().to(quarantine::retry)))
        .service(page("/console/sources").route(web::get().to(sources::show)))
        .service(action("/console/sources/pause").route(web::post().to(sources::pause)))
        .service(action("/console/sources/resume").route(web::post().to(sources::resume)))
        .service(page("/console/audit").route(web::get().to(audit::show)))
        .service(page("/console/settings").route(web::get().to(settings::show)))
        // The last one: all that no page above has.
        .service(web::resource("/console/{rest:.*}").to(page::unknown));
}
