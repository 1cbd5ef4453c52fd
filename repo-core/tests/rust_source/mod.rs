//! Just enough of a reader of Rust for the architecture test: the paths a file uses and the macros it calls.

use std::ops::Range;

/// Something a source file uses outside its unit tests.
#[derive(Debug)]
pub(crate) enum Use {
    /// A path of this crate, from its root; the last part is `*` for a glob import.
    Crate { line: usize, path: Vec<String> },
    /// A path of the standard library, `std` included.
    Std { line: usize, path: Vec<String> },
    /// A macro that is called.
    Macro { line: usize, name: String },
}

/// All uses in `text`, the source of `module`. Modules under `#[cfg(test)]` are left out.
pub(crate) fn uses(text: &str, module: &[String]) -> Vec<Use> {
    let mut tokens = tokens(text);
    for range in test_modules(&tokens).into_iter().rev() {
        tokens.drain(range);
    }
    let mut uses = Vec::new();
    let mut inline: Vec<(usize, String)> = Vec::new();
    let mut depth = 0_usize;
    let mut position = 0;
    while let Some(token) = tokens.get(position) {
        let next = |ahead: usize| tokens.get(position + ahead).map_or("", |token| token.text.as_str());
        let line = token.line;
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inline.retain(|(opened, _)| *opened < depth + 1);
            }
            "mod" if next(2) == "{" => inline.push((depth + 1, next(1).to_owned())),
            root @ ("crate" | "std" | "super") if next(1) == "::" && !follows_path(&tokens, position) => {
                let mut paths = Vec::new();
                let end = path_tree(&tokens, position, &mut Vec::new(), &mut paths);
                for path in paths {
                    match root {
                        "std" => uses.push(Use::Std { line, path }),
                        "crate" => uses.push(Use::Crate { line, path: path[1..].to_vec() }),
                        _ => uses.push(Use::Crate { line, path: resolve(module, &inline, path) }),
                    }
                }
                position = end;
                continue;
            }
            name if next(1) == "!" && next(2) != "=" && is_word(name) => {
                uses.push(Use::Macro { line, name: name.to_owned() });
            }
            _ => {}
        }
        position += 1;
    }
    uses
}

/// Lines of `text` outside modules under `#[cfg(test)]`.
pub(crate) fn code_lines(text: &str) -> usize {
    let tokens = tokens(text);
    let tests = test_modules(&tokens).into_iter().filter_map(|range| {
        let module = tokens.get(range)?;
        Some(module.last()?.line - module.first()?.line + 1)
    });
    text.lines().count() - tests.sum::<usize>()
}

