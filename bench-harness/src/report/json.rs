//! JSON for machines: every raw value is kept.

use serde::Serialize;

use crate::error::{During, Result};

/// The value as indented JSON with a line end.
///
/// # Errors
/// Never for the types of this crate; the library's own check is passed on.
pub fn text(value: &impl Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value).during("write JSON")?;
    text.push('\n');
    Ok(text)
}
