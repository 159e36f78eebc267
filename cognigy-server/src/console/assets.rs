//! The console's files. They are part of the program, and their addresses hold the digests of their
//! contents, so that a browser keeps them for good and a new version is another address.

use std::sync::LazyLock;

use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    web,
};
use sha2::{Digest, Sha256};

use crate::http::ProblemResponse;

/// The folder of the files, as part of their addresses.
pub(crate) const FOLDER: &str = "/console/assets/";

/// A file.
pub(super) struct Asset {
    name: String,
    kind: &'static str,
    content: &'static str,
}

impl Asset {
    fn new(stem: &str, extension: &str, kind: &'static str, content: &'static str) -> Self {
        let digest = Sha256::digest(content.as_bytes());
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { name: format!("{stem}.{digest}.{extension}"), kind, content }
    }

    pub(super) fn address(&self) -> String {
        format!("{FOLDER}{}", self.name)
    }
}

pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("console", "css", "text/css; charset=utf-8", include_str!("assets/console.css"))
});

pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let kind = "text/javascript; charset=utf-8";
    Asset::new("console", "js", kind, include_str!("assets/console.js"))
});

pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")));

/// Anyone may have the files: the sign-in needs them, and they tell nothing.
pub(super) async fn asset(name: web::Path<String>) -> Result<HttpResponse, ProblemResponse> {
    let found = [&STYLE, &SCRIPT, &ICON].into_iter().find(|asset| asset.name == *name);
    let missing = || ProblemResponse::new(404, "Not Found", "There is nothing at this path");
    let asset = found.ok_or_else(missing)?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, asset.kind))
        .insert_header((CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(asset.content))
}
