//! Writes `config/hookline.example.toml` and `config/hookline.schema.json` anew, after a change of the keys.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    std::fs::write(folder.join("hookline.example.toml"), hookline_common::settings::example())?;
    let schema = serde_json::to_string_pretty(&hookline_common::settings::json_schema())?;
    std::fs::write(folder.join("hookline.schema.json"), schema + "\n")?;
    Ok(())
}
