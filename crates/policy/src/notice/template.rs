//! Notice templates: which points and values they must have, and how values are filled in.

use super::POINTS;
use crate::LintError;

/// Values that a template may show.
const PLACEHOLDERS: [&str; 13] = [
    "tenant",
    "mode",
    "key_fingerprint",
    "holders",
    "threshold",
    "purpose",
    "legal_basis",
    "retention",
    "approval_minimum",
    "approval_roles",
    "contact",
    "pack",
    "pack_digest",
];

/// Values that a notice must show, each under its point.
const REQUIRED: [(&str, &str); 9] = [
    ("fingerprint", "key_fingerprint"),
    ("holders", "holders"),
    ("holders", "threshold"),
    ("purpose", "purpose"),
    ("legal-basis", "legal_basis"),
    ("retention", "retention"),
    ("access", "approval_minimum"),
    ("access", "approval_roles"),
    ("rights", "contact"),
];

/// Values that the notice of a private conversation may show: it has no key, so none about keys.
const PRIVATE: [&str; 5] = ["tenant", "mode", "contact", "pack", "pack_digest"];

/// Points whose value alone makes them; the others need words.
const MADE_BY_VALUE: [&str; 4] = ["fingerprint", "purpose", "legal-basis", "retention"];

/// Letters below which a point counts as not made.
const SHORTEST_POINT: usize = 20;

/// Checks that a notice makes every point, under it shows every required value, and asks for no unknown one.
pub(crate) fn check(language: &str, text: &str) -> Result<(), LintError> {
    check_placeholders(language, text, &PLACEHOLDERS)?;
    let sections = sections(text);
    let bad_point = |point: &str| LintError::NoticePoint {
        language: language.to_owned(),
        point: point.to_owned(),
    };
    if let Some((unknown, _)) = sections.iter().find(|(point, _)| !POINTS.contains(point)) {
        return Err(bad_point(unknown));
    }
    for point in POINTS {
        let mut found = sections.iter().filter(|(name, _)| *name == point);
        let (Some((_, body)), None) = (found.next(), found.next()) else {
            return Err(bad_point(point));
        };
        if letters(body) < SHORTEST_POINT && !MADE_BY_VALUE.contains(&point) {
            return Err(bad_point(point));
        }
        for (_, placeholder) in REQUIRED.iter().filter(|(of, _)| *of == point) {
            if !body.contains(&format!("{{{{{placeholder}}}}}")) {
                return Err(LintError::NoticeValue {
                    language: language.to_owned(),
                    point,
                    placeholder,
                });
            }
        }
    }
    Ok(())
}

/// Checks the notice of private conversations.
pub(crate) fn check_private(language: &str, text: &str) -> Result<(), LintError> {
    check_placeholders(language, text, &PRIVATE)?;
    for placeholder in ["mode", "contact"] {
        if !text.contains(&format!("{{{{{placeholder}}}}}")) {
            return Err(LintError::NoticeValue {
                language: language.to_owned(),
                point: "private",
                placeholder,
            });
        }
    }
    Ok(())
}

/// Fills the values in, in one pass: a value that looks like a placeholder stays as it is. The lines that mark points go.
pub(super) fn fill(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    for line in template.split_inclusive('\n') {
        if marker(line).is_some() {
            continue;
        }
        for piece in pieces(line) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Placeholder(name) => out.push_str(&value(name)),
                Piece::Unclosed(text) => out.push_str(text),
            }
        }
    }
    out
}

enum Piece<'a> {
    Text(&'a str),
    Placeholder(&'a str),
    Unclosed(&'a str),
}

fn pieces(mut rest: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let Some((before, after)) = rest.split_once("{{") {
        pieces.push(Piece::Text(before));
        let Some((name, after)) = after.split_once("}}") else {
            pieces.push(Piece::Unclosed(after));
            return pieces;
        };
        pieces.push(Piece::Placeholder(name));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    pieces
}

fn check_placeholders(language: &str, text: &str, allowed: &[&str]) -> Result<(), LintError> {
    for piece in text.lines().flat_map(pieces) {
        let bad = match piece {
            Piece::Text(_) => continue,
            Piece::Placeholder(name) if allowed.contains(&name) => continue,
            Piece::Placeholder(name) | Piece::Unclosed(name) => name,
        };
        return Err(LintError::NoticePlaceholder {
            language: language.to_owned(),
            placeholder: bad.to_owned(),
        });
    }
    Ok(())
}

/// The points with the text under each.
fn sections(text: &str) -> Vec<(&str, String)> {
    let mut sections: Vec<(&str, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        match (marker(line), sections.last_mut()) {
            (Some(point), _) => sections.push((point, String::new())),
            (None, Some((_, body))) => body.push_str(line),
            (None, None) => {}
        }
    }
    sections
}

fn marker(line: &str) -> Option<&str> {
    line.trim()
        .strip_prefix("<!-- point: ")?
        .strip_suffix(" -->")
}

/// Letters outside headings and placeholders.
fn letters(body: &str) -> usize {
    body.lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(pieces)
        .map(|piece| match piece {
            Piece::Text(text) => text.chars().filter(|c| c.is_alphabetic()).count(),
            Piece::Placeholder(_) | Piece::Unclosed(_) => 0,
        })
        .sum()
}
