//! The part of Markdown that the documents use: fenced blocks, inline code, links and headings.

use std::fs;
use std::path::Path;

/// The project's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One document.
pub(crate) struct Page {
    /// Relative to [`root`].
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A line of a fenced block of shell, or inline code.
pub(crate) struct Snippet {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) fenced: bool,
}

/// Every document of the project.
pub(crate) fn pages() -> Vec<Page> {
    let mut folders = vec![".".to_owned(), "site".to_owned(), "docs".to_owned()];
    let mut pages = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if name.ends_with(".md") {
                pages.push(Page::read(&name));
            } else if folder.starts_with("docs") && entry.file_type().unwrap().is_dir() {
                folders.push(name);
            }
        }
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    pages
}

impl Page {
    pub(crate) fn read(path: &str) -> Self {
        Self { path: path.trim_start_matches("./").to_owned(), ..Self::at(&root().join(path)) }
    }

    pub(crate) fn at(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path: path.display().to_string(), text }
    }

    /// Lines with their number and the language of the fenced block around them. Fences are left out.
    fn lines(&self) -> Vec<(usize, Option<&str>, &str)> {
        let mut fence = None;
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(self.text.lines()) {
            match line.trim_start().strip_prefix("```") {
                Some(language) => fence = if fence.is_some() { None } else { Some(language.trim()) },
                None => lines.push((number, fence, line)),
            }
        }
        assert_eq!(fence, None, "{}: a fenced block is not closed", self.path);
        lines
    }

    /// What may be a command: lines of shell blocks, and inline code (which may wrap within its paragraph).
    pub(crate) fn snippets(&self) -> Vec<Snippet> {
        let mut snippets = Vec::new();
        let mut open: Option<(usize, String)> = None;
        for (line, fence, text) in self.lines() {
            match fence {
                Some("sh") => {
                    snippets.push(Snippet { line, text: uncommented(text).to_owned(), fenced: true });
                }
                Some(_) => {}
                None if text.trim().is_empty() => {
                    assert!(open.is_none(), "{}:{line}: code is not closed", self.path);
                }
                None => {
                    for (index, piece) in text.split('`').enumerate() {
                        if index > 0 {
                            open = match open.take() {
                                None => Some((line, String::new())),
                                Some((line, text)) => {
                                    let text = text.replace("\\|", "|");
                                    snippets.push(Snippet { line, text, fenced: false });
                                    None
                                }
                            };
                        }
                        if let Some((_, text)) = &mut open {
                            if index == 0 {
                                text.push(' ');
                            }
                            text.push_str(piece.trim_end_matches('\n'));
                        }
                    }
                }
            }
        }
        snippets
    }

    /// The texts of the fenced blocks in `language`, without common indentation.
    pub(crate) fn blocks(&self, language: &str) -> Vec<String> {
        let mut blocks: Vec<(usize, Vec<&str>)> = Vec::new();
        for (number, fence, line) in self.lines() {
            if fence != Some(language) {
                continue;
            }
            match blocks.last_mut() {
                Some((last, lines)) if *last + 1 == number => {
                    *last = number;
                    lines.push(line);
                }
                _ => blocks.push((number, vec![line])),
            }
        }
        let indent = |line: &&str| line.len() - line.trim_start().len();
        let dedent = |lines: Vec<&str>| {
            let common = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
            lines.iter().map(|line| format!("{}\n", line.get(common..).unwrap_or(""))).collect()
        };
        blocks.into_iter().map(|(_, lines)| dedent(lines)).collect()
    }

    /// Targets of links, each with its line.
    pub(crate) fn links(&self) -> Vec<(usize, String)> {
        let prose = self.lines().into_iter().filter(|(_, fence, _)| fence.is_none());
        let of_line = |(number, _, line): (usize, _, &str)| {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            targets.map(move |(target, _)| (number, target.to_owned())).collect::<Vec<_>>()
        };
        prose.flat_map(of_line).collect()
    }

    /// Headings as anchors, the way GitHub makes them.
    pub(crate) fn headings(&self) -> Vec<String> {
        let slug = |title: &str| {
            let kept = title.trim().to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        let prose =
            self.lines().into_iter().filter(|(_, fence, line)| fence.is_none() && line.starts_with('#'));
        prose.map(|(_, _, line)| slug(line.trim_start_matches('#'))).collect()
    }
}

/// A line of shell without its comment and prompt.
fn uncommented(line: &str) -> &str {
    let line = line.trim();
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let end = if line.starts_with('#') { Some(0) } else { line.find(" #") };
    end.map_or(line, |end| &line[..end]).trim_end()
}