#[derive(Debug, Clone)]
struct Token {
    line: usize,
    text: String,
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Whether the token continues a path (`a::std`), so that it is no root.
fn follows_path(tokens: &[Token], position: usize) -> bool {
    position > 0 && tokens[position - 1].text == "::" && position > 1 && is_word(&tokens[position - 2].text)
}

/// Reads a path or a tree of paths in braces from `position`; gives all paths and the position behind them.
fn path_tree(tokens: &[Token], mut position: usize, prefix: &mut Vec<String>, paths: &mut Vec<Vec<String>>) -> usize {
    let length = prefix.len();
    loop {
        match tokens.get(position).map(|token| token.text.as_str()) {
            Some("{") => {
                position += 1;
                while !matches!(tokens.get(position).map(|token| token.text.as_str()), Some("}") | None) {
                    if tokens[position].text == "," {
                        position += 1;
                    } else {
                        position = path_tree(tokens, position, prefix, paths);
                    }
                }
                prefix.truncate(length);
                return position + 1;
            }
            Some(part) if part == "*" || is_word(part) => {
                if part != "self" {
                    prefix.push(part.to_owned());
                }
                position += 1;
            }
            _ => break,
        }
        if tokens.get(position).is_some_and(|token| token.text == "::") {
            position += 1;
        } else {
            if tokens.get(position).is_some_and(|token| token.text == "as") {
                position += 2;
            }
            break;
        }
    }
    paths.push(prefix.clone());
    prefix.truncate(length);
    position
}

/// The path from the crate's root for one that begins with `super`.
fn resolve(module: &[String], inline: &[(usize, String)], path: Vec<String>) -> Vec<String> {
    let mut whole: Vec<String> = module.iter().cloned().chain(inline.iter().map(|(_, name)| name.clone())).collect();
    for part in path {
        if part == "super" {
            whole.pop();
        } else {
            whole.push(part);
        }
    }
    whole
}

/// Where `#[cfg(test)] mod name { … }` begin and end among the tokens.
fn test_modules(tokens: &[Token]) -> Vec<Range<usize>> {
    const MARK: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let mut modules = Vec::new();
    let mut position = 0;
    while position < tokens.len() {
        let start = position;
        position += 1;
        if !MARK.iter().enumerate().all(|(i, text)| tokens.get(start + i).is_some_and(|token| token.text == *text)) {
            continue;
        }
        let mut depth = 0_usize;
        for token in &tokens[position..] {
            position += 1;
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(token.text.as_str(), "}" | ";") {
                break;
            }
        }
        modules.push(start..position);
    }
    modules
}

/// Words, `::`, and single characters; comments, and the contents of strings and characters, are left out.
fn tokens(text: &str) -> Vec<Token> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut position, mut line) = (0, 1);
    while position < characters.len() {
        let rest = &characters[position..];
        let (length, token) = match rest {
            ['/', '/', ..] => (rest.iter().take_while(|c| **c != '\n').count(), None),
            ['/', '*', ..] => (block_comment(rest), None),
            ['"', ..] => (string(rest), None),
            ['b' | 'c', '"', ..] => (1 + string(&rest[1..]), None),
            ['r', '"' | '#', ..] if raw_string(rest).is_some() => (raw_string(rest).unwrap_or(1), None),
            ['b' | 'c', 'r', '"' | '#', ..] if raw_string(&rest[1..]).is_some() => {
                (1 + raw_string(&rest[1..]).unwrap_or(1), None)
            }
            ['\'', '\\', ..] => (3 + rest.iter().skip(3).take_while(|c| **c != '\'').count() + 1, None),
            ['\'', _, '\'', ..] => (3, None),
            [':', ':', ..] => (2, Some("::".to_owned())),
            [first, ..] if first.is_alphanumeric() || *first == '_' => {
                let word: String = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
                (word.chars().count(), Some(word))
            }
            [first, ..] if first.is_whitespace() => (1, None),
            [first, ..] => (1, Some(first.to_string())),
            [] => break,
        };
        if let Some(text) = token {
            tokens.push(Token { line, text });
        }
        line += rest.iter().take(length).filter(|c| **c == '\n').count();
        position += length;
    }
    tokens
}

fn block_comment(text: &[char]) -> usize {
    let (mut depth, mut position) = (0, 0);
    while position < text.len() {
        match text[position..] {
            ['/', '*', ..] => {
                depth += 1;
                position += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                position += 2;
                if depth == 0 {
                    break;
                }
            }
            _ => position += 1,
        }
    }
    position
}

fn string(text: &[char]) -> usize {
    let mut position = 1;
    while position < text.len() && text[position] != '"' {
        position += if text[position] == '\\' { 2 } else { 1 };
    }
    position + 1
}

/// Length of the raw string that begins with the `r`, if one does.
fn raw_string(text: &[char]) -> Option<usize> {
    let hashes = text.iter().skip(1).take_while(|c| **c == '#').count();
    (text.get(1 + hashes) == Some(&'"')).then_some(())?;
    let mut position = 2 + hashes;
    while position < text.len() {
        if text[position] == '"' && text[position + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return Some(position + 1 + hashes);
        }
        position += 1;
    }
    Some(text.len())
}
