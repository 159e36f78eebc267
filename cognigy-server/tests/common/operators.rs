//! Operators of each role.

use super::Site;

pub const ANNA: &str = "marked-token-of-anna";
pub const RITA: &str = "marked-token-of-rita";
pub const BILL: &str = "marked-token-of-bill";

/// A site with an operator `anna`, a reader `rita`, and a reader `bill` who sees bodies.
pub fn site() -> Site {
    let mut site = Site::new();
    for (name, token, role) in
        [("ANNA", ANNA, "operator"), ("RITA", RITA, "reader"), ("BILL", BILL, "reader,bodies")]
    {
        site.set(&format!("COGNIGY_OPERATOR_{name}_TOKEN"), token);
        site.set(&format!("COGNIGY_OPERATOR_{name}_ROLE"), role);
    }
    site
}
