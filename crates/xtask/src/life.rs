//! `services/README.md` tells the life of a message: every file and function that it names has to be there.

use anyhow::{Context as _, Result};

use crate::shell::root;

const TEXT: &str = "services/README.md";

/// Adds what the text names and the tree does not have.
pub(crate) fn check(findings: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string(root().join(TEXT))
        .with_context(|| format!("{TEXT} cannot be read"))?;
    let mut named = 0;
    for name in text.split('`').skip(1).step_by(2) {
        let (file, function) = match name.split_once("::") {
            Some((file, function)) => (file, Some(function)),
            None => (name, None),
        };
        if !file.contains('/') || !file.ends_with(".rs") {
            continue;
        }
        named += 1;
        match std::fs::read_to_string(root().join(file)) {
            Err(_) => findings.push(format!("{TEXT} names {file}, which is not there")),
            Ok(code) => {
                if let Some(function) = function
                    && !defines(&code, function)
                {
                    findings.push(format!(
                        "{TEXT} names {file}::{function}, which is not there"
                    ));
                }
            }
        }
    }
    if named < 10 {
        findings.push(format!("{TEXT} names only {named} places in the code"));
    }
    Ok(())
}

fn defines(code: &str, function: &str) -> bool {
    ["(", "<"]
        .iter()
        .any(|open| code.contains(&format!("fn {function}{open}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_by_its_whole_name() {
        assert!(defines("pub async fn seal(\n", "seal"));
        assert!(defines("fn seal<T>(x: T)", "seal"));
        assert!(!defines("fn seal_all(", "seal"));
    }
}
