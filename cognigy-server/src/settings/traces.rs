//! Where traces go, and how many.

#[cfg(feature = "otlp")]
use super::parse;
use super::{Layers, SettingError};

/// The collector of traces.
#[derive(Debug, Clone)]
// A build without OTLP reads neither, and has none.
#[cfg_attr(not(feature = "otlp"), allow(dead_code))]
pub(crate) struct Collector {
    /// Below it is `/v1/traces`.
    pub(crate) url: String,
    /// The share of the traces that is recorded, from 0 to 1.
    pub(crate) share: f64,
}

/// None without a URL: there are no traces.
pub(super) fn read(layers: &Layers) -> Result<Option<Collector>, SettingError> {
    let url = layers.optional("otlp_url", url)?;
    let share = layers.required("trace_sample", share)?;
    Ok(url.map(|url| Collector { url, share }))
}

#[cfg(feature = "otlp")]
fn url(text: &str) -> Result<String, String> {
    parse::http_url(text)
}

#[cfg(not(feature = "otlp"))]
fn url(_: &str) -> Result<String, String> {
    Err("this build has no OTLP support".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0 to 1, such as 0.01".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_from_nothing_to_all() {
        assert_eq!((share("0"), share("0.01"), share("1")), (Ok(0.0), Ok(0.01), Ok(1.0)));
        for text in ["-0.1", "1.01", "NaN", "inf", "1%", ""] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
